"""Views: what one look at a window showed, and how the looks that overlap agree on who speaks when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming.listening import FRAME, LOCALS, Array
from streaming.window import SAMPLE_RATE

NOBODY = 0  # in place of a speaker's number
_MAJORITY = 0.5  # of the views that saw a frame


@dataclass(eq=False)
class View:
    """A window, its voices, and whose they are held to be."""

    first: int  # frame of the session
    active: NDArray[np.bool_]  # [frames, voices]
    voiceprints: Array  # [voices, VOICEPRINT]
    clean: Array  # [voices]: seconds of speech alone behind each
    speakers: list[int] = field(default_factory=lambda: [NOBODY] * LOCALS)
    similarity: list[float] = field(default_factory=lambda: [0.0] * LOCALS)  # to those speakers
    local: tuple[int, ...] = tuple(range(LOCALS))  # the network's voice that each is, or is part of

    @property
    def end(self) -> int:
        """The frame after its last."""
        return self.first + len(self.active)

    def heard(self) -> list[int]:
        """The voices that speak in it."""
        return np.flatnonzero(self.active.any(axis=0)).tolist()

    def whole(self, voice: int) -> bool:
        """Whether it is all of a voice of the network."""
        return self.local.count(self.local[voice]) == 1

    def fresh_alone(self, since: int) -> Array:
        """[voices]: seconds from a frame on in which each speaks alone."""
        part = self.active[max(0, since - self.first) :]
        alone = part & (part.sum(axis=1, keepdims=True) == 1)
        return np.asarray(alone.sum(axis=0) * FRAME / SAMPLE_RATE, np.float32)

    def continuity(self, before: View) -> Array:
        """[voices, voices of before]: how much of a voice here, where both looked, is that voice there; 0..1."""
        start, end = max(self.first, before.first), min(self.end, before.end)
        if start >= end:
            return np.zeros((self.active.shape[1], before.active.shape[1]), np.float32)
        here = self.active[start - self.first : end - self.first].astype(np.float32)
        there = before.active[start - before.first : end - before.first].astype(np.float32)
        shared = here.T @ there
        either = here.sum(axis=0)[:, None] + there.sum(axis=0)[None, :] - shared
        return np.asarray(shared / np.maximum(either, 1.0), np.float32)


@dataclass(frozen=True, eq=False)
class Tally:
    """Who speaks when in a stretch, by majority of the views."""

    first: int  # frame
    active: dict[int, NDArray[np.bool_]]  # of each speaker: [frames]
    similarity: dict[int, Array]  # of each speaker: [frames], mean over the views that hear them

    def cut(self, first: int, last: int) -> Tally:
        """The frames first..last, from its own first on; nobody speaks in those beyond its end."""
        part = slice(first - self.first, last - self.first)
        length = last - first
        return Tally(
            first,
            {speaker: _padded(active[part], length) for speaker, active in self.active.items()},
            {speaker: _padded(similar[part], length) for speaker, similar in self.similarity.items()},
        )


def _padded(values: NDArray[Any], length: int) -> NDArray[Any]:
    return np.concatenate([values, np.zeros(length - len(values), values.dtype)])


def tally(views: Iterable[View], first: int, last: int) -> Tally:
    """Counts the votes of the views on the frames first..last."""
    seen = np.zeros(last - first, np.float32)
    votes: dict[int, Array] = {}
    similar: dict[int, Array] = {}
    for view in views:
        start, end = max(first, view.first), min(last, view.end)
        if start >= end:
            continue
        here = slice(start - first, end - first)
        seen[here] += 1
        for local, speaker in enumerate(view.speakers):
            if speaker != NOBODY:
                active = view.active[start - view.first : end - view.first, local]
                votes.setdefault(speaker, np.zeros_like(seen))[here] += active
                similar.setdefault(speaker, np.zeros_like(seen))[here] += active * np.float32(
                    view.similarity[local]
                )
    return Tally(
        first,
        {speaker: count > _MAJORITY * seen for speaker, count in votes.items()},
        {
            speaker: np.asarray(similar[speaker] / np.maximum(count, 1), np.float32)
            for speaker, count in votes.items()
        },
    )
