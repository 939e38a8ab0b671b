"""Models that come when they are named and go when nobody uses them, with loaders whose speed the test decides."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from contextlib import asynccontextmanager
from typing import Any

import pytest

from daemon.models import Known, Lease, Models, Shelf
from npu.scripted import ScriptedTranscriber
from npu.transcriber import Transcriber
from streaming.errors import ModelError, ModelsFull, Restarting, StateError, UnknownModel


class Named(ScriptedTranscriber):
    """A scripted model under a name of its own."""

    def __init__(self, name: str, delay_s: float = 0.0) -> None:
        super().__init__([], delay_s)
        self.name = name


class Store:
    """Installed models, and a door that loading waits at."""

    def __init__(self, *names: str, delay_s: float = 0.0) -> None:
        self.names = names
        self.door = threading.Event()
        self.door.set()
        self.loaded: list[str] = []
        self.failing = False
        self._delay_s = delay_s

    def load(self, name: str) -> Transcriber:
        self.loaded.append(name)
        assert self.door.wait(10)
        if self.failing:
            raise ModelError(f"{name} lacks a tensor")
        return Named(name, self._delay_s)

    @property
    def shelf(self) -> Shelf:
        return Shelf(lambda: [Known(name) for name in self.names], self.load)


@asynccontextmanager
async def _models(store: Store, most: int = 3, idle_unload_s: float = 600.0, delay_s: float = 0.0) -> Any:
    models = Models(Named("default", delay_s), store.shelf, most, idle_unload_s, max_step_s=1.5)
    try:
        yield models
    finally:
        store.door.set()
        await models.close()


def _names(models: Models) -> list[str]:
    return [each.name for each in models.resident]


def test_the_default_model() -> None:
    """Is there at once, by its name or by none, and never goes."""

    async def main() -> None:
        store = Store()
        async with _models(store, most=1, idle_unload_s=0.001) as models:
            for name in (None, "default"):
                with await models.lease(name) as lease:
                    assert lease.transcriber is models.default and lease.weight == 1.0
            await asyncio.sleep(0.01)
            models.tick()
            assert _names(models) == ["default"] and not store.loaded

    asyncio.run(main())


def test_several_who_ask() -> None:
    """Share one loading, during which the event loop and the default model go on."""

    async def main() -> None:
        store = Store("other")
        store.door.clear()
        async with _models(store) as models:
            asking = [asyncio.ensure_future(models.lease("other")) for _ in range(3)]
            await asyncio.sleep(0.05)
            begun = time.monotonic()
            (await models.lease()).release()
            assert time.monotonic() - begun < 0.1 and _names(models) == ["default"]
            store.door.set()
            leases: list[Lease] = await asyncio.gather(*asking)
            assert store.loaded == ["other"] and _names(models) == ["default", "other"]
            assert len({id(lease.transcriber) for lease in leases}) == 1
            (await models.lease("other")).release()
            assert store.loaded == ["other"]

    asyncio.run(main())


def test_an_idle_model(eventually) -> None:
    """Is unloaded once the last who used it has gone for long enough; its memory is given back."""

    async def main() -> None:
        async with _models(Store("other"), idle_unload_s=0.1) as models:
            first, second = await models.lease("other"), await models.lease("other")
            gone = weakref.ref(first.transcriber)
            first.release()
            first.release()  # counts once
            await asyncio.sleep(0.15)
            models.tick()
            assert _names(models) == ["default", "other"]  # it is in use
            second.release()
            models.tick()
            assert _names(models) == ["default", "other"]  # not for long enough
            await asyncio.sleep(0.15)
            models.tick()
            assert _names(models) == ["default"]
            del first, second
            await eventually(lambda: gone() is None)

    asyncio.run(main())


def test_a_released_model(eventually, monkeypatch) -> None:
    """Goes although what is over still has its lease, and gives its memory back without the collector."""
    given_back = threading.Event()
    monkeypatch.setattr("daemon.models.give_back", given_back.set)
    monkeypatch.setattr("daemon.models.gc.collect", lambda: pytest.fail("the collector stops everybody"))

    async def main() -> None:
        async with _models(Store("other"), idle_unload_s=0.001) as models:
            with await models.lease("other") as lease:
                gone = weakref.ref(lease.transcriber)
            assert lease.transcriber is gone()
            await asyncio.sleep(0.01)
            models.tick()
            await eventually(given_back.is_set)
            assert gone() is None
            with pytest.raises(StateError):
                _ = lease.transcriber

    asyncio.run(main())


def test_a_model_in_a_cycle(eventually) -> None:
    """Is collected at once: its memory must not wait for the collector's turn."""

    async def main() -> None:
        async with _models(Store("other"), idle_unload_s=0.001) as models:
            with await models.lease("other") as lease:
                cycle: list[Any] = [lease.transcriber]
                cycle.append(cycle)
                gone = weakref.ref(lease.transcriber)
            del cycle
            await asyncio.sleep(0.01)
            models.tick()
            await eventually(lambda: gone() is None)

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_models_that_are_kept() -> None:
    """With 0, what is loaded stays."""

    async def main() -> None:
        async with _models(Store("other"), idle_unload_s=0) as models:
            (await models.lease("other")).release()
            models.tick()
            assert _names(models) == ["default", "other"]

    asyncio.run(main())


def test_more_than_there_is_room_for() -> None:
    """The model that was idle for longest gives way; where all are in use the next one is refused."""

    async def main() -> None:
        async with _models(Store("a", "b", "c"), most=3) as models:
            a, b = await models.lease("a"), await models.lease("b")
            with pytest.raises(ModelsFull, match="default, a, b are in use") as refusal:
                await models.lease("c")
            assert refusal.value.retry_after_s > 0
            b.release()
            a.release()
            c = await models.lease("c")
            assert _names(models) == ["default", "a", "c"]
            c.release()

    asyncio.run(main())


def test_a_model_nobody_knows() -> None:
    """Is refused with those that are installed, and nothing is loaded."""

    async def main() -> None:
        store = Store("whisper-base")
        async with _models(store) as models:
            with pytest.raises(UnknownModel, match="default, whisper-base"):
                await models.lease("whisper-bass")
            with pytest.raises(UnknownModel):
                await models.lease("../../etc/passwd")
            assert not store.loaded

    asyncio.run(main())


@pytest.mark.parametrize("error", [ModelError("tensor missing"), MemoryError(), RuntimeError("vendor")])
def test_a_model_that_is_broken(error: Exception) -> None:
    """Is an error for all who wait, takes no place, and is tried again when it is named again."""

    async def main() -> None:
        outcomes: list[Any] = [error, Named("other")]

        def load(name: str) -> Transcriber:
            time.sleep(0.2)
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            found: Transcriber = outcome
            return found

        models = Models(Named("default"), Shelf(lambda: [Known("other")], load), 2, 0, 1.5)
        failed = await asyncio.gather(models.lease("other"), models.lease("other"), return_exceptions=True)
        assert all(isinstance(each, ModelError) for each in failed) and _names(models) == ["default"]
        (await models.lease("other")).release()
        await models.close()

    asyncio.run(main())


def test_one_who_leaves_while_it_is_loaded() -> None:
    """Takes nobody's model away, and holds none."""

    async def main() -> None:
        store = Store("other")
        store.door.clear()
        async with _models(store, idle_unload_s=0.01) as models:
            leaving, staying = (asyncio.ensure_future(models.lease("other")) for _ in range(2))
            await asyncio.sleep(0.05)
            leaving.cancel()
            store.door.set()
            lease = await staying
            assert leaving.cancelled()
            lease.release()
            await asyncio.sleep(0.02)
            models.tick()
            assert _names(models) == ["default"]

    asyncio.run(main())


def test_a_shutdown() -> None:
    """Who waits for a model is told at once, however long the loading takes; nothing is loaded afterwards."""

    async def main() -> None:
        store = Store("other", "another")
        store.door.clear()
        async with _models(store) as models:
            asking = asyncio.ensure_future(models.lease("other"))
            await asyncio.sleep(0.05)
            models.stop()
            with pytest.raises(Restarting):
                await asyncio.wait_for(asking, 1)
            with pytest.raises(Restarting):
                await models.lease("another")
            store.door.set()

    asyncio.run(main())


def test_weights() -> None:
    """A slower model counts for as much more as it was measured to take; a faster one for no less than one."""

    async def main() -> None:
        async with _models(Store("slow", delay_s=0.1), delay_s=0.01) as models:
            with await models.lease("slow") as lease:
                assert 4 < lease.weight < 12
        async with _models(Store("fast"), delay_s=0.05) as models:
            with await models.lease("fast") as lease:
                assert lease.weight == 1.0

    asyncio.run(main())
