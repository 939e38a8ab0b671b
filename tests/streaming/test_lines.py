"""Lines by speaker."""

from __future__ import annotations

from streaming.events import SpokenWord, Utterance
from streaming.lines import by_speaker, speakers
from streaming.turns import Turn


def _utterance(number: int, start: int, *words: str) -> Utterance:
    """A word a second, from `start`; speech begins a tenth of a second earlier and ends one later."""
    spoken = tuple(
        SpokenWord(text=word, start=start + at, end=start + at + 0.8, confidence=1.0)
        for at, word in enumerate(words)
    )
    return Utterance(
        utterance=number,
        start=start - 0.1,
        end=start + len(words) - 0.1,
        text=" ".join(words),
        language="en",
        words=spoken,
    )


def _turn(speaker: int, start: float, end: float) -> Turn:
    return Turn(round(start * 16_000), round(end * 16_000), speaker, settled=True, confidence=None)


def test_an_utterance_of_two() -> None:
    """Becomes two lines with their words, times and labels; the outer ends stay as they were."""
    lines = by_speaker([_utterance(1, 1, "are", "you", "yes", "I")], [_turn(5, 0, 3), _turn(2, 3, 9)])
    assert [(line.utterance, line.text, line.start, line.end) for line in lines] == [
        (1, "are you", 0.9, 2.8),
        (2, "yes I", 3.0, 4.9),
    ]
    assert [line.speaker.id for line in lines if line.speaker] == ["S1", "S2"]
    assert all(line.speaker is not None and line.speaker.settled for line in lines)
    assert lines[1].words is not None and lines[1].words[0].text == "yes"


def test_numbers_and_names() -> None:
    """Labels are in order of appearance, the same for the same speaker, and carry known names."""
    utterances = [_utterance(1, 1, "one"), _utterance(2, 3, "two"), _utterance(4, 5, "three")]
    turns = [_turn(9, 0, 2), _turn(4, 2, 4), _turn(9, 4, 6)]
    lines = by_speaker(utterances, turns, {4: ("Anna", 0.8)})
    assert [line.speaker.id for line in lines if line.speaker] == ["S1", "S2", "S1"]
    assert [line.utterance for line in lines] == [1, 2, 3]
    assert [(each.id, each.name, each.confidence) for each in speakers(lines)] == [
        ("S1", None, None),
        ("S2", "Anna", 0.8),
    ]


def test_words_of_nobody() -> None:
    """Stay with the words around them."""
    turns = [_turn(1, 8, 9.9), _turn(2, 16, 18)]
    lines = by_speaker([_utterance(1, 1, *(f"w{at}" for at in range(16)))], turns)
    assert [(line.speaker.id, line.text.split()[0]) for line in lines if line.speaker] == [
        ("S1", "w0"),
        ("S2", "w14"),
    ]
    assert sum(len(line.words or ()) for line in lines) == 16


def test_where_nobody_was_heard() -> None:
    """The line stays, without a speaker; so does one without words."""
    without = _utterance(2, 3).model_copy(update={"words": None, "text": "edited"})
    lines = by_speaker([_utterance(1, 1, "one"), without], [])
    assert [(line.text, line.speaker) for line in lines] == [("one", None), ("edited", None)]
    assert speakers(lines) == []
