"""Known voices: who is recognised, and who is not."""

from __future__ import annotations

import numpy as np
import pytest

from streaming.voices import ALIKE, MARGIN, recognise


def _print(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


ANNA, BERT = _print(1, 0, 0), _print(0, 1, 0)
KNOWN = [("Anna", ANNA), ("Bert", BERT)]


def test_each_speaker_has_a_name() -> None:
    """The one most alike, whatever the length of the vectors."""
    found = recognise({7: _print(0.2, 5, 0), 3: 4 * ANNA}, KNOWN)
    assert {speaker: name for speaker, (name, _) in found.items()} == {7: "Bert", 3: "Anna"}
    assert found[3][1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("voice", "name"),
    [
        (_print(ALIKE + 0.01, 0, (1 - (ALIKE + 0.01) ** 2) ** 0.5), "Anna"),
        (_print(ALIKE - 0.01, 0, (1 - (ALIKE - 0.01) ** 2) ** 0.5), None),
        (_print(0.7, 0.7 - MARGIN - 0.01, 0.4), "Anna"),
        (_print(0.7, 0.65, 0.3), None),  # might be either
        (_print(0, 0, 0), None),
    ],
)
def test_who_is_nobody_known(voice: np.ndarray, name: str | None) -> None:
    """Too little alike, or alike to two."""
    found = recognise({0: voice}, KNOWN)
    assert (found[0][0] if found else None) == name


def test_two_speakers_alike_to_one_name() -> None:
    """The more alike has it; the other has none, not even the second best."""
    found = recognise({0: _print(1, 0.3, 0.2), 1: _print(1, 0.1, 0)}, KNOWN)
    assert set(found) == {1} and found[1][0] == "Anna"


def test_a_name_with_several_voiceprints() -> None:
    """The most alike counts, and its others do not make it doubtful."""
    known = [*KNOWN, ("Anna", _print(0.9, 0.1, 0))]
    assert recognise({0: ANNA}, known)[0] == ("Anna", pytest.approx(1.0))


def test_nobody() -> None:
    """No voices, or none known."""
    assert recognise({}, KNOWN) == {} and recognise({0: ANNA}, []) == {}
