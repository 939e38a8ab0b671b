"""Words given to speakers, on turns and times made up for the case."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streaming.attribution import attribute, dominant
from streaming.turns import Turn
from streaming.window import Word

RATE = 16_000


def words(*spans):
    """(start, end[, text]) in seconds."""
    return [
        Word(text[0] if text else f"w{i}", (i,), start, end) for i, (start, end, *text) in enumerate(spans)
    ]


def turn(start, end, speaker):
    return Turn(round(start * RATE), round(end * RATE), speaker, settled=True, confidence=None)


def said(parts):
    return [(part.speaker, [word.text for word in part.words]) for part in parts]


def test_two_speakers_with_a_pause_between_them():
    """Each has the words of their turn."""
    parts = attribute(
        words((0.0, 0.4), (0.5, 0.9), (1.5, 1.8), (1.9, 2.3)), [turn(0, 1.0, 1), turn(1.45, 2.4, 2)]
    )
    assert said(parts) == [(1, ["w0", "w1"]), (2, ["w2", "w3"])]


def test_a_border_that_cuts_through_a_word():
    """The word is whose part of it is longer."""
    parts = attribute(words((0.0, 0.6), (0.6, 1.2), (1.2, 1.9)), [turn(0, 0.7, 1), turn(0.7, 2.0, 2)])
    assert said(parts) == [(1, ["w0"]), (2, ["w1", "w2"])]


def test_a_short_flicker_within_a_sentence():
    """Is no change of speaker: it gains less than the change costs."""
    parts = attribute(
        words((0.0, 0.3), (0.3, 0.5), (0.5, 0.9)), [turn(0, 0.3, 1), turn(0.3, 0.5, 2), turn(0.5, 0.9, 1)]
    )
    assert said(parts) == [(1, ["w0", "w1", "w2"])]


def test_the_same_flicker_after_a_full_stop():
    """Is an answer."""
    parts = attribute(
        words((0.0, 0.5, "Ready?"), (0.6, 0.85, "Yes."), (1.2, 1.6, "Good.")),
        [turn(0, 0.5, 1), turn(0.55, 0.9, 2), turn(1.15, 1.6, 1)],
    )
    assert said(parts) == [(1, ["Ready?"]), (2, ["Yes."]), (1, ["Good."])]


def test_overlapped_speech():
    """Who was speaking keeps the words that both could have said."""
    parts = attribute(
        words((0.0, 0.4), (0.4, 0.8), (0.8, 1.2), (1.2, 1.8)), [turn(0, 1.2, 1), turn(0.8, 1.9, 2)]
    )
    assert said(parts) == [(1, ["w0", "w1", "w2"]), (2, ["w3"])]


def test_a_word_outside_all_turns():
    """Goes with the nearest; far from everyone it is nobody's."""
    assert said(attribute(words((1.1, 1.3)), [turn(0, 1.0, 1), turn(2.0, 3.0, 2)])) == [(1, ["w0"])]
    assert said(attribute(words((9.0, 9.3)), [turn(0, 1.0, 1)])) == [(None, ["w0"])]
    assert said(attribute(words((9.0, 9.3)), [])) == [(None, ["w0"])]
    assert attribute([], [turn(0, 1, 1)]) == []


def test_who_speaks_most():
    """By overlap; nobody where there is none."""
    turns = [turn(0, 1.0, 1), turn(1.0, 3.0, 2)]
    assert dominant(turns, 0, 2 * RATE) == 1
    assert dominant(turns, 0, 3 * RATE) == 2
    assert dominant(turns, 5 * RATE, 6 * RATE) is None


@given(
    st.lists(st.tuples(st.floats(0, 0.3), st.floats(0.05, 0.8)), min_size=1, max_size=30),
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.05, 5), st.integers(1, 4)), max_size=12),
)
def test_any_words_and_turns(gaps, spans):
    """No word is lost, doubled or moved, neighbours differ, and only speakers with turns are named."""
    times, now = [], 0.0
    for gap, length in gaps:
        times.append((now + gap, now + gap + length))
        now = times[-1][1]
    turns = [turn(start, start + length, speaker) for start, length, speaker in spans]
    spoken = words(*times)
    parts = attribute(spoken, turns)
    assert [word for part in parts for word in part.words] == spoken
    assert all(left.speaker != right.speaker for left, right in pairwise(parts))
    assert {part.speaker for part in parts} <= {None, *(each.speaker for each in turns)}
