"""/v1/sessions on a real daemon: lists, transcripts, edits and deletions, live and over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from streaming.events import Final, Ledger, SpeakerLabel, Stopped
from streaming.protocol import AudioFormat, Start

TEXT = 'He said: “1 < 2 & 3 > 2”, --> *really*. <script>alert("x")</script> 日本語 👩‍👩‍👧'


@pytest.fixture
def visit(daemon) -> Callable[..., None]:
    """Runs a test's coroutine with a client and the daemon, in which the session `talk` is live."""

    def run(test: Callable[..., Any], **sections: Any) -> None:
        async def main() -> None:
            async with daemon(**sections) as d, httpx.AsyncClient(base_url=d.url) as client:
                audio = AudioFormat(encoding="pcm_s16le", sample_rate=16_000)
                await d.service.open_session(Start(audio=audio, session="talk", title="The “talk”"))
                await test(client, d)

        asyncio.run(main())

    return run


def _final(seq: int, text: str = TEXT) -> Final:
    return Final(seq=seq, utterance=seq, start=seq, end=seq + 0.75, text=text, language="en")


async def _over(service: Any, id: str = "old", finals: int = 2) -> None:
    """A session that has ended."""
    record = await service.journal.session("talk")
    await service.journal.create(type(record)(**{**record.__dict__, "id": id, "created": 1.0}))
    events = [_final(n) for n in range(1, finals + 1)]
    stopped = Stopped(seq=finals + 1, audio_end=9.0, ledger=Ledger(speech_s=9.0))
    await service.journal.append(id, [*events, stopped], 9 * 16_000, stopped.ledger)


async def _speak(p: Any, pcm: Any) -> None:
    """A producer that has said enough for a few finals and stays."""
    await p.start(session="reading")
    await p.send(pcm(seconds=12), pause_s=0.002)
    await p.say(type="finalize", id="now")
    await p.until("finalized")


def test_the_list(visit) -> None:
    """Newest first, live ones marked, as many as asked for."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await _over(d.service)
        sessions = (await client.get("/v1/sessions")).json()["sessions"]
        assert [(s["session"], s["live"]) for s in sessions] == [("talk", True), ("old", False)]
        assert sessions[0]["title"] == "The “talk”" and sessions[1]["decided_s"] == 9.0
        assert sessions[1]["ledger"]["speech_s"] == 9.0 and sessions[1]["seq"] == 3
        assert len((await client.get("/v1/sessions?limit=1")).json()["sessions"]) == 1

    visit(test)


def test_one_session(visit) -> None:
    """Has its text, to the character."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await _over(d.service)
        session = (await client.get("/v1/sessions/old")).json()
        assert [u["text"] for u in session["utterances"]] == [TEXT, TEXT]
        assert session["viewers"] == 0 and session["language"] == "en"

    visit(test)


@pytest.mark.parametrize(
    ("kind", "media_type", "contains"),
    [
        ("json", "application/json", '"language": "en"'),
        ("srt", "application/x-subrip", "00:00:01,000 --> 00:00:02,000\n"),
        ("vtt", "text/vtt", "1 &lt; 2 &amp; 3"),
        ("txt", "text/plain", TEXT),
        ("md", "text/markdown", "\\*really\\*"),
    ],
)
def test_transcripts(visit, kind: str, media_type: str, contains: str) -> None:
    """Come in five formats, of a session that is over and of one in which nothing has been said yet."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await _over(d.service)
        answer = await client.get(f"/v1/sessions/old/transcript.{kind}")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(media_type)
        assert contains in answer.text
        assert f'filename="old.{kind}"' in answer.headers["content-disposition"]
        assert (await client.get(f"/v1/sessions/talk/transcript.{kind}")).status_code == 200
        unknown = await client.get("/v1/sessions/old/transcript.docx")
        assert unknown.status_code == 404 and "srt" in unknown.json()["error"]["message"]

    visit(test)


def test_the_transcript_of_a_live_session(visit, producer, pcm) -> None:
    """Holds what is final so far, and says that the session goes on."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        async with producer(d.url) as p:
            await _speak(p, pcm)
            data = (await client.get("/v1/sessions/reading/transcript.json")).json()
            assert data["live"] is True
            assert [u["text"] for u in data["utterances"]] == [f["text"] for f in p.of("final")]
            assert "-->" in (await client.get("/v1/sessions/reading/transcript.srt")).text

    visit(test)


def test_a_title(visit) -> None:
    """Can be set, cleared and left alone."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        for body, title in (({"title": TEXT}, TEXT), ({}, TEXT), ({"title": None}, None)):
            answer = await client.patch("/v1/sessions/talk", json=body)
            assert answer.status_code == 200 and answer.json()["title"] == title
        assert (await client.get("/v1/sessions/talk")).json()["title"] is None

    visit(test)


def test_edits_of_a_session_that_is_over(visit) -> None:
    """Become durable revisions; what is unchanged is not revised; the last of two edits counts."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await _over(d.service)
        edits = [{"utterance": 1, "text": "lost"}, {"utterance": 1, "text": "Edited."}]
        edits += [{"utterance": 2, "text": TEXT}]
        for rev in (1, 1):  # the same edit again changes nothing
            answer = await client.patch("/v1/sessions/old", json={"utterances": edits})
            assert answer.status_code == 200
            assert [(u["text"], u["rev"]) for u in answer.json()["utterances"]] == [
                ("Edited.", rev),
                (TEXT, 0),
            ]
        again = [{"utterance": 1, "text": "Again."}]
        await client.patch("/v1/sessions/old", json={"utterances": again})
        events = await d.service.journal.events("old")
        assert [(e.type, e.seq) for e in events[3:]] == [("revise", 4), ("revise", 5)]
        assert (events[4].rev, events[4].text) == (2, "Again.")
        assert "Again." in (await client.get("/v1/sessions/old/transcript.txt")).text

    visit(test)


def test_edits_of_a_live_session(visit, producer, pcm) -> None:
    """Reach its producer as revisions in the one order of seq, and its speech goes on after them."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        async with producer(d.url) as p:
            await _speak(p, pcm)
            edits = [{"utterance": p.of("final")[0]["utterance"], "text": "Edited."}]
            answer = await client.patch("/v1/sessions/reading", json={"utterances": edits})
            assert answer.status_code == 200 and answer.json()["utterances"][0]["text"] == "Edited."
            revise = await p.until("revise")
            assert (revise["text"], revise["rev"]) == ("Edited.", 1)
            await p.send(pcm(seconds=6), pause_s=0.002)
            await p.say(type="stop")
            await p.until("stopped")
            durable = [e["seq"] for e in p.events if e["type"] in ("final", "revise", "gap", "stopped")]
            assert durable == list(range(1, len(durable) + 1))

    visit(test)


def test_many_edits_at_once(visit) -> None:
    """All count, one after the other."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await _over(d.service, finals=10)
        answers = await asyncio.gather(
            *(
                client.patch("/v1/sessions/old", json={"utterances": [{"utterance": n, "text": f"edit {n}"}]})
                for n in range(1, 11)
            )
        )
        assert [answer.status_code for answer in answers] == [200] * 10
        texts = [u["text"] for u in (await client.get("/v1/sessions/old")).json()["utterances"]]
        assert texts == [f"edit {n}" for n in range(1, 11)]

    visit(test)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"not json", "Invalid JSON"),
        (b'{"title": "\\ud800"}', "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "message"),
        (b'{"title": 7}', "title"),
        (b'{"title": "' + b"x" * 201 + b'"}', "title"),
        (b'{"speakers": {"S1": "A"}}', "speakers"),
        (b'{"utterances": [{"utterance": 1, "text": "x", "start": 0}]}', "start"),
        (b'{"utterances": [{"utterance": 99, "text": "x"}]}', "99 is not final"),
        (b'{"utterances": {"1": "x"}}', "utterances"),
    ],
)
def test_changes_that_cannot_be_made(visit, body: bytes, names: str) -> None:
    """Are refused by the name of the field, and nothing is changed."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await _over(d.service)
        answer = await client.patch("/v1/sessions/old", content=body)
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "bad_message"
        assert names in answer.json()["error"]["message"]
        assert len(await d.service.journal.events("old")) == 3

    visit(test)


def test_a_body_that_does_not_end(visit) -> None:
    """Is refused at a megabyte."""

    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        answer = await client.patch("/v1/sessions/talk", content=endless())
        assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"

    visit(test)


def test_deleting_a_session_that_is_over(visit) -> None:
    """Leaves nothing of it."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await _over(d.service)
        assert (await client.delete("/v1/sessions/old")).status_code == 204
        for path in ("", "/transcript.txt", "/events"):
            assert (await client.get(f"/v1/sessions/old{path}")).status_code == 404
        assert (await client.delete("/v1/sessions/old")).status_code == 404

    visit(test)


def test_deleting_a_live_session(visit, producer, pcm) -> None:
    """Sends its producer away and leaves nothing of it, whatever was on its way to the journal."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        async with producer(d.url) as p:
            await _speak(p, pcm)
            assert (await client.delete("/v1/sessions/reading")).status_code == 204
            assert await p.closed() == 4404
        await asyncio.sleep(0.1)
        assert (await client.get("/v1/sessions/reading")).status_code == 404
        assert "reading" not in d.service.drivers
        assert await d.service.journal.events("reading") == []

    visit(test)


def test_speakers_in_a_transcript(visit) -> None:
    """Are there as soon as an event names them."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await _over(d.service, finals=1)
        final = _final(1).model_copy(update={"seq": 3, "utterance": 2, "speaker": SpeakerLabel(id="S1")})
        await d.service.journal.append("old", [final], 9 * 16_000, Ledger())
        data = json.loads((await client.get("/v1/sessions/old/transcript.json")).text)
        assert data["utterances"][1]["speaker"] == {"id": "S1", "settled": False}

    visit(test)


def test_a_person_confirms_a_name_that_was_recognised(visit) -> None:
    """It is the person's word from then on, without a confidence; to say it again changes nothing."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await _over(d.service, finals=1)
        label = SpeakerLabel(id="S1", name="Nell", confidence=0.7)
        final = _final(1).model_copy(update={"seq": 3, "utterance": 2, "speaker": label})
        await d.service.journal.append("old", [final], 9 * 16_000, Ledger())
        for _ in range(2):
            answer = await client.patch("/v1/sessions/old", json={"speakers": {"S1": "Nell"}})
            (speaker,) = answer.json()["speakers"]
            assert speaker["name"] == "Nell" and speaker["confidence"] is None
            assert answer.json()["seq"] == 4

    visit(test)
