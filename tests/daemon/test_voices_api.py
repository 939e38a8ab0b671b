"""/v1/voices on a real daemon: who is enrolled, by whom, and what is refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from daemon.voice_store import Enrolled, VoiceStore
from streaming.listening import VOICEPRINT
from streaming.protocol import AudioFormat, Start
from streaming.roster import Voice

VECTOR = np.eye(VOICEPRINT, dtype=np.float32)[7]
WANTED = {"name": "Nell Bell", "session": "talk", "speaker": "S1", "consent": True}


class Spoken:
    """The labels of a session with one voice."""

    def __init__(self, seconds: float = 9.0) -> None:
        self._voices = {"S1": Voice(VECTOR, seconds)}

    def voices(self) -> dict[str, Any]:
        return self._voices


@pytest.fixture
def visit(daemon: Any) -> Callable[..., None]:
    """Runs a test's coroutine with a client and a daemon, in which S1 has spoken in the session `talk`."""

    def run(test: Callable[..., Any], **sections: Any) -> None:
        async def main() -> None:
            async with daemon(**sections) as d, httpx.AsyncClient(base_url=d.url) as client:
                audio = AudioFormat(encoding="pcm_s16le", sample_rate=16_000)
                await d.service.open_session(Start(audio=audio, session="talk"))
                d.service.speakers.heard.opened("talk", Spoken())
                await test(client, d)

        asyncio.run(main())

    return run


def test_a_speaker_is_enrolled_listed_and_forgotten(visit: Any) -> None:
    """With how consent was noted; the voiceprint is in no answer."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        assert (await client.get("/v1/voices")).json() == {"recognised": True, "voices": []}
        answer = await client.post("/v1/voices", json=WANTED)
        assert answer.status_code == 201
        listed = await client.get("/v1/voices")
        (voice,) = listed.json()["voices"]
        assert voice == answer.json()
        assert voice["name"] == "Nell Bell" and voice["seconds"] == 9.0 and voice["usable"]
        assert "stated" in voice["consent"] and voice["enrolled"] > 1e9
        stored = d.service.speakers.store.find("Nell Bell")
        assert (stored.vector == VECTOR).all() and stored.voiceprint not in listed.text + answer.text
        assert (await client.delete("/v1/voices/Nell%20Bell")).status_code == 204
        gone = await client.delete("/v1/voices/Nell%20Bell")
        assert gone.status_code == 404 and gone.json()["error"]["code"] == "unknown_voice"
        assert (await client.get("/v1/voices")).json()["voices"] == []

    visit(test)


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"consent": False}, 400, "agrees"),
        ({"consent": None}, 400, "consent"),
        ({"name": " "}, 400, "1 to 100"),
        ({"name": "x" * 101}, 400, "1 to 100"),
        ({"session": "tuesday"}, 404, "No session is named 'tuesday'"),
        ({"speaker": "S2"}, 404, "those of S1 are"),
        ({"speaker": "Nell"}, 400, "speaker"),
        ({"vector": []}, 400, "vector"),
    ],
)
def test_enrolments_that_are_refused(visit: Any, change: dict[str, Any], status: int, says: str) -> None:
    """Say why, and nothing is stored."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        answer = await client.post("/v1/voices", json={**WANTED, **change})
        assert answer.status_code == status and says in answer.json()["error"]["message"], answer.text
        assert not d.service.speakers.store.path.exists()

    visit(test)


def test_little_speech(visit: Any) -> None:
    """Is not enough for a voiceprint that lasts."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        d.service.speakers.heard.opened("talk", Spoken(4.0))
        answer = await client.post("/v1/voices", json=WANTED)
        assert answer.status_code == 400 and "4.0 s and 6 s" in answer.json()["error"]["message"]

    visit(test)


def test_a_name_that_is_taken(visit: Any) -> None:
    """Is replaced only where that is asked for."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await client.post("/v1/voices", json=WANTED)
        again = await client.post("/v1/voices", json=WANTED)
        assert again.status_code == 409 and again.json()["error"]["code"] == "voice_exists"
        assert (await client.post("/v1/voices", json={**WANTED, "replace": True})).status_code == 201
        assert len(d.service.speakers.store.voices()) == 1

    visit(test)


def test_a_session_that_was_deleted(visit: Any) -> None:
    """Has no voices to enrol any more."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        assert (await client.delete("/v1/sessions/talk")).status_code == 204
        assert (await client.post("/v1/voices", json=WANTED)).status_code == 404
        assert not d.service.speakers.heard._live and not d.service.speakers.heard._over

    visit(test)


def test_only_those_admitted(visit: Any) -> None:
    """See who is enrolled, or change it."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        for method, path in (("GET", "/v1/voices"), ("POST", "/v1/voices"), ("DELETE", "/v1/voices/Nell")):
            assert (await client.request(method, path)).status_code == 401
        key = {"Authorization": "Bearer secret"}
        assert (await client.get("/v1/voices", headers=key)).status_code == 200

    visit(test, auth={"tokens": ["secret"]})


def test_a_damaged_file(visit: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Is said in a sentence, here, in /status and once in the log; sessions go on without names."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        speakers = d.service.speakers
        await client.post("/v1/voices", json=WANTED)
        assert [name for name, _ in speakers.known] == ["Nell Bell"]
        speakers.store.path.write_text("{")
        speakers.refresh()
        speakers.refresh()
        assert speakers.known == ()
        for method in ("GET", "POST"):
            answer = await client.request(method, "/v1/voices", json=WANTED if method == "POST" else None)
            assert answer.status_code == 503 and "cannot be used" in answer.json()["error"]["message"]
        assert "cannot be used" in " ".join((await client.get("/status")).json()["notes"])
        assert sum("cannot be used" in record.message for record in caplog.records) == 1
        speakers.store.path.unlink()
        speakers.refresh()
        assert (await client.get("/status")).json()["notes"] == []

    with caplog.at_level(logging.INFO):
        visit(test)


def test_recognition_that_is_switched_off(visit: Any) -> None:
    """Uses no voice; who is enrolled can still be seen and removed."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        assert (await client.post("/v1/voices", json=WANTED)).status_code == 201
        assert d.service.speakers.known == ()
        assert (await client.get("/v1/voices")).json()["recognised"] is False
        assert (await client.delete("/v1/voices/Nell Bell")).status_code == 204

    visit(test, speakers={"recognise": False})


def test_names_stay_out_of_the_log(visit: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is done with them, at any level."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await client.post("/v1/voices", json=WANTED)
        await client.post("/v1/voices", json=WANTED)
        await client.get("/v1/voices")
        await client.delete("/v1/voices/Nell Bell")
        await client.delete("/v1/voices/Nell Bell")
        d.service.speakers.store.path.write_text('{"voices": [{"name": "Nell Bell"}]}')
        await client.delete("/v1/voices/Nell Bell")
        d.service.speakers.refresh()

    with caplog.at_level(logging.DEBUG):
        visit(test)
    ours = [
        record.getMessage() for record in caplog.records if record.name.startswith(("amanuensis", "uvicorn"))
    ]
    assert ours and not any("Nell" in line or "Bell" in line for line in ours)


def test_a_file_that_another_process_wrote(visit: Any, eventually: Any) -> None:
    """Is noticed without a word to the daemon: the command line enrols beside it."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        VoiceStore(d.service.speakers.store.path).add(Enrolled.of("Nagg", VECTOR, 8.0, 1.0, "confirmed"))
        await eventually(lambda: [name for name, _ in d.service.speakers.known] == ["Nagg"])

    visit(test)
