"""Pace: whether the machine keeps up with a session, and when that is worth telling."""

from __future__ import annotations

from streaming.events import Status

DEGRADED_LAG_S = 1.5  # a window waiting for longer than this is worth telling the producer
DEGRADED_STEPS = 3.0  # and partials coming this many times less often than they could
TOLD_AGAIN_S = 1.0  # a change of the lag that is worth telling again


class Pace:
    """Judges about once a second; says something only when it has changed."""

    def __init__(self, base_step_s: float) -> None:
        self._base_step_s = base_step_s  # distance of partials on an idle machine
        self._told = Status(lag_s=0.0, degraded=False, step_ms=1e3 * base_step_s)

    def judge(self, lag_s: float, step_s: float) -> Status | None:
        """lag_s: how long the window wanted now has been due; step_s: distance of partials. None: nothing new."""
        degraded = lag_s > DEGRADED_LAG_S or step_s > DEGRADED_STEPS * self._base_step_s
        told = self._told
        if degraded == told.degraded and not (degraded and abs(lag_s - told.lag_s) > TOLD_AGAIN_S):
            return None
        self._told = Status(
            lag_s=round(lag_s, 2),
            degraded=degraded,
            reason="The machine is busy: partials come less often, finals as soon as possible."
            if degraded
            else None,
            step_ms=round(1e3 * step_s),
        )
        return self._told
