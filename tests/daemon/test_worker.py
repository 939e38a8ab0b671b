"""Engine workers."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

from daemon.worker import Result, Workers
from npu.scripted import ScriptedTranscriber
from streaming.errors import ModelError
from streaming.window import Purpose, Window


def _window(seconds: float = 1.0) -> Window:
    audio = np.zeros(round(16_000 * seconds), np.float32)
    return Window(utterance=1, start=0, audio=audio, forced=(), draft=(), purpose=Purpose.FINAL)


def _run(workers: Workers, model: Any, count: int) -> list[Result]:
    results: list[Result] = []
    done = threading.Semaphore(0)

    def report(result: Result) -> None:
        results.append(result)
        done.release()

    for _ in range(count):
        workers.submit(model, _window(), report)
    for _ in range(count):
        assert done.acquire(timeout=5)
    return results


def test_results() -> None:
    """Carry the hypothesis and the times; several workers work at once."""
    workers = Workers(4)
    results = _run(workers, ScriptedTranscriber([(0.1, 0.3, "yes")], delay_s=0.1), 4)
    workers.close()
    assert all(result.hypothesis and result.hypothesis.words[0].text == "yes" for result in results)
    assert all(0.1 <= result.ended - result.began < 0.5 for result in results)
    assert max(r.began for r in results) < min(r.ended for r in results)


@pytest.mark.parametrize("error", [ModelError("no weights"), RuntimeError("vendor"), MemoryError()])
def test_a_model_that_fails(error: Exception) -> None:
    """Becomes a result, and the worker goes on."""

    class Failing:
        name = device = "failing"

        def transcribe(self, window: Window) -> Any:
            raise error

    workers = Workers(1)
    results = _run(workers, Failing(), 3)
    workers.close()
    assert [result.failure for result in results] == ["model_failed"] * 3
    assert all(result.hypothesis is None for result in results)


def test_closing() -> None:
    """Waits for the window in progress."""
    workers = Workers(1)
    results: list[Result] = []
    workers.submit(ScriptedTranscriber([], delay_s=0.2), _window(), results.append)
    workers.close()
    assert len(results) == 1


class Session:
    """One that a model is used by."""

    def __init__(self) -> None:
        self.model = ScriptedTranscriber([])
        self.served = threading.Event()

    def receive(self, _: Result) -> None:
        """What the worker reports."""
        self.served.set()


def test_an_idle_worker() -> None:
    """Keeps no model, nor the session that it was for: what is unloaded is gone."""
    workers = Workers(1)
    session = Session()
    workers.submit(session.model, _window(), session.receive)
    assert session.served.wait(5)
    gone = weakref.ref(session.model)
    del session
    deadline = time.monotonic() + 5
    while gone() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone() is None
    workers.close()
