"""Known voices with the real networks: enrolled by command, heard by a daemon, named in its transcripts."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from npu.embedded import default_cache_dir
from npu.voiceprint import load_voices
from streaming.containers import decode_container

ROOT = Path(__file__).parent.parent.parent
FASTER = 4  # times real time: as fast as labels keep up on a small machine


@pytest.fixture
def voices() -> Callable[..., str]:
    """The `voices` command, with the configuration that `daemon_process` wrote -> what it said."""

    def run(*words: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "daemon", "voices", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


async def _stream(producer: Any, url: str, session: str, pcm: bytes) -> list[dict[str, Any]]:
    """A session from start to stop -> what the producer was told."""
    async with producer(url) as p:
        await p.start(session=session)
        await p.send(pcm, pause_s=0.1 / FASTER)
        await p.say(type="stop")
        assert await p.closed(60) == 1000
        return list(p.events)


def _pcm(path: Path, seconds: float) -> bytes:
    with path.open("rb") as file:
        blocks = [(block * 32_767).astype("<i2").tobytes() for block in decode_container(file)]
    return b"".join(blocks)[: round(32_000 * seconds)]


def _speakers(url: str, session: str) -> dict[str, dict[str, Any]]:
    detail = httpx.get(f"{url}/v1/sessions/{session}").json()
    return {speaker["id"]: speaker for speaker in detail["speakers"]}


@pytest.mark.timeout(240)
def test_a_meeting_of_two_people_who_are_known(
    daemon_process: Any, producer: Any, voices: Any, meetings: Path, pcm: Any, tmp_path: Path
) -> None:
    """Both are named in all they said; strangers are not, until one of them is enrolled after the session."""
    daemon = daemon_process(scripted=False)
    config = ("--config", str(tmp_path / "config.toml"))
    for name, clip in (("Pat", "2609"), ("Dorothy", "3080")):
        voices("enroll", name, str(meetings / "enrol" / f"{clip}.flac"), "--consent", *config)
    events = asyncio.run(_stream(producer, daemon.url, "meeting", _pcm(meetings / "m2.flac", 95.0)))
    speakers = _speakers(daemon.url, "meeting")
    assert {speaker["name"] for speaker in speakers.values()} == {"Pat", "Dorothy"}
    assert all(0.5 <= speaker["confidence"] <= 1.0 for speaker in speakers.values())
    told = [event for event in events if event["type"] == "revise" and event.get("reason") == "recognised"]
    assert len(told) <= 2 and all("utterance" not in event for event in told)
    text = httpx.get(f"{daemon.url}/v1/sessions/meeting/transcript.txt").text
    assert "Dorothy: " in text and "Pat: " in text

    asyncio.run(_stream(producer, daemon.url, "strangers", pcm("endgame_nagg_nell.wav")))
    strangers = _speakers(daemon.url, "strangers")
    assert len(strangers) == 2 and not any(each.get("name") for each in strangers.values())

    longest = max(strangers, key=lambda each: strangers[each]["seconds"])
    there = ("--session", "strangers", "--speaker", longest, "--url", daemon.url)
    assert "“Nagg” is enrolled" in voices("enroll", "Nagg", *there, "--consent")
    events = asyncio.run(_stream(producer, daemon.url, "again", pcm("endgame_nagg_nell.wav")))
    assert [each.get("name") for each in _speakers(daemon.url, "again").values()].count("Nagg") == 1

    assert "Nagg" in voices("list", "--url", daemon.url)
    voices("remove", "Nagg", "--url", daemon.url)
    assert "Nagg" not in voices("list", *config)

    stored = json.loads((tmp_path / "voices.json").read_text())["voices"]
    answers = "".join(
        httpx.get(f"{daemon.url}{path}").text
        for path in ("/v1/voices", "/v1/sessions/meeting", "/status", "/metrics")
    )
    assert len(stored) == 2 and not any(voice["voiceprint"][:40] in answers for voice in stored)
    daemon.terminate()
    assert not any(name in line for line in daemon.lines for name in ("Pat", "Dorothy", "Nagg"))


def test_somebody_enrolled_and_removed_while_they_speak(
    daemon: Any, producer: Any, pcm: Any, eventually: Any
) -> None:
    """The live session names them at once, and ceases to."""

    async def main() -> None:
        networks = load_voices(default_cache_dir(lambda _line: None))
        async with (
            daemon(voices=networks) as d,
            producer(d.url) as p,
            httpx.AsyncClient(base_url=d.url) as client,
        ):
            await p.start(session="live")
            await p.send(pcm("two_cities.wav", 20), pause_s=0.1 / FASTER)
            wanted = {"name": "Charles", "session": "live", "speaker": "S1", "consent": True}

            async def enrolled() -> bool:
                return (await client.post("/v1/voices", json=wanted)).status_code == 201

            await eventually(enrolled, 20)  # when S1 has spoken for long enough
            named = await _recognised(p)
            assert named["speaker"]["name"] == "Charles" and named["speaker"]["confidence"] > 0.9
            assert (await client.delete("/v1/voices/Charles")).status_code == 204
            assert "name" not in (await _recognised(p))["speaker"]

    asyncio.run(main())


async def _recognised(p: Any) -> dict[str, Any]:
    while (event := await p.until("revise")).get("reason") != "recognised":
        pass
    return event
