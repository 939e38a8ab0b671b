"""Two windows that overlap, one text."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.stitch import Seam, split_at
from streaming.window import Word

TEXT = "it was the best of times it was the worst of times it was the age of wisdom it was the age".split()


def spoken(jitter: random.Random, start: float, end: float, spread: float) -> tuple[Word, ...]:
    """The words a window hears: 0.4 s each, placed with an error of up to `spread` seconds."""
    words = []
    for index, text in enumerate(TEXT):
        middle = 0.4 * index + 0.2
        if start <= middle < end:
            shift = jitter.uniform(-spread, spread)
            words.append(Word(text, (index,), middle - 0.15 + shift, middle + 0.15 + shift))
    return tuple(words)


@settings(max_examples=300)
@given(seed=st.integers(0, 10**9), cut=st.floats(2.0, 6.0), spread=st.floats(0.0, 0.15))
def test_no_word_lost_or_doubled(seed, cut, spread):
    """However each side misplaces its words by up to 150 ms, the joined text is the text."""
    jitter = random.Random(seed)
    left = spoken(jitter, 0.0, cut + 0.4, spread)
    right = spoken(jitter, cut - 0.4, 9.0, spread)
    keep = split_at(left, cut, 0)
    seam = Seam(cut, left[:keep], left[keep:])
    joined = left[:keep] + right[seam.first_new(right) :]
    assert [word.text for word in joined] == TEXT


def test_committed_words_beyond_the_cut():
    """What was shown stays with the left window, and the right one does not say it again."""
    jitter = random.Random(1)
    left, right = spoken(jitter, 0.0, 4.4, 0.0), spoken(jitter, 3.6, 9.0, 0.0)
    keep = split_at(left, 4.0, len(left))
    seam = Seam(4.0, left[:keep], left[keep:])
    assert keep == len(left)
    assert [word.text for word in left + right[seam.first_new(right) :]] == TEXT


def test_no_word_in_common():
    """Where the two sides heard different words, time alone decides."""
    seam = Seam(4.0, (Word("cat", (1,), 3.5, 3.9),), ())
    right = (Word("cut", (2,), 3.5, 3.9), Word("dog", (3,), 4.1, 4.5))
    assert seam.first_new(right) == 1
