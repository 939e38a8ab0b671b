"""When to try again after a connection was lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Retry:
    """Exponential back-off with jitter, and the point of giving up."""

    first_s: float = 0.2  # pause before the second attempt; the first one is made at once
    factor: float = 2.0
    ceiling_s: float = 5.0  # no pause is longer, save one that the daemon asks for
    limit_s: float = 90.0  # all pauses together; then the connection is given up

    def pauses(self, chance: random.Random | None = None) -> Iterator[float]:
        """Seconds to wait before each attempt: 0, then growing, each cut by up to half at random."""
        draw = (chance or random.Random()).uniform
        yield 0.0
        pause, waited = self.first_s, 0.0
        while waited < self.limit_s:
            now = min(pause * draw(0.5, 1.0), self.limit_s - waited)
            yield now
            waited += now
            pause = min(pause * self.factor, self.ceiling_s)
