"""Models: the transcribers of a daemon, who uses them, and how they come and go.

The default model stays for as long as the daemon. Another one is loaded when somebody names it, once, by a thread of
its own, and stays until nobody has used it for a while, or another one needs its place.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from daemon.calibration import cost_of, measure
from daemon.memory import give_back
from daemon.niceness import step_back
from npu.transcriber import Transcriber
from streaming.errors import AmanuensisError, ModelError, ModelsFull, Restarting, StateError, UnknownModel

logger = logging.getLogger("amanuensis.models")

MEASURED_S = 0.3  # how long a model is measured once it is loaded
RETRY_AFTER_S = 15.0
SHOWN_CHARS = 80  # of a name that nobody knows

Loader = Callable[[str], Transcriber]  # blocks; ModelError


@dataclass(frozen=True)
class Known:
    """A model that is installed."""

    name: str
    languages: tuple[str, ...] = ()  # codes; empty where that is not known before it is loaded
    created: int = 0  # unix seconds at which it was installed; 0: unknown
    owner: str = "amanuensis"  # who publishes it


def _nothing(name: str) -> Transcriber:
    raise ModelError(f"{name} cannot be loaded: this daemon was started with one model only.")


@dataclass(frozen=True)
class Shelf:
    """What could be loaded besides the default model."""

    installed: Callable[[], Sequence[Known]] = tuple  # reads the disk
    load: Loader = _nothing


@dataclass(eq=False)
class _Entry:
    """A model that is resident, or is being loaded."""

    name: str
    settled: asyncio.Event  # it is resident, or could not be loaded
    transcriber: Transcriber | None = None
    failure: AmanuensisError | None = None
    cost: float | None = None  # seconds of a worker for a second of live speech
    users: int = 0  # leases, and askers that wait for it
    idle_since: float = 0.0  # monotonic time at which the last of them went


class Lease:
    """A model in somebody's use: it stays resident until the lease is released, by the call or by leaving a block."""

    def __init__(self, transcriber: Transcriber, weight: float, released: Callable[[], None]) -> None:
        self.weight = weight  # how many sessions of the default model cost what one of this costs; at least 1
        self._held: Transcriber | None = transcriber
        self._seen = weakref.ref(transcriber)
        self._released: Callable[[], None] | None = released

    @property
    def transcriber(self) -> Transcriber:
        """The model; StateError where it was unloaded after the release."""
        found = self._seen()
        if found is None:
            raise StateError("Lease.transcriber: it was released, and the model is unloaded.")
        return found

    def release(self) -> None:
        """It is not needed any more; calling it again is allowed."""
        released, self._released, self._held = self._released, None, None
        if released is not None:
            released()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Models:
    """All models of a daemon. Belongs to the event loop that made it."""

    def __init__(
        self,
        default: Transcriber,
        shelf: Shelf,
        most: int,
        idle_unload_s: float,
        max_step_s: float,
        window_s: float = 0.0,
    ) -> None:
        """most: models resident at once, the default among them; idle_unload_s: 0 keeps what is loaded.

        window_s: measured for the default model, see Calibration; 0 where it was not.
        """
        self.default = default
        self._shelf = shelf
        self._most, self._idle_unload_s, self._max_step_s = most, idle_unload_s, max_step_s
        self._loop = asyncio.get_running_loop()
        first = _Entry(default.name, asyncio.Event(), default)
        first.settled.set()
        if window_s:
            first.cost = cost_of(window_s, max_step_s)
        self._first = first
        self._entries = {default.name: first}
        self._loader = ThreadPoolExecutor(1, "model-loader", initializer=step_back)
        self._stopping = False

    @property
    def resident(self) -> tuple[Transcriber, ...]:
        """The default model first."""
        return tuple(each.transcriber for each in self._entries.values() if each.transcriber is not None)

    async def known(self) -> list[Known]:
        """All that are installed, the default model first."""
        installed = {each.name: each for each in await asyncio.to_thread(self._shelf.installed)}
        default = installed.pop(self.default.name, Known(self.default.name))
        return [default, *installed.values()]

    async def lease(self, name: str | None = None) -> Lease:
        """A model, None for the default one; waits while it is loaded.

        UnknownModel where none of this name is installed, ModelsFull, Restarting; ModelError where it is broken.
        """
        entry = self._entry(name) or await self._opened(name or self.default.name)
        entry.users += 1
        try:
            await entry.settled.wait()
        except BaseException:
            self._release(entry)
            raise
        if entry.transcriber is None:
            self._release(entry)
            raise entry.failure or _restarting()
        return Lease(entry.transcriber, self._weight(entry), lambda: self._release(entry))

    def tick(self) -> None:
        """Now and then: what nobody has used for long enough is unloaded."""
        if self._idle_unload_s:
            overdue = time.monotonic() - self._idle_unload_s
            for entry in self._idle():
                if entry.idle_since <= overdue:
                    self._unload(entry)

    def stop(self) -> None:
        """Nothing is loaded any more; who waits for a model is told to come back."""
        self._stopping = True
        for entry in self._entries.values():
            if not entry.settled.is_set():
                entry.failure = _restarting()
                entry.settled.set()

    async def close(self) -> None:
        """Returns when the loading thread has ended."""
        self.stop()
        await asyncio.to_thread(self._loader.shutdown, cancel_futures=True)

    # inside

    def _entry(self, name: str | None) -> _Entry | None:
        if self._stopping:
            raise _restarting()
        return self._first if name is None else self._entries.get(name)

    async def _opened(self, name: str) -> _Entry:
        """The entry of a model that is loaded from here on, unless somebody was faster."""
        names = [each.name for each in await self.known()]
        if name not in names:
            raise UnknownModel(
                f"There is no model {name[:SHOWN_CHARS]!r} here; installed: {', '.join(names)}. "
                "`amanuensis models pull NAME` installs others.",
                "model",
            )
        if (entry := self._entry(name)) is not None:
            return entry
        self._make_place(name)
        entry = self._entries[name] = _Entry(name, asyncio.Event(), idle_since=time.monotonic())
        logger.info("model %s is being loaded", name)
        self._loader.submit(self._load, entry)
        return entry

    def _make_place(self, name: str) -> None:
        while len(self._entries) >= self._most:
            idle = self._idle()
            if not idle:
                raise ModelsFull(
                    f"{name} would be one model too many: {', '.join(self._entries)} are in use, and this daemon "
                    f"keeps {self._most} at once. Name one of them, or try again in {RETRY_AFTER_S:.0f} s.",
                    RETRY_AFTER_S,
                )
            self._unload(idle[0])

    def _idle(self) -> list[_Entry]:
        """What may be unloaded, the one first that has been idle for longest."""
        free = [each for each in self._entries.values() if not each.users and each.transcriber is not None]
        return sorted((each for each in free if each is not self._first), key=lambda each: each.idle_since)

    def _unload(self, entry: _Entry) -> None:
        logger.info("model %s is unloaded", entry.name)
        del self._entries[entry.name]
        held = [entry.transcriber]
        entry.transcriber = None
        self._loader.submit(
            _let_go, held
        )  # giving back gigabytes takes a moment, which is not the event loop's

    def _release(self, entry: _Entry) -> None:
        entry.users -= 1
        entry.idle_since = time.monotonic()

    def _weight(self, entry: _Entry) -> float:
        if not entry.cost or not self._first.cost:
            return 1.0
        return max(1.0, entry.cost / self._first.cost)

    def _load(self, entry: _Entry) -> None:
        """In the loading thread."""
        begun = time.monotonic()
        try:
            transcriber = self._shelf.load(entry.name)
            own = self._first.cost or self._cost(self.default)
            cost = self._cost(transcriber)
        except AmanuensisError as error:
            self._report(entry, error)
        except Exception as error:  # whatever a vendor's runtime throws
            logger.exception("model %s could not be loaded", entry.name)
            failure = ModelError(
                f"{entry.name} could not be loaded ({type(error).__name__}); the daemon's log has it."
            )
            self._report(entry, failure)
        else:
            logger.info("model %s was loaded in %.1f s", entry.name, time.monotonic() - begun)
            self._report(entry, transcriber, cost, own)

    def _cost(self, transcriber: Transcriber) -> float:
        return cost_of(measure(transcriber, MEASURED_S), self._max_step_s)

    def _report(
        self, entry: _Entry, outcome: Transcriber | AmanuensisError, cost: float = 0.0, own: float = 0.0
    ) -> None:
        """In the loading thread: hands the outcome over to the event loop."""
        try:
            self._loop.call_soon_threadsafe(self._arrived, entry, outcome, cost, own)
        except RuntimeError:
            logger.debug("a model came after the event loop had closed")

    def _arrived(
        self, entry: _Entry, outcome: Transcriber | AmanuensisError, cost: float, own: float
    ) -> None:
        if isinstance(outcome, AmanuensisError):
            logger.warning("model %s could not be loaded: %s", entry.name, outcome)
            entry.failure = outcome
            del self._entries[entry.name]  # the next one who names it tries again
        else:
            entry.transcriber, entry.cost, self._first.cost = outcome, cost, own
            entry.idle_since = time.monotonic()
        entry.settled.set()


def _let_go(held: list[Transcriber | None]) -> None:
    """In the loading thread: the last reference to a model, and its memory, go."""
    gone = weakref.ref(held.pop())
    if gone() is not None:
        gc.collect()  # something that is over refers to it still, and to itself
    give_back()


def _restarting() -> Restarting:
    return Restarting("The daemon is shutting down; try again in a few seconds.")
