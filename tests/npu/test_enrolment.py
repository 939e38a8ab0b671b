"""Enrolment out of real recordings: one voice, two, none, too little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npu.enrolment import LEAST_S, Sample, joined, listen, sole
from npu.voiceprint import Voices, load_voices
from streaming.errors import AudioError

BLOCK = 4 * 16_000


@pytest.fixture(scope="module")
def voices(cache_dir: Path) -> Voices:
    """The resident networks."""
    return load_voices(cache_dir)


@pytest.fixture(scope="module")
def heard(voices: Voices, clips: dict[str, Any]) -> Callable[[str], list[Sample]]:
    """The voices in one of the wheel's recordings."""

    def blocks(name: str) -> Iterator[Any]:
        audio = clips[name]
        yield from (audio[at : at + BLOCK] for at in range(0, len(audio), BLOCK))

    return lambda name: listen(voices, blocks(name))


def test_one_person(heard: Callable[[str], list[Sample]]) -> None:
    """Their voice, and for how long it was heard: no longer than the recording."""
    sample = joined([sole(heard("beckett"))])
    assert LEAST_S <= sample.seconds < 10.0
    assert np.linalg.norm(sample.voiceprint) == pytest.approx(1.0, abs=1e-5)


def test_two_people(heard: Callable[[str], list[Sample]]) -> None:
    """Are refused, with how much of each was heard."""
    samples = heard("endgame_nagg_nell")
    assert len(samples) == 2
    with pytest.raises(
        AudioError, match=rf"{samples[0].seconds:.1f} s and {samples[1].seconds:.1f} s.*one person"
    ):
        sole(samples)


def test_nobody(heard: Callable[[str], list[Sample]]) -> None:
    """A sound is no voice."""
    with pytest.raises(AudioError, match="Nobody was heard"):
        sole(heard("success"))


def test_too_little(heard: Callable[[str], list[Sample]]) -> None:
    """Says how much there is and how much is needed."""
    with pytest.raises(AudioError, match=r"3\.\d s .* 6 s"):
        joined([sole(heard("clone-test"))])


def test_recordings_of_two_people(heard: Callable[[str], list[Sample]]) -> None:
    """Are not averaged: the one that is another's is named."""
    with pytest.raises(AudioError, match="Recording 2 has another voice"):
        joined([sole(heard("beckett")), sole(heard("clone-test"))])


def test_several_recordings_count_by_their_seconds() -> None:
    """The longer one weighs more; together they may be long enough."""
    x, y = np.eye(2, dtype=np.float32)
    half = (x + y) / np.sqrt(2, dtype=np.float32)
    sample = joined([Sample(x, 4.0), Sample(half, 2.0)])
    expected = 4 * x + 2 * half
    assert sample.seconds == 6.0
    np.testing.assert_allclose(sample.voiceprint, expected / np.linalg.norm(expected), rtol=1e-5)


def test_a_stray_sound_beside_the_voice() -> None:
    """Is overlooked."""
    x, y = np.eye(2, dtype=np.float32)
    assert sole([Sample(x, 20.0), Sample(y, 1.9)]).seconds == 20.0
    with pytest.raises(AudioError):
        sole([Sample(x, 20.0), Sample(y, 2.1)])
