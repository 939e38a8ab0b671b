"""Recognition: who is known, when it is looked, and when a name changes."""

from __future__ import annotations

import numpy as np
import pytest

from streaming.recognition import ENOUGH_S, EVERY, Recognition
from streaming.roster import Voice
from streaming.voices import ALIKE, MARGIN

AXES = np.eye(5, dtype=np.float32)
KNOWN = (("Anna", AXES[0]), ("Bert", AXES[1]))


def voice(seconds: float = 10.0, anna: float = 0.0, bert: float = 0.0, stranger: int = 2) -> Voice:
    """With these cosines to the known ones, and the rest its own."""
    rest = (1 - anna**2 - bert**2) ** 0.5
    return Voice(anna * AXES[0] + bert * AXES[1] + rest * AXES[stranger], seconds)


def names(recognition: Recognition, *speakers: int) -> list[str | None]:
    matches = [recognition.match(speaker) for speaker in speakers]
    return [None if match is None else match[0] for match in matches]


def test_known_voices_and_a_stranger() -> None:
    """The known ones have their names and a confidence, the stranger none."""
    recognition = Recognition(KNOWN)
    voices = {1: voice(anna=0.8), 2: voice(bert=0.7, stranger=3), 3: voice(anna=0.3, stranger=4)}
    assert recognition.review(voices, 0) == [1, 2]
    assert names(recognition, 1, 2, 3) == ["Anna", "Bert", None]
    assert recognition.match(1) == ("Anna", pytest.approx(0.8))


@pytest.mark.parametrize("doubtful", [voice(anna=ALIKE - 0.01), voice(anna=0.6, bert=0.6 - MARGIN / 2)])
def test_a_voice_that_might_be_somebody(doubtful: Voice) -> None:
    """Is nobody: neither a weak likeness nor one to two people makes a name."""
    recognition = Recognition(KNOWN)
    assert recognition.review({1: doubtful}, 0) == [] and names(recognition, 1) == [None]


def test_little_speech() -> None:
    """Is not compared; when there is enough, it is."""
    recognition = Recognition(KNOWN)
    assert recognition.review({1: voice(ENOUGH_S - 0.1, anna=0.9)}, 0) == []
    assert recognition.review({1: voice(ENOUGH_S, anna=0.9)}, EVERY) == [1]


def test_no_more_often_than_once_a_second() -> None:
    """Between the looks nothing is compared, unless it may be the last opportunity."""
    recognition = Recognition(KNOWN)
    recognition.review({1: voice(5.0)}, 0)
    assert recognition.review({1: voice(6.0, anna=0.9)}, EVERY - 1) == []
    assert recognition.review({1: voice(6.0, anna=0.9)}, EVERY - 1, hurry=True) == [1]


def test_voices_that_did_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are not compared again."""
    recognition = Recognition(KNOWN)
    recognition.review({1: voice(anna=0.9)}, 0)
    monkeypatch.setattr("streaming.recognition.recognise", lambda *_: pytest.fail("compared"))
    assert recognition.review({1: voice(anna=0.9)}, 10 * EVERY) == []


def test_a_name_is_kept() -> None:
    """When the likeness falls, and when another fits a little better; not when another fits clearly better."""
    recognition = Recognition(KNOWN)
    recognition.review({1: voice(anna=0.7)}, 0)
    assert recognition.review({1: voice(11.0, anna=0.4)}, EVERY) == []
    assert recognition.review({1: voice(12.0, anna=0.55, bert=0.6)}, 2 * EVERY) == []
    assert names(recognition, 1) == ["Anna"]
    assert recognition.review({1: voice(13.0, anna=0.4, bert=0.6)}, 3 * EVERY) == [1]
    assert names(recognition, 1) == ["Bert"]


def test_two_speakers_alike_to_one_name() -> None:
    """Whoever has it keeps it, until the other is clearly more alike."""
    recognition = Recognition(KNOWN)
    first = voice(anna=0.6)
    assert recognition.review({1: first}, 0) == [1]
    assert recognition.review({1: first, 2: voice(anna=0.65, stranger=3)}, EVERY) == []
    assert names(recognition, 1, 2) == ["Anna", None]
    assert recognition.review({1: first, 2: voice(11.0, anna=0.8, stranger=3)}, 2 * EVERY) == [1, 2]
    assert names(recognition, 1, 2) == [None, "Anna"]


def test_what_a_person_says() -> None:
    """Ends recognition for the speaker, and nobody else keeps the name."""
    recognition = Recognition(KNOWN)
    voices = {1: voice(anna=0.9), 2: voice(bert=0.9, stranger=3)}
    recognition.review(voices, 0)
    recognition.give(2, "Anna")
    assert recognition.review(voices, 1) == [1]
    assert names(recognition, 1, 2) == [None, None]
    recognition.give(1, None)
    recognition.give(2, None)
    assert recognition.review(voices, 2) == [] and names(recognition, 1, 2) == [None, None]


def test_people_who_are_enrolled_and_removed() -> None:
    """Are recognised, or not any more, at the next look, however soon."""
    recognition = Recognition()
    voices = {1: voice(anna=0.9)}
    assert recognition.review(voices, 0) == []
    recognition.know(KNOWN)
    assert recognition.review(voices, 1) == [1]
    recognition.know(())
    assert recognition.review(voices, 2) == [1] and names(recognition, 1) == [None]


def test_a_speaker_who_proves_to_be_another() -> None:
    """Is gone, and the name is free."""
    recognition = Recognition(KNOWN)
    recognition.review({1: voice(anna=0.6), 2: voice(anna=0.55, stranger=3)}, 0)
    assert names(recognition, 1, 2) == ["Anna", None]
    assert recognition.review({2: voice(11.0, anna=0.6, stranger=3)}, EVERY) == [2]
    assert names(recognition, 1, 2) == [None, "Anna"]


def test_sources_without_voices() -> None:
    """Channels have none: nobody is recognised."""
    assert Recognition(KNOWN).review({1: None, 2: None}, 0) == []


def test_confidence_does_not_flicker() -> None:
    """A small difference keeps the one that was shown."""
    recognition = Recognition(KNOWN)
    recognition.review({1: voice(anna=0.7)}, 0)
    recognition.review({1: voice(11.0, anna=0.72)}, EVERY)
    assert recognition.match(1) == ("Anna", pytest.approx(0.7))
    recognition.review({1: voice(12.0, anna=0.8)}, 2 * EVERY)
    assert recognition.match(1) == ("Anna", pytest.approx(0.8))
