"""The work on recordings: it ends with whoever wants it, and live sessions go first."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx
import pytest

from npu.scripted import ScriptedTranscriber
from streaming.window import Hypothesis, Window

Test = Callable[[httpx.AsyncClient, Any], Coroutine[Any, Any, None]]


SCRIPT = [(0.4 * i, 0.4 * i + 0.3, f"word{i}") for i in range(1_500)]


class Held(ScriptedTranscriber):
    """Decodes recordings only while the gate is open."""

    def __init__(self) -> None:
        super().__init__(SCRIPT)
        self.gate = threading.Event()
        self.batches = 0
        self.niceness = 0

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        self.batches += 1
        if hasattr(os, "getpriority"):
            self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        assert self.gate.wait(20)
        return super().transcribe_all(windows)


def _error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


def test_a_client_that_leaves(visit, speech, eventually, caplog) -> None:
    """Its work ends, the one that waits behind it is served, and one that left while it waited is never begun."""
    held = Held()

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        async def leave() -> None:
            async with httpx.AsyncClient(base_url=d.url) as other:
                await other.post("/transcribe", files=speech, timeout=0.5)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_times_out(leave()))
            await eventually(lambda: held.batches == 1)
            tasks.create_task(_times_out(leave()))
        held.gate.set()
        begun = time.monotonic()
        assert (await client.post("/transcribe", files=speech)).status_code == 200
        assert time.monotonic() - begun < 5 and held.batches == 2

    visit(test, held)
    gc.collect()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/transcribe", {}),
        ("/v1/jobs", {}),
        ("/v1/audio/transcriptions", {"stream": "true"}),
        ("/v1/audio/translations", {}),
    ],
)
def test_a_client_that_leaves_while_its_model_is_loaded(
    visit, speech, eventually, path: str, fields: dict[str, str]
) -> None:
    """Frees its place at once, for whoever wants a model that is there; the other is loaded and is nobody's."""
    door = threading.Event()

    def load() -> Any:
        assert door.wait(20)
        other = ScriptedTranscriber([])
        other.name = "other"
        return other

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        data, models = {"model": "other", **fields}, d.service.models
        with pytest.raises(httpx.TimeoutException):
            await client.post(path, files=speech, data=data, timeout=0.3)
        await eventually(lambda: not any(entry.users for entry in models._entries.values()))
        assert (await client.post("/transcribe", files=speech)).status_code == 200
        door.set()
        await eventually(lambda: len(models.resident) == 2)
        assert not any(entry.users for entry in models._entries.values())

    visit(test, others={"other": load}, uploads={"waiting": 0})


async def _times_out(work: Coroutine[Any, Any, None]) -> None:
    with pytest.raises(httpx.TimeoutException):
        await work


def test_live_sessions_go_first(visit, speech, eventually, monkeypatch) -> None:
    """While one waits for a worker no batch is begun; after a while one is all the same."""
    held = Held()
    held.gate.set()
    monkeypatch.setattr("daemon.work.PATIENCE_S", 1.0)
    monkeypatch.setattr("daemon.scheduler.Scheduler.pressed", property(lambda _: pressed))
    pressed = True

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        nonlocal pressed
        async with asyncio.TaskGroup() as tasks:
            answer = tasks.create_task(client.post("/transcribe", files=speech))
            await asyncio.sleep(0.5)
            assert held.batches == 0
            pressed = False
            await eventually(lambda: held.batches == 1)
        assert answer.result().status_code == 200

    visit(test, held)


def test_a_shutdown(daemon, speech, eventually) -> None:
    """The client is told to come back."""
    held = Held()

    async def main() -> None:
        async with httpx.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as tasks:
            async with daemon(held) as d:
                answer = tasks.create_task(client.post(f"{d.url}/transcribe", files=speech))
                await eventually(lambda: held.batches == 1)
                asyncio.get_running_loop().call_later(0.3, held.gate.set)
            assert _error(await answer, 503)["code"] == "restarting"

    asyncio.run(main())
