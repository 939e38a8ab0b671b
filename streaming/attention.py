"""Attention: where there is speech that has not been listened to, and which stretch to listen to next."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from streaming import detectors


class Attention:
    """Keeps the runs of speech that the detector found; positions are sample indices of the session."""

    def __init__(self, start: int, step: int, first: int, tail: int) -> None:
        self._step = step  # samples between looks while speech goes on
        self._first = first  # samples of speech after a pause before the first look
        self._tail = tail  # samples of quiet after which speech has ended, and gets its last look
        self._runs: deque[tuple[int, int]] = deque()  # of speech, in order
        self.position = start  # the verdicts reach to here
        self.heard = start  # everything before has been listened to
        self._looked = start  # where the last look ended

    def receive_verdicts(self, verdicts: Sequence[bool]) -> None:
        """Speech or not for each frame of the detector."""
        for speech in verdicts:
            end = self.position + detectors.FRAME
            if speech and self._runs and self._runs[-1][1] == self.position:
                self._runs[-1] = (self._runs[-1][0], end)
            elif speech:
                self._runs.append((self.position, end))
            self.position = end

    def skip_to(self, position: int) -> None:
        """The stream goes on at a later sample; until there nobody speaks."""
        self.position = position

    def looked(self, end: int, heard: int) -> None:
        """A look ended at `end`, and showed who speaks before `heard`."""
        self._looked, self.heard = end, max(heard, self.heard)
        while self._runs and self._runs[0][1] <= self.heard:
            self._runs.popleft()

    def forget(self, before: int) -> None:
        """What lies before will not be listened to any more."""
        if before > self.heard:
            self.looked(max(before, self._looked), before)

    def speech_from(self) -> int | None:
        """Where the first speech begins that was not listened to."""
        return max(self._runs[0][0], self.heard) if self._runs else None

    def due(self, finishing: bool) -> int | None:
        """Where the next look is to end, None where nothing is to be looked at yet."""
        since = self.speech_from()
        if since is None:
            return None
        due = max(since + self._first, self._looked + self._step)
        end = self._runs[0][1]
        for start, after in self._runs:
            if start - end >= self._tail:
                break
            end = after
        if end + self._tail <= self.position:
            due = min(due, end + self._tail)
        if finishing:
            due = min(due, self.position)
        return due if due <= self.position else None

    def reach(self, due: int) -> int:
        """Where a look that was due can end by now: whole steps further when the machine is late."""
        return due + (self.position - due) // self._step * self._step
