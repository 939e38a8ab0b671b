"""Engine workers: threads that run the model, one window at a time each."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from npu.transcriber import Transcriber
from streaming.errors import AmanuensisError
from streaming.window import Hypothesis, Window

logger = logging.getLogger("amanuensis.worker")


@dataclass(frozen=True)
class Result:
    """What became of a window."""

    window: Window
    hypothesis: Hypothesis | None  # None where the model failed
    failure: str | None  # why it failed, a word or two
    began: float  # time.monotonic() when a worker took it
    ended: float  # when the model was done


Report = Callable[[Result], None]


class Workers:
    """N threads sharing the resident models. `submit` never blocks; whoever submits keeps at most N windows out."""

    def __init__(self, count: int) -> None:
        self.count = count
        # Bounded by its user: the scheduler submits only when a worker is idle.
        self._jobs: queue.SimpleQueue[tuple[Transcriber, Window, Report] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"engine-{index}", daemon=True) for index in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, transcriber: Transcriber, window: Window, report: Report) -> None:
        """Has a window transcribed; `report` is called in the worker's thread."""
        self._jobs.put((transcriber, window, report))

    def close(self) -> None:
        """Ends the threads once they are done with what they have; blocks until then."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            transcriber, window, report = job
            report(_transcribed(transcriber, window))
            # An idle worker must not keep a model that is to be unloaded; `report` knows the session that uses it.
            del job, transcriber, window, report


def _transcribed(transcriber: Transcriber, window: Window) -> Result:
    """One window; a failure of the model becomes a result too."""
    began = time.monotonic()
    try:
        hypothesis = transcriber.transcribe(window)
    except AmanuensisError as error:
        logger.warning("the model failed on a window of %.1f s: %s", len(window.audio) / 16_000, error)
        return Result(window, None, "model_failed", began, time.monotonic())
    except Exception:  # whatever a vendor's runtime throws concerns this window, not the other sessions
        logger.exception("the model failed on a window of %.1f s", len(window.audio) / 16_000)
        return Result(window, None, "model_failed", began, time.monotonic())
    return Result(window, hypothesis, None, began, time.monotonic())
