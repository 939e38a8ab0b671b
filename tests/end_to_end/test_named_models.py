"""Sessions and requests that name their model, with a real Whisper beside the default one."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from daemon.models import Models
from npu.scripted import ScriptedTranscriber
from streaming.recorded import decode_recording

RAW = {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1}

Sayings = Callable[[str], tuple[Path, dict[str, Any]]]


class Other(ScriptedTranscriber):
    """A second scripted model."""

    name = "other"
    languages = ("de", "fr")

    def __init__(self, delay_s: float = 0.0) -> None:
        super().__init__([(0.4 * i, 0.4 * i + 0.3, f"wort{i}") for i in range(1_500)], delay_s)


def _pcm(path: Path) -> bytes:
    with path.open("rb") as file:
        samples = np.concatenate(list(decode_recording(file, 1.0)))
    return (samples * 32_767).astype("<i2").tobytes()


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter == " ")


async def _transcribed(p: Any, data: bytes, **start: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """`started`, and all finals."""
    started = await p.start(**start)
    assert started["type"] == "started", started
    await p.send(data)
    await p.say(type="stop")
    await p.until("stopped", 60)
    return started, p.of("final")


def test_live_whisper(daemon, producer, sayings: Sayings, small_talk) -> None:
    """Two languages, each found out; a translation; all beside the default model, which is left alone."""

    async def main() -> None:
        async with daemon(others={"whisper-small-talk": small_talk}) as d:
            for name in ("english-1", "spanish-1"):
                path, said = sayings(name)
                async with producer(d.url) as p:
                    started, finals = await _transcribed(
                        p, _pcm(path), model="whisper-small-talk", words=True
                    )
                assert started["model"] == "whisper-small-talk" and "onnxruntime" in started["device"]
                assert _plain(" ".join(final["text"] for final in finals)) == _plain(said["text"])
                assert {final["language"] for final in finals} == {said["language"]}
                assert all(final["words"] for final in finals)
            path, said = sayings("spanish-1")
            async with producer(d.url) as p:
                how = {"model": "whisper-small-talk", "language": "Spanish", "task": "translate"}
                _, finals = await _transcribed(p, _pcm(path), **how)
            assert _plain(finals[0]["text"]) == _plain(said["sentences"][0]["english"])
            async with producer(d.url) as p:
                started, _ = await _transcribed(p, _pcm(path))
            assert started["model"] == "scripted"

    asyncio.run(main())


def test_what_a_session_reaches(daemon, producer, pcm) -> None:
    """Its words and its language come to the model with every window."""
    manners = []

    class Attentive(Other):
        def transcribe(self, window: Any) -> Any:
            manners.append(window.manner)
            return super().transcribe(window)

    async def main() -> None:
        async with daemon(others={"other": Attentive()}) as d, producer(d.url) as p:
            await _transcribed(
                p, pcm(seconds=4), model="other", language="German", vocabulary=["Ada", "Lovelace"]
            )

    asyncio.run(main())
    heard = manners[-1]
    assert heard.language == "de" and heard.vocabulary == ("Ada", "Lovelace") and heard.task == "transcribe"


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"model": "enormous"}, "scripted, other"),
        ({"model": "other", "language": "English"}, "de, fr"),
        ({"model": "other", "task": "translate"}, "transcribes only"),
        ({"language": "Klingon"}, "English only"),
        ({"vocabulary": ["x"] * 1_001}, "vocabulary"),
        ({"vocabulary": ["x" * 101]}, "vocabulary"),
    ],
)
def test_what_cannot_be_had(daemon, producer, start: dict[str, Any], message: str) -> None:
    """Is refused with what can; the model that was loaded for it is not held."""

    async def main() -> None:
        async with daemon(others={"other": Other()}) as d, producer(d.url) as p:
            error = await p.start(**start)
            assert error["type"] == "error" and error["code"] == "bad_message", error
            assert message in error["message"] and await p.closed() == 4400
            models: Models = d.service.models
            assert not any(entry.users for entry in models._entries.values())

    asyncio.run(main())


def test_loading_holds_up_nobody(daemon, producer, pcm) -> None:
    """While a model is loaded, the finals of a live session come as always; then its own session begins."""
    door = threading.Event()

    def slow() -> Other:
        assert door.wait(20)
        return Other()

    async def main() -> None:
        async with daemon(others={"other": slow}) as d, producer(d.url) as waiting, producer(d.url) as live:
            async with asyncio.TaskGroup() as tasks:
                begun = tasks.create_task(waiting.start(model="other"))
                await live.start()
                await live.send(pcm(seconds=6))
                await live.say(type="stop")
                at = time.monotonic()
                await live.until("stopped", 10)
                assert time.monotonic() - at < 5 and live.of("final") and not begun.done()
                async with httpx.AsyncClient() as client:
                    assert (await client.get(f"{d.url}/ready")).status_code == 200
                door.set()
            assert begun.result()["model"] == "other"
            await waiting.send(pcm(seconds=4))
            await waiting.say(type="stop")
            await waiting.until("stopped")
            assert "wort" in waiting.of("final")[0]["text"]

    asyncio.run(main())


def test_a_producer_that_leaves_while_its_model_is_loaded(daemon, producer, eventually) -> None:
    """Takes no place, keeps no model, leaves no session behind, and may come back under the same name."""
    door = threading.Event()

    def slow() -> Other:
        assert door.wait(20)
        return Other()

    async def main() -> None:
        async with daemon(others={"other": slow}) as d:
            models = d.service.models
            async with producer(d.url) as p:
                await p.say(type="start", audio=RAW, session="hasty", model="other")
                await eventually(lambda: any(entry.users for entry in models._entries.values()))
            door.set()
            await eventually(lambda: "other" in [each.name for each in models.resident])
            await eventually(lambda: not any(entry.users for entry in models._entries.values()))

            async def discarded() -> bool:
                return not d.service.drivers and not await d.service.journal.sessions()

            await eventually(discarded)
            async with producer(d.url) as p:
                assert (await p.start(session="hasty", model="other"))["type"] == "started"

    asyncio.run(main())


def test_a_model_whose_session_is_over(daemon, producer, pcm, eventually) -> None:
    """Leaves memory once it was idle: no thread, task or session that is over still refers to it."""
    loaded: list[weakref.ref[Other]] = []

    def load() -> Other:
        found = Other()
        loaded.append(weakref.ref(found))
        return found

    async def main() -> None:
        async with daemon(others={"other": load}, model={"idle_unload_s": 0.5}) as d:
            async with producer(d.url) as p:
                await p.start(model="other")
                await asyncio.sleep(1.2)  # the clock has seen it
                await p.send(pcm(seconds=4))
                await p.say(type="stop")
                await p.until("stopped")
            await eventually(lambda: loaded[0]() is None)
            assert [each.name for each in d.service.models.resident] == ["scripted"]

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_a_slow_model(daemon, producer, pcm) -> None:
    """Takes its share of the capacity, which /status shows, and whoever does not fit beside it is refused."""

    async def main() -> None:
        slow = Other(delay_s=0.1)
        async with (
            daemon(others={"other": slow}, engine={"capacity": 3}) as d,
            producer(d.url) as first,
            producer(d.url) as second,
            producer(d.url) as third,
        ):
            assert (await first.start())["type"] == "started"
            error = await second.start(model="other")
            assert error["code"] == "overloaded"
            assert (await third.start())["type"] == "started"
            async with httpx.AsyncClient() as client:
                status = (await client.get(f"{d.url}/status")).json()
            assert {each["name"] for each in status["models"]} >= {"scripted", "other"}
            assert status["engine"]["taken"] == 2 and status["capacity"] == {"sessions": 3, "free": 1}

    asyncio.run(main())


def test_a_session_that_goes_on_after_a_restart(daemon, producer, pcm) -> None:
    """Gets its model again, out of the journal; where that is gone it is said, and nothing of it is lost."""
    data = pcm(seconds=12)

    async def main() -> None:
        async with daemon(others={"other": Other()}) as d, producer(d.url) as p:
            started = await p.start(session="long", model="other", language="fr")
            await p.send(data[:256_000])
            await p.until("final")
        resume = {"token": started["resume_token"], "last_seq": 0}
        async with daemon() as d, producer(d.url) as p:
            error = await p.start(session="long", resume=resume)
            assert error["code"] == "bad_message" and "'other'" in error["message"]
        async with daemon(others={"other": Other()}) as d, producer(d.url) as p:
            again = await p.start(session="long", resume=resume)
            assert again["type"] == "started" and again["model"] == "other"
            await p.send(data[2 * again["next_sample"] :])
            await p.say(type="stop")
            await p.until("stopped")
            finals = p.of("final")
            assert all("wort" in final["text"] for final in finals) and len(finals) >= 2
            assert not any(
                entry.users for entry in d.service.models._entries.values() if not d.service.drivers
            )

    asyncio.run(main())
