"""Speaker labels from a running daemon: real people on real models, channels, names, and models that fail."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from typing import Any

import httpx
import numpy as np
import pytest

from streaming.errors import ModelError

RATE = 16_000


def labelled(utterances: list[dict[str, Any]]) -> list[str]:
    return [line["speaker"]["id"] for line in utterances if line.get("speaker")]


async def session(url: str, name: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        return dict((await client.get(f"{url}/v1/sessions/{name}")).json())


def test_two_people(daemon_process: Any, producer: Any, pcm: Any) -> None:
    """Are told apart while they speak; one gets a name, which stands on what was said before and after."""

    async def main(url: str) -> None:
        async with producer(url) as p, httpx.AsyncClient() as client:
            started = await p.start(session="nagg-nell", diarize=True)
            assert started["limits"]["settle_after_s"] == 30.0
            audio = pcm("endgame_nagg_nell.wav")
            await p.send(audio[: 18 * RATE * 2], pause_s=0.07)
            first = (await session(url, "nagg-nell"))["speakers"][0]["id"]
            answer = await client.patch(f"{url}/v1/sessions/nagg-nell", json={"speakers": {first: "Nell"}})
            assert answer.status_code == 200
            await p.send(audio[18 * RATE * 2 :], pause_s=0.07)
            await p.say(type="stop")
            await p.until("stopped", 60)

        assert {event["speaker"]["id"] for event in p.of("partial") if "speaker" in event} >= {"S1", "S2"}
        (named,) = [event for event in p.of("revise") if event["reason"] == "named"]
        assert named["speaker"] == {"id": first, "name": "Nell", "settled": True} and "utterance" not in named
        durable = [e["seq"] for e in p.events if e["type"] in ("final", "revise", "gap", "stopped")]
        assert durable == list(range(1, len(durable) + 1))

        detail = await session(url, "nagg-nell")
        assert {speaker["id"] for speaker in detail["speakers"]} == {"S1", "S2"}
        spoken = [line for line in detail["utterances"] if line.get("speaker")]
        assert len(spoken) >= len(detail["utterances"]) - 1  # a sigh is nobody's turn
        assert all(line["speaker"]["settled"] for line in spoken)
        text = await fetch(url, "nagg-nell", "txt")
        assert "Nell: " in text and ("S2: " if first == "S1" else "S1: ") in text

    asyncio.run(main(daemon_process(scripted=False).url))


async def fetch(url: str, name: str, kind: str) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{url}/v1/sessions/{name}/transcript.{kind}")).text


def test_a_daemon_that_is_killed(daemon_process: Any, producer: Any, pcm: Any) -> None:
    """Forgets the voices, which are nowhere on disk: who speaks then is somebody new, never mistaken for another."""
    audio = pcm("endgame_nagg_nell.wav")

    async def before(url: str) -> str:
        async with producer(url) as p:
            started = await p.start(session="cut", diarize=True)
            await p.send(audio[: 12 * RATE * 2], pause_s=0.035)
            await p.say(type="marker", id="m")
            await p.until("marker")
            return str(started["resume_token"])

    async def after(url: str, token: str) -> None:
        async with producer(url) as p:
            started = await p.start(resume={"token": token, "last_seq": 0}, diarize=True)
            await p.send(audio[started["next_sample"] * 2 :], pause_s=0.035)
            await p.say(type="stop")
            await p.until("stopped", 60)
        ids = labelled((await session(url, "cut"))["utterances"])
        old = {line for line in ids if line in ("S1", "S2")}
        assert old and set(ids) > old

    process = daemon_process(scripted=False)
    token = asyncio.run(before(process.url))
    process.kill()
    asyncio.run(after(daemon_process(scripted=False).url, token))


def conversation(pcm: Any) -> np.ndarray:
    """[n, 2]: one speaks on the left, then another on the right."""
    left = np.frombuffer(pcm("two_cities.wav", 6), "<i2")
    right = np.frombuffer(pcm("beckett.wav", 6), "<i2")
    silence = np.zeros(RATE, "<i2")
    quiet = np.zeros(len(right) + RATE, "<i2")
    return np.stack(
        [
            np.concatenate([left, silence, quiet]),
            np.concatenate([np.zeros_like(left), silence, right, silence]),
        ],
        axis=1,
    )


@pytest.mark.parametrize("encoding", ["pcm_s16le", "wav"])
def test_speakers_on_channels_of_their_own(daemon: Any, producer: Any, pcm: Any, encoding: str) -> None:
    """Are labelled by channel, with no model and at once, from raw PCM and from containers."""
    audio = conversation(pcm)
    data = audio.tobytes()
    if encoding == "wav":
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setnchannels(2)
            writer.setsampwidth(2)
            writer.setframerate(RATE)
            writer.writeframes(data)
        data = file.getvalue()

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            format_ = {"encoding": encoding, "sample_rate": RATE, "channels": 2}
            await p.say(type="start", audio=format_, diarize=True, channels="speakers", session="duet")
            await p.hear()
            await p.send(data, step=6_400, pause_s=0.002)
            await p.say(type="stop")
            await p.until("stopped")
            assert not p.of("error") and not p.of("revise")
            finals = p.of("final")
            assert {final["speaker"]["id"] for final in finals if final["end"] < 6.5} == {"S1"}
            assert {final["speaker"]["id"] for final in finals if final["start"] > 6.5} == {"S2"}
            assert all(final["speaker"]["settled"] for final in finals)

    asyncio.run(main())


def test_voice_models_that_fail(daemon: Any, producer: Any, pcm: Any) -> None:
    """Are a sentence for the producer; its text, and the other sessions, go on as if nothing had been."""

    class Broken:
        def segment(self, audio: Any) -> Any:
            raise ModelError("the segmentation has gone")

    async def main() -> None:
        async with daemon(voices=Broken()) as d, producer(d.url) as p:
            await p.start(diarize=True)
            await p.send(pcm(seconds=9), pause_s=0.01)
            await p.say(type="stop")
            await p.until("stopped")
            (error,) = p.of("error")
            assert error["code"] == "not_available" and not error["fatal"] and "labels" in error["message"]
            assert len(p.of("final")) >= 2 and not any("speaker" in final for final in p.of("final"))

    asyncio.run(main())


def test_labels_that_nobody_asked_for(daemon: Any, producer: Any, pcm: Any) -> None:
    """`diarize: false` has none whatever the configuration says; left out, the configuration counts."""

    class Unused:
        def segment(self, audio: Any) -> Any:
            raise AssertionError("somebody listened")

    async def main() -> None:
        for options, section in (({"diarize": False}, {"label": True}), ({}, {"label": False})):
            async with daemon(voices=Unused(), speakers=section) as d, producer(d.url) as p:
                await p.start(**options)
                await p.send(pcm(seconds=5), pause_s=0.005)
                await p.say(type="stop")
                await p.until("stopped")
                assert p.of("final") and "speaker" not in json.dumps(p.events)

    asyncio.run(main())
