"""Diarization of a whole recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from npu.voiceprint import Voices, fresh_maps
from streaming.listening import CONTEXT, FRAME, MOMENT, REACH, VOICEPRINT, Job, Maps, first_frame
from streaming.pieces import Look, piece_weights, pieces_of
from streaming.recording import Recording, RecordingSettings, length_in_frames
from streaming.turns import Turn
from streaming.verdicts import Verdicts
from streaming.window import SAMPLE_RATE

WINDOW = 10 * SAMPLE_RATE
STEP = SAMPLE_RATE // 2 // FRAME * FRAME  # samples between windows, a whole number of frames
_SHIFTS = 4  # looks in a row whose pieces are cut at different places


def diarize(
    voices: Voices,
    audio: NDArray[np.float32],
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    speech: Sequence[tuple[int, int]] | None = None,
    settings: RecordingSettings | None = None,
    verdicts: Sequence[bool] | None = None,
) -> list[Turn]:
    """audio [n] at 16 kHz -> the turns of its speakers, who are numbered in order of appearance.

    `speech` holds stretches of samples outside which nobody speaks; there the models are spared. With the `verdicts`
    of the speech detector on all frames, pauses within turns are left out. Raises ValueError when the bounds on the
    number of speakers exclude each other.
    """
    fewest = 1 if min_speakers is None else min_speakers
    if fewest < 1 or (max_speakers is not None and max_speakers < fewest):
        raise ValueError(f"between {min_speakers} and {max_speakers} speakers is impossible")
    if len(audio) < SAMPLE_RATE:
        return []  # too short for anybody to be told apart
    recording = Recording(length_in_frames(len(audio)), settings)
    for look in _looks(voices, audio, [(0, len(audio))] if speech is None else speech):
        recording.receive_look(look)
    known = None
    if verdicts is not None:
        known = Verdicts()
        known.receive(verdicts)
    return recording.turns(fewest, max_speakers, known)


def _looks(voices: Voices, audio: NDArray[np.float32], speech: Iterable[tuple[int, int]]) -> Iterator[Look]:
    """Looks at every window in which something is said."""
    runs = list(speech)
    made: list[Maps] = []
    for index, start in enumerate(range(0, max(1, len(audio) - WINDOW + STEP), STEP)):
        end = min(start + WINDOW, len(audio))
        if end - start < SAMPLE_RATE or not any(since < end and until > start for since, until in runs):
            continue
        made = [part for each in made if (part := each.since(start)) is not None]
        known = made[-1].first + len(made[-1]) if made else -(-start // MOMENT)
        last = (end - REACH - (0 if end == len(audio) else CONTEXT)) // MOMENT
        job = Job(start, audio[start:end], range(known, max(known, last)), tuple(made))
        if (maps := fresh_maps(voices, job)) is not None:
            made.append(maps)
        yield _look(voices, job, made, index % _SHIFTS / _SHIFTS)


def _look(voices: Voices, job: Job, made: Sequence[Maps], shift: float) -> Look:
    """A look at a job's window, all of whose maps are made."""
    activity = voices.segment(job.audio)
    pieces = pieces_of(activity, shift)
    voiceprints, clean = np.zeros((len(pieces), VOICEPRINT), np.float32), np.zeros(len(pieces), np.float32)
    if pieces and made:
        moments = np.concatenate([np.arange(each.first, each.first + len(each)) for each in made])
        weights, clean = piece_weights(job.start, activity, pieces, moments)
        if (heard := clean > 0).any():
            maps = np.concatenate([each.values for each in made])
            voiceprints[heard] = voices.embed(maps, weights[heard])
    return Look(first_frame(job.start), activity, pieces, voiceprints, clean)
