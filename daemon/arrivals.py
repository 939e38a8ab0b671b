"""Arrivals: when which sample came in, so that deadlines and latencies are in time and not in samples."""

from __future__ import annotations

import time
from bisect import bisect_left

_KEPT = (
    4_096  # entries at most; the older half is forgotten beyond that, seven minutes at ten messages a second
)


class Arrivals:
    """Sample indices of a session against time.monotonic()."""

    def __init__(self, position: int = 0) -> None:
        self._ends = [position]  # ascending: sample index after each block
        self._times = [time.monotonic()]  # when it came

    def note(self, end: int) -> None:
        """A block came that ends at a sample index."""
        self._ends.append(end)
        self._times.append(time.monotonic())
        if len(self._ends) > _KEPT:
            self._drop(_KEPT // 2)

    def of(self, sample: int) -> float:
        """When the samples before an index were all there; now, if they are still to come."""
        at = bisect_left(self._ends, sample)
        return self._times[at] if at < len(self._times) else time.monotonic()

    def forget(self, before: int) -> None:
        """Nobody will ask about samples before an index."""
        self._drop(bisect_left(self._ends, before) - 1)

    def _drop(self, count: int) -> None:
        if count > 0:
            del self._ends[:count], self._times[:count]
