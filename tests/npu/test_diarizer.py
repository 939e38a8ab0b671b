"""The embedded diarizer on a recording of two people, and names for voices on file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.diarizer import EmbeddedDiarizer, load_diarizer, recogniser
from streaming.errors import ModelError
from streaming.turns import Turn

Array = NDArray[np.float32]
RATE = 16_000


@pytest.fixture(scope="module")
def diarizer(cache_dir: Path) -> EmbeddedDiarizer:
    """Resident."""
    made = load_diarizer("embedded", None, cache_dir, lambda _: None)
    assert isinstance(made, EmbeddedDiarizer)
    return made


@pytest.fixture
def dialogue(clips: dict[str, Array]) -> Array:
    """He asks, she answers."""
    return clips["endgame_nagg_nell"]


HE, SHE = slice(5 * RATE, 8 * RATE), slice(9 * RATE, 11 * RATE)  # where each speaks alone


def _speaker(turns: list[Turn], where: slice) -> int:
    shares: dict[int, int] = {}
    for turn in turns:
        shared = min(turn.end, where.stop) - max(turn.start, where.start)
        shares[turn.speaker] = shares.get(turn.speaker, 0) + max(0, shared)
    return max(shares, key=lambda speaker: shares[speaker])


def test_two_people(diarizer: EmbeddedDiarizer, dialogue: Array) -> None:
    """Are told apart."""
    turns = diarizer.turns(dialogue, None, None)
    assert turns == sorted(turns, key=lambda turn: turn.start)
    assert all(0 <= turn.start < turn.end <= len(dialogue) for turn in turns)
    assert len({turn.speaker for turn in turns}) == 2
    assert _speaker(turns, HE) != _speaker(turns, SHE)


@pytest.mark.parametrize(("least", "most"), [(None, 1), (3, 3)])
def test_a_known_number(
    diarizer: EmbeddedDiarizer, dialogue: Array, least: int | None, most: int | None
) -> None:
    """Is kept."""
    assert len({turn.speaker for turn in diarizer.turns(dialogue, least, most)}) == most


def test_a_watch(diarizer: EmbeddedDiarizer, dialogue: Array) -> None:
    """Sees how much is done, and can end it."""
    shares: list[float] = []
    diarizer.turns(dialogue, None, None, watch=shares.append)
    assert shares == sorted(shares) and len(shares) > 10 and 0.5 < shares[-1] <= 1.0
    listened = len(shares)

    def stop(share: float) -> None:
        shares.append(share)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        diarizer.turns(dialogue, None, None, watch=stop)
    assert len(shares) == listened + 1
    quiet = np.concatenate([dialogue[: 5 * RATE], np.zeros(60 * RATE, np.float32)])
    shares.clear()
    diarizer.turns(quiet, None, None, [(0, 5 * RATE)], shares.append)
    assert len(shares) < 15  # silence costs nothing


def test_names(diarizer: EmbeddedDiarizer, dialogue: Array) -> None:
    """Those on file are recognised, nobody else is."""
    turns = diarizer.turns(dialogue, None, None)
    he, she = _speaker(turns, HE), _speaker(turns, SHE)
    both = recogniser(diarizer, [("Nagg", dialogue[HE]), ("Nell", dialogue[SHE])])(turns, dialogue)
    assert {speaker: name for speaker, (name, _) in both.items()} == {he: "Nagg", she: "Nell"}
    assert all(0.5 <= alike <= 1.0 for _, alike in both.values())
    one = recogniser(diarizer, [("Nell", dialogue[SHE])])(turns, dialogue)
    assert set(one) == {she}


def test_an_unknown_kind(cache_dir: Path) -> None:
    """Is refused with those there are."""
    with pytest.raises(ModelError, match="embedded and pyannote"):
        load_diarizer("other", None, cache_dir, lambda _: None)
