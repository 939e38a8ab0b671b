"""Voices in which two people are heard."""

import numpy as np

from streaming.division import divide, excerpts_of
from streaming.listening import LOCALS, MOMENT, Job

SECONDS = 8
MOMENTS = np.arange(SECONDS * 16_000 // MOMENT)
JOB = Job(0, np.zeros(SECONDS * 16_000, np.float32), range(0), ())


def heard(*who):
    """One voice all along, whose excerpts sound like the person who speaks at their middle, by halves."""
    weights = np.zeros((LOCALS, len(MOMENTS)), np.float32)
    weights[1] = 1.0
    excerpts = excerpts_of(weights, MOMENTS)
    halves = (excerpts.middle >= len(MOMENTS) // 2).astype(int)
    return excerpts, np.eye(4, dtype=np.float32)[np.array(who)[halves]]


def activity():
    frames = np.zeros((470, LOCALS), np.float32)
    frames[:, 1] = 1.0
    return frames


def test_one_person():
    """The voices stay as they are."""
    divided, local = divide(JOB, activity(), *heard(0, 0))
    assert local == (0, 1, 2) and (divided == activity()).all()


def test_two_people():
    """Each has a voice, and every frame is in one of them."""
    divided, local = divide(JOB, activity(), *heard(0, 3))
    assert local == (0, 1, 2, 1)
    assert (divided.sum(axis=1) == 1).all()
    assert abs(int(divided[:, 1].sum()) - 235) < 30


def test_a_voice_that_says_little():
    """Is one person's."""
    weights = np.zeros((LOCALS, len(MOMENTS)), np.float32)
    weights[1, :20] = 1.0
    assert not len(excerpts_of(weights, MOMENTS).voice)
