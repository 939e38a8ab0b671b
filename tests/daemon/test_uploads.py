"""Recordings over HTTP: what comes back, and what is refused."""

from __future__ import annotations

import asyncio
import io
import os
import random
import tempfile
import threading
import wave
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from daemon.niceness import NICENESS
from daemon.upload_form import received
from npu.scripted import ScriptedTranscriber
from streaming.errors import ModelError
from streaming.window import Hypothesis, Manner, Window

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


def test_a_recording(visit, speech) -> None:
    """Text, segments in order of time, and how long it was; words only where they were asked for."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        plain = (await client.post("/transcribe", files=speech)).json()
        assert plain["language"] == "en" and plain["duration"] > 5 and plain["speakers"] == []
        assert plain["text"] == " ".join(segment["text"] for segment in plain["segments"])
        assert [segment["id"] for segment in plain["segments"]] == list(range(1, len(plain["segments"]) + 1))
        for segment in plain["segments"]:
            assert set(segment) == {"id", "start", "end", "text"} and segment["start"] < segment["end"]
        fields = {"word_timestamps": "true", "language": "en-GB", "model": "scripted", "min_speakers": ""}
        timed = (await client.post("/transcribe", files=speech, data=fields)).json()
        assert timed["text"] == plain["text"]
        words = [word for segment in timed["segments"] for word in segment["words"]]
        assert " ".join(word["text"] for word in words) == plain["text"]

    visit(test)


def test_speaker_labels(visit, speech) -> None:
    """Under either name of the field, or where a number of speakers is named; not where they are refused."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        for fields in ({"diarization": "true"}, {"enable_diarization": "1"}, {"max_speakers": "2"}):
            found = (await client.post("/transcribe", files=speech, data=fields)).json()
            names = [speaker["id"] for speaker in found["speakers"]]
            assert names and names == [f"S{at}" for at in range(1, len(names) + 1)]
            assert {segment["speaker"] for segment in found["segments"] if "speaker" in segment} == set(names)
        refused = {"diarization": "false", "max_speakers": "2"}
        assert (await client.post("/transcribe", files=speech, data=refused)).json()["speakers"] == []

    visit(test)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"min_speakers": "0"}, "min_speakers"),
        ({"min_speakers": "3", "max_speakers": "2"}, "min_speakers"),
        ({"diarization": "perhaps"}, "diarization"),
        ({"diarisation": "true"}, "diarisation"),
    ],
)
def test_fields_that_cannot_be_served(visit, speech, fields: dict[str, str], param: str) -> None:
    """400, which names the field."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        assert _error(await client.post("/transcribe", files=speech, data=fields), 400)["param"] == param

    visit(test)


def test_what_is_no_recording(visit, speech) -> None:
    """400, whether it is no form, no file or no audio; so is a language that the model does not know."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        assert _error(await client.post("/transcribe", json={}), 400)["param"] == "file"
        assert _error(await client.post("/transcribe", files={"other": b"x"}), 400)["param"] == "other"
        assert (
            _error(await client.post("/transcribe", files={"language": (None, "en")}), 400)["param"] == "file"
        )
        text = {"file": ("notes.txt", b"not audio at all" * 100)}
        assert _error(await client.post("/transcribe", files=text), 400)["param"] == "file"
        broken = await client.post(
            "/transcribe", content=b"--x\r\nbad", headers={"content-type": "multipart/form-data; boundary=x"}
        )
        _error(broken, 400)
        french = await client.post("/transcribe", files=speech, data={"language": "fr"})
        assert _error(french, 400)["param"] == "language"

    visit(test)


def test_too_large(visit, speech) -> None:
    """413: by the declared length before anything is read, by what comes where none is declared."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        assert _error(await client.post("/transcribe", files=speech), 413)["code"] == "too_large"

        async def trickle() -> Any:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
            for _ in range(100):
                yield b"\0" * 4_096

        headers = {"content-type": "multipart/form-data; boundary=x"}
        assert _error(await client.post("/transcribe", content=trickle(), headers=headers), 413)

    visit(test, uploads={"max_bytes": 100_000})


def test_too_long(visit, speech) -> None:
    """413 as well."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        assert "minutes" in _error(await client.post("/transcribe", files=speech), 413)["message"]

    visit(test, uploads={"max_duration_s": 3.0})


def test_more_than_there_is_room_for(visit, speech, eventually) -> None:
    """429 with Retry-After; those before it are served, one after the other, at a low priority."""
    held = Held()

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(client.post("/transcribe", files=speech))
            await eventually(lambda: held.batches == 1)
            second = tasks.create_task(client.post("/transcribe", files=speech))
            await asyncio.sleep(0.2)
            third = await client.post("/transcribe", files=speech)
            assert _error(third, 429)["code"] == "too_many_uploads" and int(third.headers["retry-after"]) > 0
            assert held.batches == 1
            held.gate.set()
        assert first.result().status_code == second.result().status_code == 200
        assert not hasattr(os, "getpriority") or held.niceness == NICENESS

    visit(test, held, uploads={"waiting": 1})


def test_the_token(visit, speech) -> None:
    """Is asked for before the recording is read."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        for path in ("/transcribe", "/v1/audio/transcriptions"):
            assert _error(await client.post(path, files=speech), 401)
        good = {"authorization": "Bearer secret"}
        assert (await client.post("/transcribe", files=speech, headers=good)).status_code == 200

    visit(test, auth={"tokens": ["secret"]})


def test_both_paths(visit, speech) -> None:
    """Are the same thing."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        one, other = [
            (await client.post(path, files=speech)).json() for path in ("/transcribe", "/api/transcribe")
        ]
        assert one == other and one["text"]

    visit(test)


def test_what_a_form_reaches(visit, speech) -> None:
    """Every hint comes to the model; one that is not resident is loaded for it, and only those that are there."""
    manners = []

    class Other(ScriptedTranscriber):
        name = "other"
        languages = ("de", "fr")
        translates = True

        def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
            manners.extend(window.manner for window in windows)
            return super().transcribe_all(windows)

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        fields = {
            "model": "other",
            "language": "German",
            "task": "translate",
            "prompt": "Ada said",
            "temperature": "0.4",
            "vocabulary": ["Ada, Lovelace", "Babbage"],
            "beam": "5",
        }
        answer = await client.post("/transcribe", files=speech, data=fields)
        assert answer.status_code == 200, answer.text
        unknown = await client.post("/transcribe", files=speech, data={"model": "enormous"})
        error = _error(unknown, 404)
        assert error["code"] == "model_not_found" and error["param"] == "model"
        assert "scripted, other" in error["message"]
        danish = await client.post("/transcribe", files=speech, data={"model": "other", "language": "Danish"})
        assert "de, fr" in _error(danish, 400)["message"]

    visit(test, others={"other": Other(SCRIPT)})
    assert set(manners) == {
        Manner("de", "translate", "Ada said", ("Ada", "Lovelace", "Babbage"), beam=5, temperature=0.4)
    }


def test_a_model_that_is_broken(visit, speech) -> None:
    """503 in a sentence; the default one goes on."""

    def load() -> Any:
        raise ModelError("other lacks a tensor; pull it again.")

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        error = _error(await client.post("/transcribe", files=speech, data={"model": "other"}), 503)
        assert error["code"] == "model_unavailable" and "lacks a tensor" in error["message"]
        assert (await client.post("/transcribe", files=speech)).status_code == 200

    visit(test, others={"other": load})


def test_a_full_disk(visit, speech, monkeypatch) -> None:
    """507 in a sentence, by each path; the next one is served once there is room."""
    room = tempfile.TemporaryFile

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        form = {"file": ("long.wav", speech["file"][1] * 8, "audio/wav")}
        assert len(form["file"][1]) > 1 << 20  # what is smaller stays in memory
        monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open("/dev/full", "w+b", buffering=0))  # noqa: SIM115, PTH123
        for path in ("/transcribe", "/v1/jobs", "/v1/audio/transcriptions"):
            error = _error(await client.post(path, files=form, data={"model": "whisper-1"}), 507)
            assert error["code"] == "no_room" and "no room" in error["message"]
        labelled = await client.post("/transcribe", files=speech, data={"diarization": "true"})
        assert _error(labelled, 507)["code"] == "no_room"  # its samples have no place
        monkeypatch.setattr("tempfile.TemporaryFile", room)
        assert (await client.post("/transcribe", files=form)).status_code == 200

    visit(test, uploads={"waiting": 0})


def test_nothing_is_left_behind(visit, speech, tmp_path, monkeypatch) -> None:
    """Of a large upload nothing has a name on the disk, neither while it is there nor afterwards."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        form = {"file": ("long.wav", speech["file"][1] * 8, "audio/wav")}
        for path in ("/transcribe", "/v1/jobs"):
            assert (await client.post(path, files=form, data={"diarization": "true"})).is_success
        assert not list(folder.iterdir())

    visit(test)
    assert not list(folder.iterdir())


def test_a_task_that_is_cancelled_as_it_ends(speech) -> None:
    """Closes the file of its form nevertheless."""
    request = httpx.Request("POST", "http://here", files={"file": ("long.wav", speech["file"][1] * 8)})
    headers = [(name.lower(), value) for name, value in request.headers.raw]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": request.read(), "more_body": False}

    async def work() -> None:
        asked = Request({"type": "http", "method": "POST", "headers": headers}, receive)
        async with received(asked, 1 << 30) as form:
            files.append(form.file)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    async def main() -> None:
        await asyncio.gather(work(), return_exceptions=True)

    files: list[Any] = []
    asyncio.run(main())
    assert files[0].closed


def test_fields_without_measure(visit) -> None:
    """A form is bounded in memory, however many fields it has."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        fields = {f"field{at}": "x" * (3 << 20) for at in range(17)}
        error = _error(await client.post("/transcribe", files={"file": b"x"}, data=fields), 400)
        assert "48 MB" in error["message"]
        many = await client.post(
            "/transcribe", files={"file": b"x"}, data={f"f{at}": "x" for at in range(1_101)}
        )
        assert "fields" in _error(many, 400)["message"]

    visit(test)


def _wav(samples: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(b"\0\0" * samples)
    return file.getvalue()


@pytest.mark.parametrize("seconds", [0, 0.01, 2])
def test_audio_without_speech(visit, seconds: float) -> None:
    """Has no text, and is no error; so has audio of no length."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        form = {"file": ("a.wav", _wav(round(16_000 * seconds)), "audio/wav")}
        answer = await client.post("/transcribe", files=form, data={"diarization": "true"})
        if seconds == 0 and answer.status_code == 400:
            assert answer.json()["error"]["param"] == "file"
            return
        body = answer.json()
        assert body["text"] == "" and body["segments"] == [] and body["duration"] == pytest.approx(seconds)
        plain = await client.post("/v1/audio/transcriptions", files=form, data={"model": "whisper-1"})
        assert plain.json()["text"] == ""

    visit(test)


def test_media_that_is_not_whole(visit, speech) -> None:
    """Is transcribed as far as it goes or refused in a sentence; the daemon serves the next one."""
    whole = speech["file"][1]

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        chance = random.Random(1)
        for cut in (1, 44, len(whole) // 2):
            noise = bytes(chance.randrange(256) for _ in range(2_000))
            for data in (whole[:cut], whole[:cut] + noise, b"fLaC" + noise, b"OggS" + noise, b"ID3" + noise):
                answer = await client.post("/transcribe", files={"file": ("x.mp3", data)})
                assert answer.status_code in (200, 400), answer.text
                if answer.status_code == 400:
                    assert _error(answer, 400)["param"] == "file"
        assert (await client.post("/transcribe", files=speech)).status_code == 200

    visit(test)
