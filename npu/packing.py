"""Several windows in the place of one: for models that hear a context of fixed length, however little is in it.

Speech of one recording is put end to end until the context is full, decoded once, and its words are given back to
the windows they were said in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from streaming.window import SAMPLE_RATE, Hypothesis, Window, Word


@dataclass(frozen=True, eq=False)
class Pack:
    """A window that is decoded, and those it stands for."""

    window: Window
    parts: tuple[Window, ...]
    offsets: tuple[int, ...]  # sample of the window's audio at which each part begins

    def parted(self, hypothesis: Hypothesis) -> list[Hypothesis]:
        """What was heard in each part. Words of audio that two parts share are in both."""
        if len(self.parts) == 1:
            return [hypothesis]
        share_s = hypothesis.decode_s / len(self.parts)
        return [
            replace(hypothesis, words=tuple(self._words(hypothesis.words, row)), decode_s=share_s)
            for row in range(len(self.parts))
        ]

    def _words(self, words: Sequence[Word], row: int) -> Iterator[Word]:
        part, offset = self.parts[row], self.offsets[row]
        shift = (part.start - self.window.start - offset) / SAMPLE_RATE
        begin = -np.inf if row == 0 else offset
        end = np.inf if row == len(self.parts) - 1 else offset + len(part.audio)
        for word in words:
            middle = (word.start + word.end) / 2 * SAMPLE_RATE - self.window.start
            if begin <= middle < end:
                yield replace(word, start=word.start + shift, end=word.end + shift)


def packed(windows: Sequence[Window], room: int) -> list[Pack]:
    """Windows of one recording in order -> packs of at most `room` samples, or of a single window."""
    packs: list[Pack] = []
    parts: list[Window] = []
    offsets: list[int] = []
    for window in windows:
        offset = _place(parts[-1], offsets[-1], window) if parts else 0
        if parts and offset + len(window.audio) > room:
            packs.append(_pack(parts, offsets))
            parts, offsets, offset = [], [], 0
        parts.append(window)
        offsets.append(offset)
    return [*packs, _pack(parts, offsets)] if parts else packs


def _place(last: Window, offset: int, window: Window) -> int:
    """Where the next window begins: after the last one, less what both of them hear."""
    return offset + min(len(last.audio), max(0, window.start - last.start))


def _pack(parts: Sequence[Window], offsets: Sequence[int]) -> Pack:
    if len(parts) == 1:
        return Pack(parts[0], tuple(parts), (0,))
    last = max(offset + len(part.audio) for part, offset in zip(parts, offsets, strict=True))
    audio = np.zeros(last, np.float32)
    for part, offset in zip(parts, offsets, strict=True):
        audio[offset : offset + len(part.audio)] = part.audio
    return Pack(replace(parts[0], audio=audio, timed=True), tuple(parts), tuple(offsets))
