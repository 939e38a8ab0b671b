"""`POST /transcribe`: a recording in, its transcript out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from pydantic import Field

from daemon.sessions_api import inline_schema
from daemon.uploads import Asked, Uploads
from streaming.errors import BadMessage
from streaming.events import Record

if TYPE_CHECKING:
    from daemon.service import Service


class Wish(Record):
    """The fields beside `file`."""

    model: str | None = None  # the daemon's own, or left out
    language: str | None = Field(default=None, max_length=16)
    diarization: bool | None = None  # speaker labels
    enable_diarization: bool | None = None  # the same
    min_speakers: int | None = Field(default=None, ge=1, le=100)
    max_speakers: int | None = Field(default=None, ge=1, le=100)
    word_timestamps: bool = False

    @property
    def speakers(self) -> bool:
        """Speaker labels are wanted."""
        asked = [each for each in (self.diarization, self.enable_diarization) if each is not None]
        return any(asked) if asked else self.min_speakers is not None or self.max_speakers is not None


def create_router(service: Service, uploads: Uploads) -> APIRouter:
    """The path; whoever mounts it sees to it that only those admitted arrive."""
    router = APIRouter(tags=["recordings"])

    @router.post(
        "/transcribe", summary="Transcribe a recording", openapi_extra={"requestBody": multipart(Wish)}
    )
    async def transcribe(request: Request) -> dict[str, Any]:
        async with uploads.received(request) as form:
            wish = form.read(Wish)
            check_model(wish.model, service.transcriber.name)
            check_bounds(wish.min_speakers, wish.max_speakers)
            asked = Asked(
                language=wish.language,
                words=wish.word_timestamps,
                speakers=wish.speakers,
                min_speakers=wish.min_speakers,
                max_speakers=wish.max_speakers,
            )
            transcript = await uploads.transcribe(request, form, asked)
        return transcript.summary(wish.word_timestamps)

    return router


def check_model(wanted: str | None, name: str) -> None:
    """BadMessage where another model is asked for than the daemon's."""
    if wanted not in (None, name):
        raise BadMessage(f"model: this daemon runs {name}; leave `model` out or name that one.", "model")


def check_bounds(least: int | None, most: int | None) -> None:
    """BadMessage where there would be more speakers at least than at most."""
    if least is not None and most is not None and least > most:
        raise BadMessage(f"min_speakers: {least} is more than max_speakers, which is {most}.", "min_speakers")


def multipart(kind: type[Record], lists: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The body of a form with a recording and the fields of a message, for OpenAPI."""
    schema = inline_schema(kind)
    fields = {f"{name}[]" if name in lists else name: value for name, value in schema["properties"].items()}
    file = {"type": "string", "format": "binary", "description": "a recording of any usual kind"}
    body = {**schema, "properties": {"file": file, **fields}}
    body["required"] = ["file", *schema.get("required", [])]
    return {"required": True, "content": {"multipart/form-data": {"schema": body}}}
