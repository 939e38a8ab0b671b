"""A producer at /v1/stream, from `start` to `stopped`, on a real daemon with a scripted model."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import av
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npu.scripted import ScriptedTranscriber


def _text(events: list[dict[str, Any]]) -> list[str]:
    return [event["text"] for event in events if event["type"] == "final"]


def _check_promises(events: list[dict[str, Any]]) -> None:
    """PROTOCOL's promises 1 to 3, over everything a producer was told."""
    durable = [event for event in events if event["type"] in ("final", "revise", "gap", "stopped")]
    assert [event["seq"] for event in durable] == list(range(1, len(durable) + 1))
    committed: dict[int, str] = {}
    finals: set[int] = set()
    for event in events:
        if event["type"] in ("partial", "final"):
            assert event["text"].startswith(committed.get(event["utterance"], ""))
            assert event["utterance"] not in finals, "nothing comes after the final"
            committed[event["utterance"]] = event["text"]
        if event["type"] == "final":
            finals.add(event["utterance"])
    if events[-1]["type"] == "stopped":
        ledger = events[-1]["ledger"]
        assert sum(ledger.values()) == pytest.approx(events[-1]["audio_end"], abs=0.03)


def test_a_stream_from_start_to_stop(daemon, producer, pcm) -> None:
    """Partials settle into finals, every promise holds, `stopped` is last and the close code 1000."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            started = await p.start(session="reading", title="A reading")
            assert started["type"] == "started" and started["session"] == "reading"
            assert started["next_sample"] == 0 and started["seq"] == 0
            assert started["limits"]["max_frame_bytes"] == 1 << 20
            await p.send(pcm(seconds=12), pause_s=0.005)
            await p.say(type="stop")
            assert await p.closed() == 1000
            _check_promises(p.events)
            assert p.of("partial") and len(p.of("final")) >= 3
            assert p.events[-1]["type"] == "stopped" and p.events[-1]["audio_end"] == pytest.approx(12.0)
            assert all(final["latency"]["audio_to_final_ms"] >= 0 for final in p.of("final"))
            stored = await d.service.journal.events("reading")
            assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
            assert [event.text for event in stored if event.type == "final"] == _text(p.events)
            assert "reading" not in d.service.drivers

    asyncio.run(main())


def test_silence(daemon, producer) -> None:
    """Says nothing and costs nothing: no text, all of it silence in the ledger."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start()
            await p.send(bytes(16_000 * 2 * 5))
            await p.say(type="stop")
            stopped = await p.until("stopped")
            assert not p.of("partial") and not p.of("final")
            assert stopped["ledger"]["silence_s"] == pytest.approx(5.0, abs=0.01)

    asyncio.run(main())


def test_a_marker(daemon, producer, pcm) -> None:
    """Is echoed after the finals of everything sent before it."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start()
            await p.send(pcm(seconds=6))
            await p.say(type="marker", id="here")
            await p.send(bytes(16_000 * 2))
            marker = await p.until("marker")
            assert marker["id"] == "here" and marker["audio_end"] == pytest.approx(6.0)
            assert marker["seq"] == max(event["seq"] for event in p.of("final") + p.of("gap"))
            assert not [
                e for e in p.events[p.events.index(marker) :] if e.get("end", 9) <= 6 and "seq" not in e
            ]

    asyncio.run(main())


def test_finalize_in_the_middle_of_a_word(daemon, producer, pcm) -> None:
    """Closes the utterance at once, and the stream goes on with the next one."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start()
            await p.send(pcm(seconds=3), pause_s=0.002)
            await p.say(type="finalize", id="now")
            done = await p.until("finalized")
            assert done["id"] == "now" and p.of("final")
            before = len(p.of("final"))
            await p.send(pcm(seconds=6)[16_000 * 6 :], pause_s=0.002)
            await p.say(type="stop")
            await p.until("stopped")
            assert len(p.of("final")) > before
            _check_promises(p.events)

    asyncio.run(main())


def test_skip(daemon, producer, pcm) -> None:
    """Samples the producer no longer has become a gap, and time moves on over them."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start(rate=8_000)
            await p.send(bytes(8_000 * 2))
            await p.say(type="skip", samples=16_000)
            await p.send(bytes(8_000 * 2))
            await p.say(type="stop")
            stopped = await p.until("stopped")
            (gap,) = p.of("gap")
            assert gap["reason"] == "client_skipped"
            assert gap["start"] == pytest.approx(1.0, abs=0.01) and gap["end"] == pytest.approx(3.0, abs=0.01)
            assert stopped["audio_end"] == pytest.approx(4.0, abs=0.01)
            assert stopped["ledger"]["gap_s"] == pytest.approx(2.0, abs=0.01)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("encoding", "rate", "channels"),
    [
        ("pcm_s16le", 16_000, 1),
        ("pcm_s16le", 44_100, 2),
        ("pcm_f32le", 48_000, 1),
        ("mulaw", 8_000, 1),
        ("alaw", 8_000, 2),
    ],
)
def test_every_raw_encoding(daemon, producer, recording, encoding: str, rate: int, channels: int) -> None:
    """The same speech in any encoding gives the same number of seconds and about the same utterances."""

    async def main() -> None:
        frame = av.AudioFrame.from_ndarray(
            recording("two_cities.wav")[None, : 16_000 * 5], format="flt", layout="mono"
        )
        frame.sample_rate = 16_000
        codec = {"pcm_s16le": "s16", "pcm_f32le": "flt", "mulaw": "s16", "alaw": "s16"}[encoding]
        layout = "mono" if channels == 1 else "stereo"
        frames = av.AudioResampler(format=codec, layout=layout, rate=rate).resample(frame)
        data = b"".join(
            bytes(f.planes[0])[: f.samples * channels * (4 if codec == "flt" else 2)] for f in frames
        )
        if encoding in ("mulaw", "alaw"):
            data = _companded(np.frombuffer(data, "<i2"), encoding)
        async with daemon() as d, producer(d.url) as p:
            await p.start(encoding, rate, channels=channels)
            await p.send(data, step=3_001)
            await p.say(type="stop")
            stopped = await p.until("stopped")
            assert stopped["audio_end"] == pytest.approx(5.0, abs=0.05)
            assert 1 <= len(p.of("final")) <= 3 and stopped["ledger"]["speech_s"] > 3

    asyncio.run(main())


def _companded(samples: np.ndarray, encoding: str) -> bytes:
    """Through the codec of the container library, which is not ours."""
    codec = av.CodecContext.create(f"pcm_{encoding}", "w")
    codec.sample_rate, codec.layout, codec.format = 8_000, "mono", "s16"  # type: ignore[attr-defined]
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
    frame.sample_rate = 8_000
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))  # type: ignore[attr-defined]


def test_a_container(daemon, producer, assets) -> None:
    """A wav file cut anywhere is decoded on its way; a finalize behind it waits for what was sent."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start("wav")
            await p.send((assets / "beckett.wav").read_bytes(), step=7_777)
            await p.say(type="finalize", id="all")
            assert (await p.until("finalized"))["audio_end"] > 9.7  # what a demuxer holds back is little
            await p.say(type="stop")
            assert (await p.until("stopped"))["audio_end"] == pytest.approx(9.97, abs=0.1)
            assert await p.closed() == 1000

    asyncio.run(main())


@pytest.fixture
def durable(tmp_path_factory, daemon, producer, pcm) -> Callable[[list[int]], list[tuple[Any, ...]]]:
    """What becomes of 8 s that are sent in messages of so many bytes, over and over: durable events."""
    data = pcm(seconds=8)

    async def send(lengths: list[int]) -> list[tuple[Any, ...]]:
        path = tmp_path_factory.mktemp("cut") / "journal.db"
        async with daemon(journal={"path": str(path)}) as d, producer(d.url) as p:
            await p.start(partials=False)
            at = 0
            for length in lengths * (len(data) // sum(lengths) + 1):
                await p.socket.send(data[at : at + length])
                at += length
                if at >= len(data):
                    break
            await p.say(type="stop")
            await p.until("stopped")
            return [
                (e["seq"], e["type"], e.get("text"), e.get("start"), e.get("end"), e.get("ledger"))
                for e in p.events
                if e["type"] in ("final", "gap", "stopped")
            ]

    return lambda lengths: asyncio.run(send(lengths))


@pytest.fixture
def usual(durable) -> list[tuple[Any, ...]]:
    """Of messages of 0.1 s."""
    return durable([3_200])


_CUTS = st.lists(st.integers(1, 40_000), min_size=1, max_size=60)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=_CUTS)
def test_any_cut_of_the_audio_into_messages(durable, usual, cuts: list[int]) -> None:
    """Gives the same durable events: texts, times and numbers."""
    assert durable(cuts) == usual


def test_faster_than_real_time(daemon, producer, pcm) -> None:
    """Audio is taken up to max_backlog_s, then TCP holds the producer back; nothing is lost of it."""

    async def main() -> None:
        slow = ScriptedTranscriber([(0.4 * i, 0.4 * i + 0.3, f"w{i}") for i in range(400)], delay_s=0.3)
        async with daemon(slow, server={"max_backlog_s": 20.0}) as d, producer(d.url) as p:
            started = await p.start(partials=False)
            (driver,) = d.service.drivers.values()
            most = 0.0

            async def watch() -> None:
                nonlocal most
                while not driver.core.finished:
                    most = max(most, driver.backlog_s)
                    await asyncio.sleep(0.01)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch())
                await p.send(pcm(seconds=40), step=32_000)
                await p.say(type="stop")
                stopped = await p.until("stopped", 60)
            assert stopped["audio_end"] == pytest.approx(40.0)
            assert not p.of("gap") and 5.0 < most < 20.0 + 1.0
            assert started["limits"]["max_backlog_s"] == 20.0

    asyncio.run(main())


def test_many_sessions_at_once(daemon, producer, pcm) -> None:
    """Each has its own text, none waits for another."""

    async def one(url: str, name: str) -> list[str]:
        async with producer(url) as p:
            await p.start(session=name)
            await p.send(pcm(seconds=6), pause_s=0.002)
            await p.say(type="stop")
            await p.until("stopped")
            _check_promises(p.events)
            return _text(p.events)

    async def main() -> None:
        async with daemon() as d:
            texts = await asyncio.gather(*(one(d.url, f"s{i}") for i in range(8)))
        assert len({tuple(text) for text in texts}) == 1 and texts[0]

    asyncio.run(main())


def test_status_under_load(daemon, producer, pcm) -> None:
    """A machine that cannot keep up says so once to the producer, not with every window."""

    async def main() -> None:
        slow = ScriptedTranscriber([(0.4 * i, 0.4 * i + 0.3, f"w{i}") for i in range(400)], delay_s=0.4)
        async with (
            daemon(slow, engine={"workers": 1, "capacity": 8}) as d,
            producer(d.url) as p,
            producer(d.url) as other,
        ):
            await p.start()
            await other.start()
            data = pcm(seconds=8)
            begun = time.monotonic()
            await asyncio.gather(p.send(data, pause_s=0.08), other.send(data, pause_s=0.08))
            await p.say(type="stop")
            await p.until("stopped", 60)
            degraded = [event for event in p.of("status") if event["degraded"]]
            assert degraded and degraded[0]["reason"] and degraded[0]["step_ms"] > 250
            assert len(p.of("status")) <= 2 + (time.monotonic() - begun)
            status = (await _get(d.url + "/status")).json()
            assert status

    asyncio.run(main())


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(url)


def test_what_the_model_cannot_do(daemon, producer) -> None:
    """Is said once, without ending the session."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start(diarize=True)
            said = await p.hear()
            assert said["code"] == "not_available" and not said["fatal"]
            await p.say(type="stop")
            assert (await p.until("stopped"))["audio_end"] == 0

    asyncio.run(main())


def test_the_embedded_model(daemon_process, producer, pcm) -> None:
    """A real daemon hears what is said, with partials on the way, and every promise kept."""

    async def main(url: str) -> None:
        async with producer(url) as p:
            started = await p.start(words=True)
            assert started["model"] == "moonshine-tiny" and "cpu" in started["device"]
            await p.send(pcm(seconds=13), pause_s=0.04)
            await p.say(type="stop")
            await p.until("stopped", 60)
            _check_promises(p.events)
            text = " ".join(_text(p.events)).lower()
            for phrase in ("best of times", "worst of times", "age of wisdom", "epoch of belief"):
                assert phrase in text, text
            assert p.of("partial")
            for final in p.of("final"):
                words = final["words"]
                assert " ".join(word["text"] for word in words) == final["text"]
                assert all(a["end"] <= b["start"] for a, b in itertools.pairwise(words))
                assert final["start"] - 0.5 <= words[0]["start"] and words[-1]["end"] <= final["end"] + 0.3
                assert all(word["confidence"] > 0 for word in words)

    process = daemon_process(scripted=False)
    asyncio.run(main(process.url))
    assert process.terminate() == 0
    log = "\n".join(process.lines).lower()
    assert "best of times" not in log and "wisdom" not in log  # nobody's words are in the log
