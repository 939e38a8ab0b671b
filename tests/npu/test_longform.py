"""How a context is cut into segments, and how audio that comes in blocks is heard; parity is in `test_parity`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.longform import HeardAudio, Segment, split
from npu.tokens import Signals

Array = NDArray[np.float32]

FIRST = 100  # token of 0 s
SIGNALS = Signals(start=1, end=2, first_time=FIRST)


def at(seconds: float) -> int:
    """The timestamp."""
    return FIRST + round(seconds / SIGNALS.time_step_s)


def times(segments: tuple[Segment, ...]) -> list[tuple[float, float]]:
    return [(round(each.start, 3), round(each.end, 3)) for each in segments]


def test_a_context_that_ends_within_a_segment() -> None:
    """The whole segments count; the next context begins where the last of them ends."""
    tokens = [at(0.5), 7, 8, at(2), at(2.4), 9, at(4), at(4), 5, 6]
    segments, step = split(tokens, 1000, 3000, SIGNALS)
    assert times(segments) == [(10.5, 12.0), (12.4, 14.0)]
    assert [each.tokens for each in segments] == [tuple(tokens[:4]), tuple(tokens[4:8])]
    assert step == 400


def test_a_context_that_ends_with_a_segment() -> None:
    """Nothing is said after a single timestamp at the end: the context is done with."""
    tokens = [at(0), 7, at(2), at(2), 9, at(4)]
    segments, step = split(tokens, 0, 3000, SIGNALS)
    assert times(segments) == [(0.0, 2.0), (2.0, 4.0)]
    assert step == 3000


@pytest.mark.parametrize(("tokens", "end"), [([at(0), 7, at(3.5)], 3.5), ([at(0), 7, 8], 30.0), ([], 30.0)])
def test_a_context_of_one_segment(tokens: list[int], end: float) -> None:
    """It ends at its timestamp, or with the context."""
    segments, step = split(tokens, 0, 3000, SIGNALS)
    assert times(segments) == [(0.0, end)]
    assert step == 3000


class _Ears:
    """A backend that encodes nothing and remembers what it was given."""

    def __init__(self) -> None:
        self.heard: list[Array] = []

    def encode(self, audio: Array, short: bool = False) -> object:
        self.heard.append(audio)
        return object()


@pytest.mark.parametrize("block", [700, 16_000, 100_000])
def test_audio_in_blocks(block: int) -> None:
    """Contexts are what the whole would give, and hardly more than one of them is held."""
    whole = np.arange(100_000, dtype=np.float32)
    ears: Any = _Ears()
    hearing = HeardAudio(ears, (whole[i : i + block] for i in range(0, len(whole), block)), 32_000)
    frame, frames = 0, []
    while (found := hearing.context(frame)) is not None:
        frames.append(found[1])
        assert np.array_equal(hearing.audio(frame + 5, 10), whole[frame * 160 :][800:2400])
        assert len(hearing._held) < 32_000 + block
        frame += 150
    assert frames == [200, 200, 200, 175, 25]
    for step, audio in enumerate(ears.heard):
        assert np.array_equal(audio, whole[step * 24_000 :][:32_000])


def test_no_audio() -> None:
    """There is nothing to hear in less than a word."""
    ears: Any = _Ears()
    assert HeardAudio(ears, [], 32_000).context(0) is None
    assert HeardAudio(ears, [np.zeros(1_599, np.float32)], 32_000).context(0) is None
