"""`/v1/voices`: the people who are labelled by name. Their voiceprints never leave by this way."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from daemon.sessions_api import SpeakerId, inline_schema, read_json
from daemon.voice_store import LONGEST_NAME, Enrolled, checked
from npu.enrolment import LEAST_S
from streaming.errors import BadMessage, UnknownSession
from streaming.events import Record

if TYPE_CHECKING:
    from daemon.service import Service

CONSENT = "stated to the daemon when a session's speaker was enrolled"


class VoiceSummary(Record):
    """Somebody who is enrolled."""

    name: str
    model: str  # that made the voiceprint
    usable: bool  # by the model of this daemon
    seconds: float  # of speech behind the voiceprint
    enrolled: float  # unix seconds
    consent: str  # how it was noted


class VoiceList(Record):
    """In order of enrolment."""

    recognised: bool  # whether sessions are labelled by these names: [speakers] recognise
    voices: tuple[VoiceSummary, ...]


class VoiceEnrolment(Record):
    """A speaker of a session is to be known by name."""

    name: Annotated[str, Field(max_length=4 * LONGEST_NAME)]
    session: str
    speaker: SpeakerId
    consent: bool = False  # the person agrees
    replace: bool = False  # the voice that has the name already


def create_router(service: Service) -> APIRouter:
    """The paths; whoever mounts them sees to it that only those admitted arrive."""
    router = APIRouter(tags=["voices"])
    speakers = service.speakers

    @router.get("/v1/voices", summary="The people who are labelled by name")
    async def voices() -> VoiceList:
        enrolled = await asyncio.to_thread(speakers.store.voices)
        return VoiceList(
            recognised=service.config.speakers.recognise, voices=tuple(_summary(each) for each in enrolled)
        )

    @router.post(
        "/v1/voices",
        status_code=201,
        summary="Label a speaker of a session by name, from now on and in later sessions",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": inline_schema(VoiceEnrolment)}},
            }
        },
    )
    async def enrol(request: Request) -> VoiceSummary:
        wanted = await read_json(request, VoiceEnrolment)
        name = checked(wanted.name)
        if not wanted.consent:
            raise BadMessage(
                "consent: a voice is enrolled only when its owner agrees; ask, and then send true."
            )
        if await service.journal.session(wanted.session) is None:
            raise UnknownSession(
                f"No session is named {wanted.session!r}; GET /v1/sessions lists those there are."
            )
        voice = speakers.heard.voice(wanted.session, wanted.speaker)
        if voice.seconds < LEAST_S:
            raise BadMessage(
                f"speaker: {wanted.speaker} has spoken alone for {voice.seconds:.1f} s and {LEAST_S:g} s are needed; "
                "try again when there is more."
            )
        enrolled = Enrolled.of(name, voice.centroid, voice.seconds, time.time(), CONSENT)
        await asyncio.to_thread(speakers.store.add, enrolled, wanted.replace)
        speakers.refresh()
        return _summary(enrolled)

    @router.delete("/v1/voices/{name:path}", status_code=204, summary="Forget somebody's voice")
    async def remove(name: str) -> Response:
        await asyncio.to_thread(speakers.store.remove, checked(name))
        speakers.refresh()
        return Response(status_code=204)

    return router


def _summary(voice: Enrolled) -> VoiceSummary:
    return VoiceSummary(**voice.model_dump(exclude={"voiceprint"}), usable=voice.usable)
