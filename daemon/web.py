"""The app: every HTTP path, and the two WebSockets, around one service."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, RedirectResponse, Response

from daemon import (
    jobs_api,
    metrics,
    models_api,
    pages,
    recordings_api,
    refusals,
    sessions_api,
    viewers,
    voices_api,
    webfiles,
)
from daemon.adapters import openai_rest
from daemon.auth import bearer
from daemon.guard import Guard
from daemon.jobs import Jobs
from daemon.sockets import stream_endpoint
from daemon.uploads import Uploads
from npu.acceleration import of_all
from npu.backends.onnx import described
from streaming.errors import JournalError, Overloaded

if TYPE_CHECKING:
    from daemon.service import Service

ATTRIBUTIONS = (
    {
        "name": "Moonshine tiny (English)",
        "use": "speech recognition",
        "by": "Moonshine AI",
        "license": "MIT",
        "source": "https://github.com/moonshine-ai/moonshine",
    },
    {
        "name": "Silero VAD",
        "use": "voice activity detection",
        "by": "Silero Team",
        "license": "MIT",
        "source": "https://github.com/snakers4/silero-vad",
    },
    {
        "name": "pyannote community-1",
        "use": "speaker segmentation and voiceprints",
        "by": "pyannote",
        "license": "CC BY 4.0",
        "source": "https://huggingface.co/pyannote/speaker-diarization-community-1",
    },
)


def create_app(service: Service) -> FastAPI:
    """Every path of the protocol; `service` is already running, and outlives the app."""
    origins = list(service.config.server.allowed_origins)
    cors = [Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])]
    app = FastAPI(
        title="Amanuensis",
        version=service.version,
        docs_url=None,  # its page would load from another host
        redoc_url=None,
        middleware=[Middleware(Guard, gatekeeper=service.gatekeeper), *(cors if origins else [])],
    )
    app.state.service = service
    refusals.install(app, service.metrics)

    async def admitted(request: Request) -> None:
        service.gatekeeper.admit(
            bearer(request.headers.get("authorization")),
            request.query_params.get("ticket"),
            request.headers.get("origin"),
            request.headers.get("host"),
        )

    app.include_router(_open_paths(service, app))
    app.include_router(_probes(service))
    app.include_router(viewers.create_router(service))  # admits by itself: a ticket is good once
    app.include_router(_inside(service), dependencies=[Depends(admitted)])
    app.include_router(sessions_api.create_router(service), dependencies=[Depends(admitted)])
    uploads = Uploads(service)
    jobs = Jobs(uploads)
    for router in (
        models_api.create_router(service.models),
        recordings_api.create_router(uploads, jobs),
        jobs_api.create_router(jobs),
        openai_rest.create_router(uploads),
        voices_api.create_router(service),
    ):
        app.include_router(router, dependencies=[Depends(admitted)])
    app.add_api_websocket_route("/v1/stream", stream_endpoint)
    return app


def _open_paths(service: Service, app: FastAPI) -> APIRouter:
    """Pages, which hold nothing worth a token."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def overview(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return pages.overview(service.version)
        return JSONResponse({"name": "amanuensis", "version": service.version, "paths": pages.PATHS})

    @router.get("/docs")
    async def docs() -> Response:
        return pages.reference(app.openapi())

    @router.get("/web")
    async def web(request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"web/{query}", 307)  # the page names its files relative to this

    @router.get("/web/{path:path}")
    async def webfile(path: str, request: Request) -> Response:
        return webfiles.serve(path, request)

    @router.get("/favicon.ico")
    async def favicon() -> Response:
        return Response(status_code=204)

    return router


def _probes(service: Service) -> APIRouter:
    router = APIRouter(tags=["probes"])

    @router.get("/health", summary="The daemon is alive")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/ready", summary="The daemon can take a session; 503 with the reason when not")
    async def ready() -> Response:
        reason = await why_not_ready(service)
        if reason is None:
            return JSONResponse({"status": "ready"})
        return refusals.error_response(503, reason, "not_ready")

    return router


async def why_not_ready(service: Service) -> str | None:
    """What keeps the daemon from taking a session, in a sentence."""
    if service.stopping:
        return "The daemon is shutting down."
    try:
        service.scheduler.admit()
        await service.journal.probe()
    except (Overloaded, JournalError) as error:
        return str(error)
    return None


def _inside(service: Service) -> APIRouter:
    """How the daemon is doing: for those admitted."""
    router = APIRouter(tags=["daemon"])

    @router.get("/status", summary="Model, device, load, live sessions, notes")
    async def status() -> dict[str, Any]:
        return status_of(service)

    @router.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def prometheus() -> Response:
        return Response(service.metrics.exposition(), media_type=metrics.CONTENT_TYPE)

    return router


def status_of(service: Service) -> dict[str, Any]:
    """The body of /status. Times in seconds."""
    load = service.scheduler.load
    return {
        "version": service.version,
        "uptime_s": round(time.monotonic() - service.started, 1),
        "models": [
            *({"name": each.name, "device": each.device} for each in service.models.resident),
            *(
                [{"name": "pyannote community-1", "device": described("cpu")}]
                if service.speakers.available
                else []
            ),
        ],
        "npu": dataclasses.asdict(of_all([each.acceleration for each in service.models.resident])),
        "engine": dataclasses.asdict(load),
        "capacity": {"sessions": load.capacity, "free": max(int(load.capacity - load.taken), 0)},
        "sessions": [
            {
                "session": driver.id,
                "title": driver.record.title,
                "attached": driver.attached,
                "backlog_s": round(driver.backlog_s, 3),
                "viewers": service.hub.viewers_of(driver.id),
            }
            for driver in service.drivers.values()
        ],
        "viewers": service.hub.viewers,
        "notes": [*service.notes, *service.speakers.notes],
        "attributions": list(ATTRIBUTIONS),
    }
