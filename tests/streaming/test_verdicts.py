"""Pauses taken out of turns by the speech detector, where it hears them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streaming.detectors import FRAME
from streaming.turns import Turn
from streaming.verdicts import Verdicts


def turn(first, last):
    """Between frames."""
    return Turn(first * FRAME + 100, last * FRAME + 100, 1, settled=True, confidence=0.8)


def heard(pattern):
    """A frame for each character: # is speech."""
    verdicts = Verdicts()
    verdicts.receive([each == "#" for each in pattern])
    return verdicts


def spans(parts):
    return [(round(part.start / FRAME), round(part.end / FRAME)) for part in parts]


def test_a_pause():
    """Is left out but for the softness around speech; the turn's own borders stay as fine as they are."""
    parts = heard("#" * 40 + "." * 20 + "#" * 40).without_pauses(turn(0, 100))
    assert spans(parts) == [(0, 44), (56, 100)]
    assert (parts[0].start, parts[-1].end) == (100, 100 * FRAME + 100)
    assert {(part.speaker, part.settled, part.confidence) for part in parts} == {(1, True, 0.8)}


def test_a_closure_within_a_word():
    """Is no pause."""
    assert spans(heard("#" * 40 + "." * 18 + "#" * 40).without_pauses(turn(0, 98))) == [(0, 98)]


def test_someone_the_detector_hardly_hears():
    """Keeps the turn whole: the network hears better."""
    assert spans(heard(("#" * 10 + "." * 20) * 4).without_pauses(turn(0, 120))) == [(0, 120)]


def test_quiet_at_both_ends():
    """Goes as well."""
    assert spans(heard("." * 20 + "#" * 100 + "." * 20).without_pauses(turn(0, 140))) == [(16, 124)]


def test_frames_without_a_verdict():
    """Are no pause yet; where audio was skipped, nobody spoke."""
    verdicts = heard("#" * 50)
    assert spans(verdicts.without_pauses(turn(0, 60))) == [(0, 60)]
    verdicts.skip_to(70 * FRAME)
    verdicts.receive([True] * 50)
    assert spans(verdicts.without_pauses(turn(0, 120))) == [(0, 54), (66, 120)]


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 250), st.integers(1, 100))
def test_any_verdicts(pattern, first, length):
    """Parts lie within the turn, in order, and all that is speech to the detector is in one of them."""
    verdicts = Verdicts()
    verdicts.receive(pattern)
    whole = turn(first, first + length)
    parts = verdicts.without_pauses(whole)
    edges = [at for part in parts for at in (part.start, part.end)]
    assert edges == sorted(edges) and all(whole.start <= at <= whole.end for at in edges)
    inside = np.flatnonzero(pattern[first : first + length]) + first
    assert all(any(part.start <= i * FRAME + 240 < part.end + FRAME for part in parts) for i in inside)
