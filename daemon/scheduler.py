"""The scheduler: which session's window goes to the next free worker, how many sessions fit, how often partials come.

Work is pulled. A session that wants something decoded is in `_ready` with its deadline; when a worker is free
the most urgent one is asked for its window, which then holds the newest audio. Finals come before partials,
then whoever has waited longest. A session has one window out at most, by its own construction.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from dataclasses import dataclass
from typing import Protocol

from daemon.models import Lease
from daemon.worker import Result, Workers
from streaming.errors import Overloaded
from streaming.window import Purpose, Window

logger = logging.getLogger("amanuensis.scheduler")

Deadline = tuple[int, float]  # Purpose.value, monotonic time at which it was due; the smaller the more urgent

BUSY, IDLE = 0.7, 0.5  # utilisation above which steps stretch, below which they shrink
LATE_S = 0.3  # a window waiting for longer than this stretches them too
STRETCH, SHRINK = 1.7, 0.7  # factor of the step, a tick
SMOOTHING = 0.6  # weight of the last tick in the utilisation
RETRY_AFTER_S = 5.0


class Client(Protocol):
    """A session, as the scheduler sees it. All methods are called on the event loop."""

    @property
    def lease(self) -> Lease:
        """The model that its windows go to."""

    def deadline(self) -> Deadline | None:
        """What it would like decoded now; None for nothing, or while a window is out."""

    def next_window(self) -> Window:
        """The window `deadline` spoke of."""

    def receive_result(self, result: Result) -> None:
        """The window came back."""

    def stretch(self, step_s: float) -> None:
        """Partials shall come at least this far apart."""


@dataclass(frozen=True)
class Load:
    """How busy the engine is."""

    sessions: int
    taken: float  # of the capacity; a session with a slower model than the default one counts for more
    capacity: int  # sessions beyond which the next one is refused
    workers: int
    busy: int  # workers with a window
    waiting: int  # sessions that want a window decoded
    utilisation: float  # 0..1 of the workers' time
    lag_s: float  # how long the most urgent window has been due
    step_s: float  # distance of partials
    window_s: float  # measured: seconds a worker needs for a window of 4 s


class Scheduler:
    """Deadline order over all sessions, on N workers. Belongs to the event loop that made it."""

    def __init__(self, workers: int, capacity: int, step_s: float, max_step_s: float) -> None:
        self.capacity = capacity
        self.window_s = 0.0
        self.step_s = step_s
        self.utilisation = 0.0
        self.least_step_s, self._most_step_s = step_s, max_step_s
        self._loop = asyncio.get_running_loop()
        self._workers = Workers(workers)
        self._idle = workers
        self._clients: set[Client] = set()
        self._ready: dict[Client, Deadline] = {}
        self._out: dict[Client, Deadline] = {}  # windows with the workers
        self._came_back = asyncio.Event()  # a window did
        self._busy_s = 0.0  # of all workers since the last tick
        self._ticked = time.monotonic()

    # sessions

    @property
    def taken(self) -> float:
        """Of the capacity, in sessions of the default model."""
        return sum(client.lease.weight for client in self._clients)

    def admit(self, weight: float = 1.0) -> None:
        """Overloaded when one more session, of a model of this weight, does not fit; the first one always does."""
        if self._clients and self.taken + weight > self.capacity:
            raise Overloaded(
                f"All {self.capacity} sessions this machine can follow in real time are taken; "
                f"try again in {RETRY_AFTER_S:.0f} s or use another daemon.",
                retry_after_s=RETRY_AFTER_S,
            )

    def add(self, client: Client) -> None:
        """A session begins."""
        self._clients.add(client)
        client.stretch(self.step_s)

    def remove(self, client: Client) -> None:
        """A session is over; what it has out comes back to nobody."""
        self._clients.discard(client)
        self._ready.pop(client, None)

    def wake(self, client: Client) -> None:
        """Something changed in a session: its demand is looked at again."""
        deadline = client.deadline() if client in self._clients else None
        if deadline is None:
            self._ready.pop(client, None)
            return
        self._ready[client] = deadline
        if self._idle:
            self._dispatch()

    # load

    @property
    def load(self) -> Load:
        """As of now."""
        return Load(
            sessions=len(self._clients),
            taken=round(self.taken, 1),
            capacity=self.capacity,
            workers=self._workers.count,
            busy=self._workers.count - self._idle,
            waiting=len(self._ready),
            utilisation=self.utilisation,
            lag_s=self.lag_s,
            step_s=self.step_s,
            window_s=self.window_s,
        )

    @property
    def lag_s(self) -> float:
        """How long the window that waits longest has been due, seconds."""
        oldest = min((due for _, due in self._ready.values()), default=math.inf)
        return max(0.0, time.monotonic() - oldest)

    @property
    def pressed(self) -> bool:
        """A session waits for a worker. May be asked from any thread."""
        return self._idle == 0 and len(self._ready) > 0

    async def quiet(self) -> None:
        """Returns when nothing is being decoded, nor waits for it."""
        while self._ready or self._out:
            self._came_back.clear()
            await self._came_back.wait()

    def tick(self) -> None:
        """Measures the load since the last call, about once a second, and stretches or shrinks the steps."""
        now = time.monotonic()
        elapsed = max(1e-3, now - self._ticked)
        share = min(1.0, self._busy_s / (elapsed * self._workers.count))
        self.utilisation += SMOOTHING * (share - self.utilisation)
        self._busy_s, self._ticked = 0.0, now
        step_s = self.step_s
        if self.utilisation > BUSY or self.lag_s > LATE_S:
            step_s = min(self._most_step_s, step_s * STRETCH)
        elif self.utilisation < IDLE:
            step_s = max(self.least_step_s, step_s * SHRINK)
        if step_s != self.step_s:
            self.step_s = step_s
            for client in tuple(self._clients):
                client.stretch(step_s)
                self.wake(client)  # what it wants depends on the step

    async def close(self) -> None:
        """Nothing is dispatched any more; returns when the workers have ended."""
        self._clients.clear()
        self._ready.clear()
        await asyncio.to_thread(self._workers.close)

    # dispatch

    def _dispatch(self) -> None:
        while self._idle and self._ready:
            client = min(self._ready, key=self._ready.__getitem__)
            deadline = self._ready.pop(client)
            if client.deadline() is None:
                continue  # a longer step has put it off since it was last asked
            window = client.next_window()
            self._idle -= 1
            self._out[client] = deadline
            self._workers.submit(client.lease.transcriber, window, functools.partial(self._report, client))

    def _report(self, client: Client, result: Result) -> None:
        """In the worker's thread: hands the result over to the event loop."""
        try:
            self._loop.call_soon_threadsafe(self._receive, client, result)
        except RuntimeError:
            logger.debug("a result came after the event loop had closed")

    def _receive(self, client: Client, result: Result) -> None:
        self._idle += 1
        self._out.pop(client, None)
        self._busy_s += result.ended - result.began
        try:
            self._dispatch()  # first: the worker must not idle while this result is digested
        finally:  # whatever becomes of the others, a result that is not handed over would block its session
            if client in self._clients:
                client.receive_result(result)  # wakes us for its next demand
            self._came_back.set()


def urgency(purpose: Purpose, due: float) -> Deadline:
    """The deadline of a demand that was due at a monotonic time."""
    return purpose.value, due
