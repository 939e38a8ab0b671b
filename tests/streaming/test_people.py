"""How many people there are, from short voiceprints that are noisy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streaming.listening import VOICEPRINT
from streaming.people import people

Array = NDArray[np.float32]

SECONDS = 1.5


def voices(count: int, alike: float = 0.1) -> Array:
    """[count, VOICEPRINT]: people whose cosines are all `alike`."""
    own = np.linalg.qr(np.random.default_rng(1).normal(size=(VOICEPRINT, count + 1)))[0].T
    mixed = np.sqrt(1 - alike) * own[:count] + np.sqrt(alike) * own[count]
    return mixed.astype(np.float32)


def prints(voice: Array, count: int, seed: int, noise: float = 0.9) -> Array:
    """[count, VOICEPRINT]: of one voice, each with as much noise in it as `noise` voices."""
    spread = np.random.default_rng(seed).normal(size=(count, VOICEPRINT)) * noise / np.sqrt(VOICEPRINT)
    found = voice + spread
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def found(*parts: Array, fewest: int = 1, most: int | None = None, least_s: float = 0.5) -> Array:
    given = np.concatenate(parts)
    seconds = np.full(len(given), SECONDS, np.float32)
    return people(given, seconds, seconds, least_s, fewest, most)


def test_each_person_once() -> None:
    """One voice for each, close to the one that the noisy prints are of."""
    own = voices(3)
    heard = found(*(prints(voice, 8, seed) for seed, voice in enumerate(own)))
    assert len(heard) == 3
    assert (heard @ own.T).max(axis=1).min() > 0.9
    assert set((heard @ own.T).argmax(axis=1)) == {0, 1, 2}


def test_two_who_sound_alike() -> None:
    """Are two where there is much speech of both."""
    own = voices(2, alike=0.5)
    assert len(found(prints(own[0], 10, 1), prints(own[1], 10, 2))) == 2


def test_a_few_words_that_sound_a_little_like_somebody() -> None:
    """Are nobody new: so short a print may be anything; quite unlike everybody, they are."""
    own = voices(2, alike=0.35)
    much, little = prints(own[0], 10, 1), own[1:]
    assert len(found(much, little)) == 1
    own = voices(2, alike=0.05)
    assert len(found(prints(own[0], 10, 1), own[1:])) == 2


def test_too_little_speech() -> None:
    """Makes nobody a speaker."""
    own = voices(2, alike=0.05)
    assert len(found(prints(own[0], 10, 1), own[1:], least_s=2.0)) == 1


def test_bounds() -> None:
    """There are not fewer than the fewest and not more than the most."""
    own = voices(3)
    parts = [prints(voice, 6, seed) for seed, voice in enumerate(own)]
    assert len(found(*parts, most=2)) == 2
    assert len(found(*parts, most=1)) == 1
    assert len(found(*parts, fewest=5)) == 5
    assert len(found(own[:1], fewest=1)) == 1


def test_prints_that_stand_for_many() -> None:
    """Make nobody more certain than what they are made of."""
    own = voices(2, alike=0.35)
    given = np.concatenate([prints(own[0], 10, 1), own[1:]])
    lengths = np.full(len(given), SECONDS, np.float32)
    assert len(people(given, lengths, 20 * lengths, 0.5)) == 1


def test_prints_of_the_same_speech() -> None:
    """Count once."""
    own = voices(2, alike=0.35)
    given = np.concatenate([prints(own[0], 10, 1), np.repeat(own[1:], 10, axis=0)])
    lengths = np.full(len(given), SECONDS, np.float32)
    assert len(people(given, lengths, lengths, 0.5)) == 2
    assert len(people(given, lengths, lengths / 10, 0.5)) == 1


def test_much_speech() -> None:
    """Holds more that is nobody's: a few seconds that sound a little like somebody are nobody new in an hour."""
    own = voices(2, alike=0.3)
    given = np.concatenate([prints(own[0], 40, 1), prints(own[1], 3, 2, noise=0.3)])
    few = np.full(len(given), SECONDS, np.float32)
    assert len(people(given, few, few, 0.5)) == 2
    much = np.where(np.arange(len(given)) < 40, 90, SECONDS).astype(np.float32)
    assert len(people(given, much, much, 0.5)) == 1
