from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from npu.timing import token_starts, word_spans
from streaming.window import SAMPLE_RATE


@given(seed=st.integers(0, 2**32), tokens=st.integers(1, 4), frames=st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_against_every_path(seed: int, tokens: int, frames: int) -> None:
    """No other way to give the frames to the tokens collects more attention."""
    attention = np.random.default_rng(seed).random((tokens, frames)).astype(np.float32)

    def collected(starts: tuple[int, ...]) -> float:
        edges = (*starts, frames)
        return sum(float(attention[i, edges[i] : edges[i + 1]].sum()) for i in range(tokens))

    paths = [(0, *cuts) for cuts in itertools.combinations_with_replacement(range(frames + 1), tokens - 1)]
    best = max(collected(path) for path in paths)
    starts = token_starts(attention)
    assert starts[0] == 0
    assert np.all(np.diff(starts) >= 0)
    assert abs(collected(tuple(starts)) - best) < 1e-4


def test_words_around_a_pause() -> None:
    """The pause belongs to neither, wherever in it the path goes over to the next word."""
    audio = np.random.default_rng(1).standard_normal(3 * SAMPLE_RATE).astype(np.float32) * 0.1
    audio[: SAMPLE_RATE // 2] = 0
    audio[SAMPLE_RATE : 2 * SAMPLE_RATE] = 0
    attention = np.zeros((2, 30), np.float32)
    attention[0, :13] = 1
    attention[1, 13:] = 1
    (first, first_end), (second, second_end) = word_spans(attention, [1, 1], audio)
    assert (first, first_end) == (0.5, 1.0)
    assert (second, second_end) == (2.0, 3.0)


def test_silence() -> None:
    """A word where nobody speaks keeps what the path gave it."""
    audio = np.zeros(SAMPLE_RATE, np.float32)
    assert word_spans(np.ones((1, 10), np.float32), [1], audio) == [(0.0, 1.0)]
