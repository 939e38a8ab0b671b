"""`/v1/models`: what can be named as `model`. https://platform.openai.com/docs/api-reference/models"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

from daemon.models import Known, Models
from npu.transcriber import Transcriber
from streaming.errors import UnknownModel
from streaming.events import Record


class ModelSummary(Record):
    """A model, with OpenAI's fields and ours."""

    id: str
    object: Literal["model"] = "model"
    created: int  # unix seconds at which it was installed; 0: it came with the package
    owned_by: str
    installed: bool = True
    resident: bool  # in memory: whoever names it need not wait for it
    default: bool  # what those get who name none
    languages: tuple[str, ...]  # codes; empty where that is known only once it is resident
    translates: bool | None  # into English; None as before


class ModelList(Record):
    """All that are installed, the default one first."""

    object: Literal["list"] = "list"
    data: tuple[ModelSummary, ...]


def create_router(models: Models) -> APIRouter:
    """The paths; whoever mounts them sees to it that only those admitted arrive."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", summary="Models, as OpenAI's API lists them")
    @router.get("/models", summary="The same", include_in_schema=False)
    async def listed() -> ModelList:
        return ModelList(data=tuple(await _summaries(models)))

    @router.get("/v1/models/{model:path}", summary="One of them")
    @router.get("/models/{model:path}", include_in_schema=False)
    async def one(model: str) -> ModelSummary:
        found = await _summaries(models)
        for each in found:
            if each.id == model:
                return each
        names = ", ".join(each.id for each in found)
        raise UnknownModel(f"There is no model {model[:80]!r} here; installed: {names}.", "model")

    return router


async def _summaries(models: Models) -> list[ModelSummary]:
    resident = {each.name: each for each in models.resident}
    return [
        _summary(known, resident.get(known.name), known.name == models.default.name)
        for known in await models.known()
    ]


def _summary(known: Known, transcriber: Transcriber | None, default: bool) -> ModelSummary:
    return ModelSummary(
        id=known.name,
        created=known.created,
        owned_by=known.owner,
        resident=transcriber is not None,
        default=default,
        languages=known.languages if transcriber is None else transcriber.languages,
        translates=None if transcriber is None else transcriber.translates,
    )
