"""`/v1/jobs`: what has become of recordings that were sent as jobs."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import JSONResponse, Response

from daemon.event_stream import STILL_HERE, EventStream, event, within_patience
from daemon.jobs import Job, Jobs, State
from streaming.errors import BadMessage

EVENTS = {State.DONE: "done", State.FAILED: "error", State.CANCELLED: "error"}
RETRY = "retry: 2000\n\n"
MAX_DIGITS = 16


def create_router(jobs: Jobs) -> APIRouter:
    """The paths; whoever mounts them sees to it that only those admitted arrive."""
    router = APIRouter(prefix="/v1/jobs", tags=["recordings"])

    @router.get("", summary="Jobs, newest first, without their results")
    async def listed() -> dict[str, Any]:
        return {"jobs": [job.summary() for job in jobs.all()]}

    @router.get(
        "/{job}",
        summary="One job: how far it is, and its result once it is done",
        response_class=Response,
        responses={200: {"content": {"application/json": {}}}},
    )
    async def one(job: str) -> Response:
        return Response(jobs.get(job).to_json(), media_type="application/json")

    @router.get(
        "/{job}/events",
        summary="Follow a job as Server-Sent Events: progress, then done or error",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def events(
        job: str,
        after: Annotated[str | None, Query(description="Only what is newer than this event's id.")] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        found = jobs.get(job)
        seen = _number(last_event_id or after or "0")  # the header is newer than the URL it comes with
        if found.over and seen >= found.revision:
            return Response(status_code=204)  # the one answer that makes an EventSource stay away
        return EventStream(lambda: _events(found, seen))

    @router.delete("/{job}", status_code=204, summary="Cancel a job, or forget its result")
    async def cancel(job: str) -> Response:
        jobs.cancel(job)
        return Response(status_code=204)

    return router


def accepted(job: Job) -> Response:
    """202: where to ask for it."""
    where = f"/v1/jobs/{job.id}"
    return JSONResponse({**job.summary(), "url": where}, 202, headers={"location": where})


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise BadMessage(f"after: {text[:40]!r} is no id of an event; send a whole number.", "after")
    return int(text)


async def _events(job: Job, seen: int) -> AsyncGenerator[str, None]:
    """Progress is a state: whoever reads slowly, or comes back, gets the newest."""
    yield RETRY
    while True:
        if job.revision > seen:
            seen = job.revision
            kind = EVENTS.get(job.state, "progress")
            yield event(job.to_json() if job.over else json.dumps(job.summary()), kind, seen)
        if job.over:
            return
        after = seen
        if await within_patience(lambda: job.news(after)) is None:  # noqa: B023 it is awaited here
            yield STILL_HERE
