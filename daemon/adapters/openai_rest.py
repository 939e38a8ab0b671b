"""OpenAI's `POST /v1/audio/transcriptions` and `/v1/audio/translations`, so that its clients work with this daemon."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from daemon.adapters.openai_answers import answer
from daemon.adapters.openai_requests import LISTS, TranscriptionRequest, TranslationRequest
from daemon.adapters.openai_stream import TextStream
from daemon.event_stream import EventStream
from daemon.recordings_api import multipart
from daemon.uploads import Uploads


def create_router(uploads: Uploads) -> APIRouter:
    """The paths; whoever mounts them sees to it that only those admitted arrive."""
    router = APIRouter(tags=["recordings"])

    @router.post(
        "/v1/audio/transcriptions",
        summary="Transcribe a recording, as OpenAI's API does",
        response_class=Response,
        openapi_extra={"requestBody": multipart(TranscriptionRequest, LISTS)},
    )
    async def transcriptions(request: Request) -> Response:
        async with AsyncExitStack() as held:
            form = await held.enter_async_context(uploads.received(request))
            wanted = form.read(TranscriptionRequest, LISTS)
            asked = await run_in_threadpool(wanted.asked)
            if wanted.stream:
                work = await held.enter_async_context(uploads.submitted(request, form, asked))
                stream = TextStream(work)
                return EventStream(stream.events, held.pop_all())
            transcript = await uploads.transcribe(request, form, asked)
        return answer(transcript, wanted.response_format, wanted.timestamp_granularities)

    @router.post(
        "/v1/audio/translations",
        summary="Translate a recording into English, as OpenAI's API does",
        response_class=Response,
        openapi_extra={"requestBody": multipart(TranslationRequest)},
    )
    async def translations(request: Request) -> Response:
        async with uploads.received(request) as form:
            wanted = form.read(TranslationRequest)
            transcript = await uploads.transcribe(request, form, wanted.asked())
        return answer(transcript, wanted.response_format, task="translate")

    return router
