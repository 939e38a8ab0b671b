"""What the diarizer asks of the models, and what they answer: a window of audio, who speaks when in it, with what voice.

Two grids, both counted from sample 0 of the session. Activity comes in frames of 270 samples; the voiceprint network
sees the audio as moments of 1280 samples. Windows begin on a frame, so frames of different windows coincide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.audio import Samples
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

LOCALS = 3  # voices that are told apart within a window
FRAME = 270  # samples between frames of activity
FRAME_AT = 360  # samples from a window's start to where its first frame begins
MOMENT = 1280  # samples between moments
MOMENT_AT = 200  # samples from a moment's index to its middle
SPECTRUM = 80  # bins of a moment's average spectrum
VOICEPRINT = 256  # numbers of a voiceprint
CONTEXT = 2 * MOMENT  # samples on each side of fresh moments that the network sees as well
REACH = 400 - 160  # samples by which the last spectrum reaches beyond its place
_ACTIVE = 0.5  # probability from which a voice counts as speaking


@dataclass(frozen=True, eq=False)
class Maps:
    """What the voiceprint network makes of some moments in a row, before it weighs them."""

    first: int  # index of the first moment
    values: NDArray[np.float16]  # [moments, ...]
    spectrum: Array  # [SPECTRUM]: the mean over the stretch, of log energies

    def __len__(self) -> int:
        return len(self.values)

    def since(self, sample: int) -> Maps | None:
        """The moments that begin at a sample or after it; None where there are none."""
        gone = max(0, -(-sample // MOMENT) - self.first)
        return Maps(self.first + gone, self.values[gone:], self.spectrum) if gone < len(self) else None


@dataclass(frozen=True, eq=False)
class Job:
    """A window to listen to."""

    start: int  # sample index of its first sample; a multiple of FRAME
    audio: Samples  # [n] at 16 kHz
    fresh: range  # moments whose maps are to be made
    maps: tuple[Maps, ...]  # of other moments in it, made by earlier jobs
    divide: bool = False  # voices in which two people are heard

    @property
    def end(self) -> int:
        """Sample index after its last sample."""
        return self.start + len(self.audio)


@dataclass(frozen=True, eq=False)
class Heard:
    """The answer to a job."""

    activity: Array  # [frames, voices]: probability that each speaks; LOCALS of them, and more where one was divided
    voiceprints: Array  # [voices, VOICEPRINT]: unit vectors
    clean: Array  # [voices]: seconds of speech alone behind each voiceprint; 0 where there is none
    maps: Maps | None  # of the fresh moments; None where there were none
    local: tuple[int, ...] = tuple(range(LOCALS))  # [voices]: the network's voice that each is, or is part of


def first_frame(start: int) -> int:
    """The session's index of a window's first frame."""
    return start // FRAME


def frame_sample(frame: int) -> int:
    """Where a frame begins, as a sample index."""
    return frame * FRAME + FRAME_AT


def frame_of(sample: int) -> int:
    """The first frame that begins at a sample or after it."""
    return -((FRAME_AT - sample) // FRAME)


def speaking(activity: Array) -> NDArray[np.bool_]:
    """[frames, voices]: who speaks."""
    return activity > _ACTIVE


def moment_frames(job: Job, moments: NDArray[np.int64], aside: int = 0) -> NDArray[np.int64]:
    """The job's frame that lies `aside` samples from the middle of each moment."""
    return np.asarray((moments * MOMENT + MOMENT_AT - job.start - FRAME_AT + aside) // FRAME)


def moment_weights(job: Job, activity: Array, moments: NDArray[np.int64]) -> tuple[Array, Array]:
    """How much of each moment each voice speaks alone: weights [voices, moments], and seconds [voices]."""
    active = speaking(activity)
    alone = active & (active.sum(axis=1, keepdims=True) == 1)
    summed = np.concatenate(
        [np.zeros((1, active.shape[1])), np.cumsum(alone, axis=0)]
    )  # [frames + 1, voices]
    left, right = (
        np.clip(moment_frames(job, moments, side * MOMENT // 2), 0, len(active)) for side in (-1, 1)
    )
    share = (summed[right] - summed[left]) / np.maximum(right - left, 1)[:, None]
    return share.T.astype(np.float32), (share.sum(axis=0) * MOMENT / SAMPLE_RATE).astype(np.float32)
