"""An event stream, to the turn of the event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from daemon.hub import Hub
from daemon.journal import SessionRecord, opened
from daemon.viewers import _EventStream
from streaming.events import Partial


@pytest.mark.parametrize("turns", range(8))
def test_leaving_as_an_event_comes(tmp_path: Path, turns: int) -> None:
    """Ends the stream, however many turns of the event loop lie between the two."""

    async def main() -> None:
        async with opened(tmp_path / "j.db") as journal:
            await journal.create(SessionRecord("talk", "Title", 1.0, "m", "en", "", 16_000, "{}"))
            hub, left = Hub(journal, 16), asyncio.Event()
            sent: list[Any] = []

            async def receive() -> dict[str, Any]:
                await left.wait()
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                sent.append(message)

            viewer = hub.subscribe("talk", 0)
            await viewer.enter()
            stream = asyncio.create_task(_EventStream(viewer, lambda _error: None)({}, receive, send))
            async with asyncio.timeout(2):
                while len(sent) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.02)
                hub.publish("talk", Partial(utterance=1, start=0, end=1, text="", tentative="so"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                left.set()
                await stream
            assert hub.viewers == 0

    asyncio.run(main())
