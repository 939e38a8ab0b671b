"""The stopwatch of a session: how long windows wait and take, and what that makes of a final's latency."""

from __future__ import annotations

import time

from daemon.arrivals import Arrivals
from daemon.scheduler import Deadline, urgency
from daemon.worker import Result
from streaming.events import Final, Latency
from streaming.session import Demand
from streaming.window import SAMPLE_RATE, Purpose


class Stopwatch:
    """One session's, in monotonic time. A session has one window out at most."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._wanted: Purpose | None = None  # what the next window is wanted for
        self._wanted_at = 0.0  # since when
        self._out_since: float | None = None  # when the window that is out was taken
        self._decode_s = self._queue_s = 0.0  # of the last window

    def deadline(self, demand: Demand) -> Deadline:
        """When a window was due that is still wanted."""
        if demand.purpose is not self._wanted:
            self._wanted, self._wanted_at = demand.purpose, time.monotonic()
        return urgency(demand.purpose, self._arrivals.of(demand.since))

    def receive_taken(self) -> None:
        """The window was cut."""
        self._out_since, self._wanted = time.monotonic(), None

    def receive_result(self, result: Result) -> None:
        """It came back."""
        self._queue_s = max(0.0, result.began - self._wanted_at)
        self._decode_s, self._out_since = result.ended - result.began, None

    def lag_s(self, deadline: Deadline | None) -> float:
        """How long the window has been due that is wanted or out."""
        now = time.monotonic()
        return max(0.0, now - (deadline[1] if deadline else self._out_since or now))

    def timed(self, final: Final) -> Final:
        """The final with the time it took: from the arrival of its last sample of speech until now."""
        since_s = time.monotonic() - self._arrivals.of(round(final.end * SAMPLE_RATE))
        latency = Latency(
            audio_to_final_ms=round(1e3 * since_s, 1),
            decode_ms=round(1e3 * self._decode_s, 1),
            queue_ms=round(1e3 * self._queue_s, 1),
        )
        return final.model_copy(update={"latency": latency})
