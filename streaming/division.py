"""Excerpts of voices: the network sometimes takes two people for one voice; what its excerpts sound like tells them apart.

Excerpts overlap and are a second and a half long, which is enough to say whether two of a window are one person: of pairs
of one person a hundredth are less alike than 0.31, of pairs of two a hundredth more than 0.23 (AMI) to 0.37.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.clustering import cluster
from streaming.listening import MOMENT, Array, Job, moment_frames
from streaming.window import SAMPLE_RATE

_LENGTH = 20  # moments of a piece
_STEP = 6  # moments between excerpts
_SPOKEN_S = 0.6  # of speech alone, without which a piece says nothing
_DIVISIBLE_S = 2.0  # of speech alone, without which a voice is one person's
_ALIKE = 0.28  # mean similarity from which excerpts are one person's
_PERSON_S = 1.0  # of excerpts, without which nobody else is heard in a voice


@dataclass(frozen=True, eq=False)
class Excerpts:
    """Short stretches of a window in which one of its voices speaks alone."""

    voice: NDArray[np.int64]  # [excerpts]
    middle: NDArray[np.int64]  # [excerpts]: index of the moment in their middle
    weights: Array  # [excerpts, moments]: how much of each moment is theirs


def excerpts_of(weights: Array, moments: NDArray[np.int64]) -> Excerpts:
    """The excerpts of the voices that speak for long enough to be two; weights [voices, moments]."""
    voice = np.flatnonzero(weights.sum(axis=1) * MOMENT >= _DIVISIBLE_S * SAMPLE_RATE)
    middle = np.arange(-(-moments[0] // _STEP) * _STEP, moments[-1] + 1, _STEP)
    near = np.abs(moments - middle[:, None]) <= _LENGTH // 2  # [middles, moments]
    cut = weights[voice, None] * near  # [voices, middles, moments]
    which, where = np.nonzero(cut.sum(axis=2) * MOMENT >= _SPOKEN_S * SAMPLE_RATE)
    return Excerpts(voice[which], middle[where], np.asarray(cut[which, where], np.float32))


def divide(
    job: Job, activity: Array, excerpts: Excerpts, voiceprints: Array
) -> tuple[Array, tuple[int, ...]]:
    """Activity [frames, voices] with a column for each person in it, and the voice that each column is of.

    voiceprints [excerpts, VOICEPRINT]. The first columns are the voices as they were, each less what others in it said.
    """
    columns, local = list(activity.T), list(range(activity.shape[1]))
    for voice in sorted(set(excerpts.voice.tolist())):
        mine = excerpts.voice == voice
        people = _people(voiceprints[mine], excerpts.weights[mine].sum(axis=1))
        if not people.any():
            continue
        middles = moment_frames(job, excerpts.middle[mine])
        nearest = people[np.abs(np.arange(len(activity))[:, None] - middles).argmin(axis=1)]  # [frames]
        parts = [np.where(nearest == person, columns[voice], 0.0) for person in range(people.max() + 1)]
        columns[voice] = parts[0]
        columns += parts[1:]
        local += [voice] * (len(parts) - 1)
    return np.asarray(np.stack(columns, axis=1), np.float32), tuple(local)


def _people(voiceprints: Array, lengths: Array) -> NDArray[np.int64]:
    """Whose each piece of a voice is: 0, 1 ..., by first piece; those with hardly a piece are not counted."""
    member = cluster(voiceprints, lengths, _ALIKE)
    count = np.bincount(member)
    kept = np.flatnonzero(count * _STEP * MOMENT >= _PERSON_S * SAMPLE_RATE)
    if len(kept) < 2:
        return np.zeros(len(member), np.int64)
    means = np.stack([voiceprints[member == each].mean(axis=0) for each in kept])
    closest = (voiceprints @ means.T).argmax(axis=1)
    place = np.where(np.isin(member, kept), np.searchsorted(kept, member), closest)
    return np.unique(place, return_inverse=True)[1]
