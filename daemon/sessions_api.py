"""`/v1/sessions`: what there is, its transcripts, its edits, its end. And the tickets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, ValidationError

from daemon.auth import bearer
from daemon.driver import SessionDriver
from daemon.journal import SessionRecord
from streaming.errors import BadMessage, SessionBusy, StateError, TooLarge, UnknownSession
from streaming.events import Ledger, Record, Revise, SpeakerLabel, Utterance
from streaming.protocol import explain
from streaming.transcript import apply, to_json, to_md, to_srt, to_txt, to_vtt
from streaming.window import SAMPLE_RATE

if TYPE_CHECKING:
    from daemon.service import Service

MAX_BODY_BYTES = 1 << 20
EDIT_ATTEMPTS = 5

Export = Callable[[str | None, Sequence[Utterance], bool], str]
EXPORTS: dict[str, tuple[str, Export]] = {
    "json": ("application/json", to_json),
    "srt": ("application/x-subrip; charset=utf-8", to_srt),
    "vtt": ("text/vtt; charset=utf-8", to_vtt),
    "txt": ("text/plain; charset=utf-8", to_txt),
    "md": ("text/markdown; charset=utf-8", to_md),
}

T = TypeVar("T", bound=Record)
SpeakerId = Annotated[str, Field(pattern=r"^S[1-9][0-9]{0,5}$")]


class SessionSummary(Record):
    """A session in a list."""

    session: str
    title: str | None
    created: float  # unix seconds
    model: str
    language: str
    live: bool  # not yet over: a producer sends, or may come back
    seq: int  # last durable event
    decided_s: float  # seconds of audio that are final, silent, suppressed or a gap
    backlog_s: float | None  # undecided speech, of sessions in this daemon's hands
    viewers: int
    ledger: Ledger


class SessionList(Record):
    """Sessions, newest first."""

    sessions: tuple[SessionSummary, ...]


class SpeakerSummary(SpeakerLabel):
    """A speaker of a session."""

    seconds: float  # of all lines with this label


class SessionDetail(SessionSummary):
    """A session with all that is final in it."""

    utterances: tuple[Utterance, ...]
    speakers: tuple[SpeakerSummary, ...]  # in order of appearance


class Edit(Record):
    """A person's text for an utterance."""

    utterance: int
    text: str = Field(max_length=10_000)


class SessionChange(Record):
    """What can be changed of a session. Left out: stays."""

    title: str | None = Field(default=None, max_length=200)
    utterances: tuple[Edit, ...] = Field(default=(), max_length=1_000)
    speakers: dict[SpeakerId, Annotated[str, Field(max_length=100)] | None] = Field(
        default={}, max_length=100
    )  # a speaker's name; null or "" takes it away


class TicketIssued(Record):
    """A ticket for one connection: `?ticket=`."""

    ticket: str
    expires_in_s: float


def create_router(service: Service) -> APIRouter:
    """The paths; whoever mounts them sees to it that only those admitted arrive."""
    router = APIRouter(tags=["sessions"])
    editing = asyncio.Lock()  # revisions are numbered from what the journal holds

    @router.get("/v1/sessions", summary="Sessions, newest first")
    async def sessions(limit: Annotated[int, Query(ge=1, le=1_000)] = 200) -> SessionList:
        records = await service.journal.sessions(limit)
        return SessionList(sessions=tuple(SessionSummary(**_summary(service, record)) for record in records))

    @router.get("/v1/sessions/{session}", summary="One session and its text so far")
    async def session(session: str) -> SessionDetail:
        return await _detail(service, session)

    @router.patch(
        "/v1/sessions/{session}",
        summary="Change the title, the text of utterances, or the names of speakers",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": inline_schema(SessionChange)}},
            }
        },
    )
    async def change(session: str, request: Request) -> SessionDetail:
        wanted = await read_json(request, SessionChange)
        record = await _existing(service, session)
        async with editing:
            await _edit(service, record, wanted)
        if "title" in wanted.model_fields_set:
            await service.journal.set_title(session, wanted.title)
        return await _detail(service, session)

    @router.delete(
        "/v1/sessions/{session}", status_code=204, summary="Forget a session and its text, live or over"
    )
    async def delete(session: str) -> Response:
        await _existing(service, session)
        service.forget(session)  # a live one is not finished first: what is deleted need not become text
        await service.journal.delete(session)
        return Response(status_code=204)

    @router.get(
        "/v1/sessions/{session}/transcript.{kind}",
        summary="The text so far as json, srt, vtt, txt or md",
        response_class=Response,
        responses={200: {"content": {kind.partition(";")[0]: {} for kind, _ in EXPORTS.values()}}},
    )
    async def transcript(session: str, kind: str) -> Response:
        if kind not in EXPORTS:
            raise UnknownSession(f"There is no transcript.{kind}; take one of {', '.join(EXPORTS)}.")
        record = await _existing(service, session)
        utterances = apply(await service.journal.events(session))
        media_type, export = EXPORTS[kind]
        return Response(
            await asyncio.to_thread(export, record.title, utterances, not record.ended),
            media_type=media_type,
            headers={"content-disposition": f'inline; filename="{record.id}.{kind}"'},
        )

    @router.post("/v1/tickets", summary="A ticket that admits once, for a minute", tags=["access"])
    async def ticket(request: Request) -> TicketIssued:
        if service.gatekeeper.wants_token:  # a ticket must not beget tickets
            service.gatekeeper.admit(bearer(request.headers.get("authorization")), None, None)
        issued = service.gatekeeper.issue_ticket()
        return TicketIssued(ticket=issued.ticket, expires_in_s=issued.expires_in_s)

    return router


def inline_schema(kind: type[Record]) -> dict[str, Any]:
    """The JSON schema of a message without references, to stand inside an OpenAPI document."""
    schema = kind.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, dict):
            if name := part.get("$ref"):
                return inlined(definitions[name.rpartition("/")[2]])
            return {key: inlined(value) for key, value in part.items()}
        return [inlined(item) for item in part] if isinstance(part, list) else part

    return cast(dict[str, Any], inlined(schema))


async def read_json(request: Request, kind: type[T]) -> T:
    """The body as a message of that kind; TooLarge, or BadMessage naming the field that is wrong."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(
                f"The request is larger than {MAX_BODY_BYTES} bytes; send fewer changes at a time."
            )
    try:
        return kind.model_validate_json(bytes(body))
    except ValidationError as error:
        raise BadMessage(explain(error)) from error


async def _existing(service: Service, session: str) -> SessionRecord:
    record = await service.journal.session(session)
    if record is None:
        raise UnknownSession(f"No session is named {session!r}; GET /v1/sessions lists those there are.")
    return record


async def _detail(service: Service, session: str) -> SessionDetail:
    record = await _existing(service, session)
    utterances = tuple(apply(await service.journal.events(session)))
    return SessionDetail(**_summary(service, record), utterances=utterances, speakers=_speakers(utterances))


def _speakers(utterances: Sequence[Utterance]) -> tuple[SpeakerSummary, ...]:
    """Who has spoken, as their last line is labelled, and for how long."""
    found: dict[str, SpeakerSummary] = {}
    for line in utterances:
        if line.speaker is not None:
            before = found[line.speaker.id].seconds if line.speaker.id in found else 0.0
            seconds = round(before + line.end - line.start, 3)
            found[line.speaker.id] = SpeakerSummary(**line.speaker.model_dump(), seconds=seconds)
    return tuple(found.values())


def _summary(service: Service, record: SessionRecord) -> dict[str, Any]:
    driver = service.drivers.get(record.id)
    return {
        "session": record.id,
        "title": record.title,
        "created": record.created,
        "model": record.model,
        "language": record.language,
        "live": not record.ended,
        "seq": record.last_seq,
        "decided_s": round(record.decided_sample / SAMPLE_RATE, 3),
        "backlog_s": None if driver is None else round(driver.backlog_s, 3),
        "viewers": service.hub.viewers_of(record.id),
        "ledger": record.ledger,
    }


async def _edit(service: Service, record: SessionRecord, wanted: SessionChange) -> None:
    """Revises what is final: through the driver where the session is live, else in the journal."""
    for _ in range(EDIT_ATTEMPTS):  # a session may end, or come back to life, between reading and writing
        changes = _changes(apply(await service.journal.events(record.id)), wanted)
        if not changes:
            return
        with contextlib.suppress(StateError):
            if driver := service.drivers.get(record.id):
                for change in changes:
                    _change_live(driver, change)
                await driver.flush()
            else:
                await _change_in_journal(service, record.id, changes)
    raise SessionBusy(f"Session {record.id!r} changes faster than it can be edited; try again.")


def _changes(lines: Sequence[Utterance], wanted: SessionChange) -> list[Revise]:
    """The revisions that make a session what is wanted, not yet numbered; BadMessage where they cannot."""
    known = {line.utterance: line for line in lines}
    texts = {edit.utterance: edit.text for edit in wanted.utterances}
    if unknown := texts.keys() - known.keys():
        raise BadMessage(f"utterances: {min(unknown)} is not final yet, or does not exist.")
    labels = {line.speaker.id: line.speaker for line in lines if line.speaker is not None}
    names = {speaker: (name or "").strip() or None for speaker, name in wanted.speakers.items()}
    if strangers := names.keys() - labels.keys():
        raise BadMessage(f"speakers: {min(strangers)} has no line in this session.")
    edits = [
        Revise(seq=0, utterance=number, rev=known[number].rev + 1, reason="edited", text=text)
        for number, text in texts.items()
        if known[number].text != text
    ]
    return edits + [
        Revise(seq=0, reason="named", speaker=SpeakerLabel(id=speaker, name=name, settled=True))
        for speaker, name in names.items()
        if labels[speaker].name != name or labels[speaker].confidence is not None  # a person confirms a voice
    ]


def _change_live(driver: SessionDriver, change: Revise) -> None:
    if change.utterance is not None:
        driver.revise(change.utterance, change.rev or 1, change.text or "")
    elif change.speaker is not None:
        driver.rename(change.speaker.id, change.speaker.name)


async def _change_in_journal(service: Service, session: str, changes: Sequence[Revise]) -> None:
    async with service.reviving:
        if session in service.drivers:
            raise StateError(f"Session {session!r} was resumed.")
        record = await _existing(service, session)
        events = [
            change.model_copy(update={"seq": seq}) for seq, change in enumerate(changes, record.last_seq + 1)
        ]
        await service.journal.append(session, events, record.decided_sample, record.ledger)
    if service.hub.viewers_of(session):  # someone waits for the session to go on
        for event in events:
            service.hub.publish(session, event)
