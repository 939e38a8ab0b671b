"""The scheduler, with clients that say what they want and a model whose speed is given."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from daemon.calibration import calibrate, capacity_of, choices, cost_of, measure
from daemon.models import Lease
from daemon.scheduler import Deadline, Scheduler, urgency
from daemon.worker import Result
from npu.scripted import ScriptedTranscriber
from streaming.errors import Overloaded
from streaming.window import Hypothesis, Purpose, Window


class Gate:
    """A model that waits to be let through, and remembers the order."""

    name = device = "gate"

    def __init__(self) -> None:
        self.order: list[int] = []
        self.open = threading.Semaphore(0)

    def transcribe(self, window: Window) -> Hypothesis:
        """Blocks until the gate opens."""
        self.order.append(window.utterance)
        self.open.acquire(timeout=5)
        return Hypothesis(words=())


class Client:
    """Wants one window; `number` says who it is."""

    def __init__(self, model: Any, number: int, purpose: Purpose, due: float, weight: float = 1.0) -> None:
        self.lease = Lease(model, weight, lambda: None)
        self.number = number
        self.wanted: Deadline | None = urgency(purpose, due)
        self.results: list[Result] = []
        self.step_s = 0.0

    def deadline(self) -> Deadline | None:
        """What it wants."""
        return self.wanted

    def next_window(self) -> Window:
        """Its window."""
        self.wanted = None
        audio = np.zeros(1_600, np.float32)
        return Window(self.number, 0, audio, (), (), Purpose.FINAL)

    def receive_result(self, result: Result) -> None:
        """Its window came back."""
        self.results.append(result)

    def stretch(self, step_s: float) -> None:
        """Partials thin out."""
        self.step_s = step_s


def _scheduler(workers: int = 1, capacity: int = 10) -> Scheduler:
    return Scheduler(workers, capacity, step_s=0.25, max_step_s=1.5)


def test_the_order() -> None:
    """Finals before partials, then who has waited longest, whoever asked first."""

    async def main() -> None:
        gate = Gate()
        scheduler = _scheduler()
        clients = [
            Client(gate, 0, Purpose.PARTIAL, 9.0),  # finds the worker idle
            Client(gate, 1, Purpose.PARTIAL, 5.0),
            Client(gate, 2, Purpose.PARTIAL, 4.0),
            Client(gate, 3, Purpose.FINAL, 8.0),
            Client(gate, 4, Purpose.FINAL, 7.0),
        ]
        for client in clients:
            scheduler.add(client)
            scheduler.wake(client)
        assert scheduler.load.waiting == 4 and scheduler.load.busy == 1
        gate.open.release(5)
        await asyncio.wait_for(scheduler.quiet(), 5)
        assert gate.order == [0, 4, 3, 2, 1]
        assert all(len(client.results) == 1 for client in clients)
        await scheduler.close()

    asyncio.run(main())


def test_a_demand_that_is_withdrawn() -> None:
    """Is not served; a session that has gone gets nothing back."""

    async def main() -> None:
        gate = Gate()
        scheduler = _scheduler()
        first, second, third = (Client(gate, n, Purpose.FINAL, float(n)) for n in range(3))
        for client in (first, second, third):
            scheduler.add(client)
            scheduler.wake(client)
        second.wanted = None
        scheduler.wake(second)
        scheduler.remove(first)
        scheduler.remove(third)
        gate.open.release(3)
        await asyncio.wait_for(scheduler.quiet(), 5)
        assert gate.order == [0] and not first.results and not second.results
        await scheduler.close()

    asyncio.run(main())


def test_a_demand_that_has_gone_unnoticed() -> None:
    """Is passed over, and takes neither the worker nor anyone's result with it."""

    async def main() -> None:
        gate = Gate()
        scheduler = _scheduler()
        first, second, third = (Client(gate, n, Purpose.PARTIAL, float(n)) for n in range(3))
        for client in (first, second, third):
            scheduler.add(client)
            scheduler.wake(client)
        second.wanted = None  # as when its steps were stretched
        gate.open.release(3)
        await asyncio.wait_for(scheduler.quiet(), 5)
        assert gate.order == [0, 2] and first.results and third.results and not second.results
        await scheduler.close()

    asyncio.run(main())


def test_admission() -> None:
    """The session beyond the capacity is refused, with when to try again."""

    async def main() -> None:
        scheduler = _scheduler(capacity=2)
        clients = [Client(Gate(), n, Purpose.PARTIAL, 0.0) for n in range(2)]
        for client in clients:
            scheduler.admit()
            scheduler.add(client)
        with pytest.raises(Overloaded) as refusal:
            scheduler.admit()
        assert refusal.value.retry_after_s > 0
        scheduler.remove(clients[0])
        scheduler.admit()
        await scheduler.close()

    asyncio.run(main())


def test_a_slower_model() -> None:
    """Takes more of the capacity; one that would take more than there is has the machine alone."""

    async def main() -> None:
        scheduler = _scheduler(capacity=4)
        scheduler.admit(6.0)  # nobody else is there
        slow = Client(Gate(), 0, Purpose.PARTIAL, 0.0, weight=2.5)
        scheduler.add(slow)
        scheduler.admit()
        assert scheduler.load.taken == 2.5 and scheduler.load.sessions == 1
        with pytest.raises(Overloaded):
            scheduler.admit(2.5)
        scheduler.add(Client(Gate(), 1, Purpose.PARTIAL, 0.0))
        with pytest.raises(Overloaded):
            scheduler.admit()
        scheduler.remove(slow)
        scheduler.admit(2.5)
        await scheduler.close()

    asyncio.run(main())


def test_windows_of_two_models() -> None:
    """Each goes to the model of its session, whichever worker has it."""

    async def main() -> None:
        first, second = Gate(), Gate()
        scheduler = _scheduler(workers=2)
        clients = [Client(model, at, Purpose.FINAL, 0.0) for at, model in enumerate((first, second, first))]
        for client in clients:
            scheduler.add(client)
            scheduler.wake(client)
        first.open.release(2)
        second.open.release()
        await asyncio.wait_for(scheduler.quiet(), 5)
        assert first.order == [0, 2] and second.order == [1]
        await scheduler.close()

    asyncio.run(main())


def test_steps() -> None:
    """Stretch while the workers are busy, up to the most, and shrink back to the least when they are idle."""

    async def main() -> None:
        scheduler = _scheduler()
        client = Client(ScriptedTranscriber([], delay_s=0.02), 0, Purpose.PARTIAL, time.monotonic())
        scheduler.add(client)
        assert client.step_s == 0.25

        def again(result: Result) -> None:
            client.wanted = urgency(Purpose.PARTIAL, time.monotonic())
            scheduler.wake(client)

        client.receive_result = again  # type: ignore[method-assign]
        scheduler.wake(client)
        for _ in range(12):
            await asyncio.sleep(0.05)
            scheduler.tick()
        assert client.step_s == 1.5 and scheduler.load.utilisation > 0.7
        client.receive_result = lambda result: None  # type: ignore[method-assign]
        await scheduler.quiet()
        for _ in range(30):
            await asyncio.sleep(0.005)
            scheduler.tick()
        assert client.step_s == 0.25
        await scheduler.close()

    asyncio.run(main())


def test_lag() -> None:
    """Is how long the most patient window has been due."""

    async def main() -> None:
        gate = Gate()
        scheduler = _scheduler()
        for number in range(2):
            client = Client(gate, number, Purpose.FINAL, time.monotonic() - 2.0)
            scheduler.add(client)
            scheduler.wake(client)
        assert 2.0 <= scheduler.load.lag_s < 2.5
        gate.open.release(2)
        await scheduler.quiet()
        assert scheduler.load.lag_s == 0
        await scheduler.close()

    asyncio.run(main())


class Core:
    """A model on a machine with so many cores: windows beyond that wait for one another."""

    name = device = "core"

    def __init__(self, cores: int) -> None:
        self._free = threading.Semaphore(cores)

    def transcribe(self, window: Window) -> Hypothesis:
        """Occupies a core for a while."""
        with self._free:
            time.sleep(0.02)
        return Hypothesis(words=())


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 2), (8, 4)])
def test_calibration(cores: int, expected: int) -> None:
    """As many workers as bring something, of those that may be; measured within about the time it is given."""
    begun = time.monotonic()
    measured = calibrate(Core(cores), choices(4), max_step_s=1.5, duration_s=0.6)
    assert time.monotonic() - begun < 2.5
    assert measured.workers == expected
    assert measured.window_s == pytest.approx(0.02, rel=0.5)
    assert measured.capacity == capacity_of(measured.window_s, expected, 1.5)


def test_choices_of_workers() -> None:
    """Powers of two up to the number of cores, and that number."""
    assert [choices(cores) for cores in (1, 2, 6, 8)] == [(1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8)]


def test_capacity() -> None:
    """Grows with the cores and with the steps, shrinks with the cost, and is never zero."""
    assert capacity_of(0.04, 2, 1.5) == 37
    assert capacity_of(0.04, 4, 1.5) == 74
    assert capacity_of(0.04, 2, 0.5) < capacity_of(0.04, 2, 3.0)
    assert capacity_of(30.0, 1, 1.5) == 1


def test_cost() -> None:
    """Is what capacity is made of, and a model is measured in about the time it is given."""
    assert capacity_of(0.04, 2, 1.5) == int(0.8 * 2 / cost_of(0.04, 1.5))
    assert cost_of(0.4, 1.5) > 5 * cost_of(0.04, 1.5)
    begun = time.monotonic()
    assert 0.02 <= measure(Core(1), 0.2) < 0.04
    assert time.monotonic() - begun < 1.0
