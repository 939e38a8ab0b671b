"""Windows put end to end, and their words given back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from npu.packing import packed
from streaming.window import SAMPLE_RATE, Hypothesis, Purpose, Window, Word


def _windows(spans: Sequence[tuple[float, float]]) -> list[Window]:
    """Start and end in seconds; a sample's value is its index in the recording."""
    return [
        Window(n, round(a * SAMPLE_RATE), np.arange(a * SAMPLE_RATE, b * SAMPLE_RATE, dtype=np.float32), (), (),
               Purpose.FINAL)
        for n, (a, b) in enumerate(spans)
    ]  # fmt: skip


def _word(text: str, middle: float) -> Word:
    return Word(text, (1,), middle - 0.1, middle + 0.1)


def test_words_come_back() -> None:
    """To the windows they were said in, at the times of the recording."""
    (pack,) = packed(_windows([(10, 14), (20, 25), (40, 41)]), 30 * SAMPLE_RATE)
    assert len(pack.window.audio) == 10 * SAMPLE_RATE and pack.window.timed
    heard = Hypothesis((_word("a", 10.5), _word("b", 14.5), _word("c", 18.9), _word("d", 19.8)), decode_s=3.0)
    parts = pack.parted(heard)
    assert [[word.text for word in part.words] for part in parts] == [["a"], ["b", "c"], ["d"]]
    middles = [(word.start + word.end) / 2 for part in parts for word in part.words]
    assert middles == pytest.approx([10.5, 20.5, 24.9, 40.8])
    assert sum(part.decode_s for part in parts) == pytest.approx(3.0)


def test_the_room() -> None:
    """Is never exceeded but by a single window, and windows keep their order; one alone is left as it is."""
    windows = _windows([(0, 12), (13, 25), (26, 33), (40, 75), (80, 81)])
    packs = packed(windows, 30 * SAMPLE_RATE)
    assert [[part.utterance for part in pack.parts] for pack in packs] == [[0, 1], [2], [3], [4]]
    assert packs[2].window is windows[3]
    assert [len(packed(windows, 0)), packed([], 100)] == [5, []]


def test_windows_that_overlap() -> None:
    """Share what both hear, and both get the words that are said in it."""
    (pack,) = packed(_windows([(0, 10), (9, 15)]), 30 * SAMPLE_RATE)
    assert np.array_equal(pack.window.audio, np.arange(15 * SAMPLE_RATE, dtype=np.float32))
    parts = pack.parted(Hypothesis((_word("left", 5), _word("both", 9.5), _word("right", 12))))
    assert [[word.text for word in part.words] for part in parts] == [["left", "both"], ["both", "right"]]
    assert parts[1].words[0].start == pytest.approx(9.4)
