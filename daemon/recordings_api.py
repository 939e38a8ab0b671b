"""`POST /transcribe`: a recording in, its transcript out, at once or as a job."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, field_validator
from starlette.responses import JSONResponse, Response

from daemon.asked import Asked
from daemon.jobs import Jobs
from daemon.jobs_api import accepted
from daemon.sessions_api import inline_schema
from daemon.uploads import Uploads
from streaming.errors import BadMessage
from streaming.events import Record
from streaming.window import Task

LISTS = frozenset(("vocabulary",))
MAX_PROMPT = 10_000  # characters; a model hears the end of it
MAX_VOCABULARY = 1_000

Phrase = Annotated[str, Field(max_length=100)]


class Wish(Record):
    """The fields beside `file`."""

    model: str | None = Field(default=None, max_length=200)  # one of GET /v1/models, or left out
    language: str | None = Field(default=None, max_length=40)
    task: Task = "transcribe"
    prompt: str = Field(default="", max_length=MAX_PROMPT)
    temperature: float | None = Field(default=None, ge=0, le=1)
    vocabulary: tuple[Phrase, ...] = Field(default=(), max_length=MAX_VOCABULARY)  # repeated, or with commas
    beam: int = Field(default=1, ge=1, le=16)
    diarization: bool | None = None  # speaker labels
    enable_diarization: bool | None = None  # the same
    min_speakers: int | None = Field(default=None, ge=1, le=100)
    max_speakers: int | None = Field(default=None, ge=1, le=100)
    word_timestamps: bool = False
    as_job: bool = Field(default=False, alias="async")

    @field_validator("vocabulary", mode="before")
    @classmethod
    def _apart(cls, fields: object) -> object:
        return phrases(fields) if isinstance(fields, list) else fields

    @property
    def speakers(self) -> bool:
        """Speaker labels are wanted."""
        asked = [each for each in (self.diarization, self.enable_diarization) if each is not None]
        return any(asked) if asked else self.min_speakers is not None or self.max_speakers is not None

    @property
    def asked(self) -> Asked:
        """The same, of any path; BadMessage where it contradicts itself."""
        check_bounds(self.min_speakers, self.max_speakers)
        return Asked(
            model=self.model,
            language=self.language,
            task=self.task,
            prompt=self.prompt,
            temperature=self.temperature or None,
            vocabulary=self.vocabulary,
            beam=self.beam,
            words=self.word_timestamps,
            speakers=self.speakers,
            min_speakers=self.min_speakers,
            max_speakers=self.max_speakers,
        )


def create_router(uploads: Uploads, jobs: Jobs) -> APIRouter:
    """The paths; whoever mounts them sees to it that only those admitted arrive."""
    router = APIRouter(tags=["recordings"])
    body = {"requestBody": multipart(Wish, LISTS)}

    @router.post("/transcribe", summary="Transcribe a recording", openapi_extra=body)
    @router.post("/api/transcribe", summary="The same", openapi_extra=body)
    async def transcribe(request: Request) -> Response:
        async with AsyncExitStack() as held:
            form = await held.enter_async_context(uploads.received(request))
            wish = form.read(Wish, LISTS)
            if wish.as_job:
                return accepted(await jobs.begin(request, form, wish.asked, held))
            transcript = await uploads.transcribe(request, form, wish.asked)
        return JSONResponse(transcript.summary(wish.word_timestamps))

    @router.post(
        "/v1/jobs", status_code=202, summary="Transcribe a recording, and ask later", openapi_extra=body
    )
    async def job(request: Request) -> Response:
        async with AsyncExitStack() as held:
            form = await held.enter_async_context(uploads.received(request))
            return accepted(await jobs.begin(request, form, form.read(Wish, LISTS).asked, held))

    return router


def phrases(fields: list[str]) -> list[str]:
    """The phrases of a field that comes several times, or holds several with commas; in order, each once."""
    return list(
        dict.fromkeys(phrase for field in fields for each in field.split(",") if (phrase := each.strip()))
    )


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
