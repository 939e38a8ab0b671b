"""The people of a recording: how many there are and how each sounds, from many short voiceprints. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streaming.clustering import cluster
from streaming.listening import Array

_PURE = 0.45  # mean similarity from which prints are one cluster at first: too many, of one person each
_SAME = 0.62  # certain similarity from which clusters are one person; 0.56 and 0.72 do hardly worse
_HALF_S = 2.75  # seconds whose print is as much the voice as what happened to be said
_USUAL_S = 180.0  # of speech; in more there is more by chance, and it takes more to be somebody
_ROUNDS = 3  # in which prints go to the nearest cluster, and clusters follow


def people(
    voiceprints: Array,
    lengths: Array,
    seconds: Array,
    least_s: float,
    fewest: int = 1,
    most: int | None = None,
) -> Array:
    """Voiceprints [n, width] -> voices [people, width], unit vectors both.

    Each print is made of `lengths` [n] seconds of speech, and stands for `seconds` [n] of the recording: less than
    its length where others are made of the same speech, more where not all prints are given.

    Nobody has less than `least_s` of speech, as far as the bounds on their number allow. Two clusters become one
    when their cosine is as high as that of one person's voiceprints would be, by how much speech they are made of.
    There are too many clusters at first; what is nobody's and too short goes first, then what is the same.
    """
    member = cluster(voiceprints, seconds, _PURE, (), fewest)
    nobody = np.zeros((member.max() + 1, voiceprints.shape[1]), np.float32)
    voices = _means(voiceprints, seconds, member, nobody)
    while True:
        voices, member = _settled(voiceprints, seconds, voices)
        count = len(voices)
        total = np.minimum(np.bincount(member, seconds, count), np.bincount(member, lengths, count))
        if count <= fewest:
            return voices
        alike = _certain_similarity(voices, total)
        a, b = divmod(int(np.argmax(alike)), count)
        smallest = int(np.argmin(total))
        if total[smallest] < least_s / 2:
            voices = np.delete(voices, smallest, axis=0)
        elif alike[a, b] >= _SAME:
            voices = _joined(voices, total, a, b)
        elif total[smallest] < least_s:
            voices = np.delete(voices, smallest, axis=0)
        elif most is not None and count > most:
            voices = _joined(voices, total, a, b)
        else:
            return voices


def _joined(voices: Array, total: NDArray[np.float64], a: int, b: int) -> Array:
    """The voices with b as part of a."""
    both = total[a] * voices[a] + total[b] * voices[b]
    joined = voices.copy()
    joined[a] = both / max(float(np.linalg.norm(both)), 1e-9)
    return np.delete(joined, b, axis=0)


def _certain_similarity(voices: Array, total: NDArray[np.float64]) -> NDArray[np.float64]:
    """[people, people]: cosines, divided by what they are for two clusters of one person with so much speech.

    The share of a print that is not its speaker's voice falls with the square of its length, as was seen: below two
    seconds it may be anything, from five on hardly any is left. In a long recording noises and pieces of two people
    are many enough to be clusters; seconds count less there, by the root of how much speech there is.
    """
    counted = total * np.sqrt(_USUAL_S / max(_USUAL_S, float(total.sum())))
    noise = _HALF_S / np.maximum(counted, 1e-3)
    own = 1 / np.sqrt(1 + noise**2)  # cosine of a print with its speaker's voice
    alike = voices @ voices.T / np.outer(own, own)
    np.fill_diagonal(alike, -np.inf)
    return np.asarray(alike, np.float64)


def _settled(voiceprints: Array, seconds: Array, voices: Array) -> tuple[Array, NDArray[np.int64]]:
    """The voices after some rounds, and the voice that each print is nearest to [n]."""
    for _ in range(_ROUNDS):
        voices = _means(voiceprints, seconds, (voiceprints @ voices.T).argmax(axis=1), voices)
    return voices, (voiceprints @ voices.T).argmax(axis=1)


def _means(voiceprints: Array, seconds: Array, member: NDArray[np.int64], voices: Array) -> Array:
    """The mean print of each cluster, as a unit vector; its voice so far where it has none."""
    found = np.array(voices, np.float32)
    for k in range(len(voices)):
        own = member == k
        if own.any():
            mean = (seconds[own, None] * voiceprints[own]).sum(axis=0)
            found[k] = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return found
