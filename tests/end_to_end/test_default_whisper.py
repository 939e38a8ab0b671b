"""A daemon process whose only model is a folder with a Whisper checkpoint, on either context of live speech."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest

from streaming.containers import decode_container


@pytest.mark.parametrize("live_context", ["full", "window"])
def test_live_captions(
    live_context: str, daemon_process: Any, producer: Any, sayings: Any, small_talk_folder: Path
) -> None:
    """It is measured, captions grow while speech goes on, what was committed stays, and the text is right."""
    model = {"name": str(small_talk_folder), "live_context": live_context}
    daemon = daemon_process(scripted=False, model=model, engine={"capacity": 0})
    measured = re.search(r"(\d+) workers, (\d+) sessions at once", "\n".join(daemon.lines))
    assert measured and int(measured[1]) >= 1 and int(measured[2]) >= 1
    path, said = sayings("english-pair")
    with path.open("rb") as file:
        samples = np.concatenate(list(decode_container(file)))
    audio = (samples * 32_767).astype("<i2").tobytes()

    async def talk() -> list[dict[str, Any]]:
        async with producer(daemon.url) as p:
            started = await p.start()
            assert started["model"] == small_talk_folder.name and started["device"].startswith("cpu")
            await p.send(audio, pause_s=0.06)  # of 0.1 s each
            await p.say(type="stop")
            await p.until("stopped", 30)
            return p.events

    events = asyncio.run(talk())
    finals = [event for event in events if event["type"] == "final"]
    assert [final["language"] for final in finals] == ["en"] * len(finals)
    assert jiwer.wer(said["text"], " ".join(final["text"] for final in finals)) <= 0.1
    shown: dict[int, str] = {}
    for event in events:
        if event["type"] in ("partial", "final"):
            assert event["text"].startswith(shown.get(event["utterance"], ""))
            shown[event["utterance"]] = event["text"]
    assert any(event["type"] == "partial" and event["text"] + event["tentative"] for event in events)
    ledger = events[-1]["ledger"]
    assert sum(ledger.values()) == pytest.approx(events[-1]["audio_end"]) and ledger["gap_s"] == 0
    assert daemon.terminate() == 0
