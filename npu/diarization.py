"""Diarization of a whole recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from npu.voiceprint import Voices, perform
from streaming.listening import CONTEXT, FRAME, MOMENT, REACH, Job, Maps, first_frame, frame_of, speaking
from streaming.recording import RecordingSettings, attribute
from streaming.turns import Turn
from streaming.views import View
from streaming.window import SAMPLE_RATE

WINDOW = 10 * SAMPLE_RATE
STEP = SAMPLE_RATE - SAMPLE_RATE % FRAME  # samples between windows, a whole number of frames


def diarize(
    voices: Voices,
    audio: NDArray[np.float32],
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    speech: Sequence[tuple[int, int]] | None = None,
    settings: RecordingSettings | None = None,
) -> list[Turn]:
    """audio [n] at 16 kHz -> the turns of its speakers, who are numbered in order of appearance.

    `speech` holds stretches of samples outside which nobody speaks; there the models are spared. Raises ValueError
    when the bounds on the number of speakers exclude each other.
    """
    fewest = 1 if min_speakers is None else min_speakers
    if fewest < 1 or (max_speakers is not None and max_speakers < fewest):
        raise ValueError(f"between {min_speakers} and {max_speakers} speakers is impossible")
    views = list(_views(voices, audio, [(0, len(audio))] if speech is None else speech))
    return attribute(views, frame_of(len(audio)), fewest, max_speakers, settings)


def _views(voices: Voices, audio: NDArray[np.float32], speech: Iterable[tuple[int, int]]) -> Iterator[View]:
    """Looks at every window in which something is said."""
    runs = list(speech)
    made: list[Maps] = []
    for start in range(0, max(1, len(audio) - WINDOW + STEP), STEP):
        end = min(start + WINDOW, len(audio))
        if end - start < SAMPLE_RATE or not any(since < end and until > start for since, until in runs):
            continue
        made = [each for each in made if each.first * MOMENT >= start]
        known = made[-1].first + len(made[-1]) if made else -(-start // MOMENT)
        last = (end - REACH - (0 if end == len(audio) else CONTEXT)) // MOMENT
        job = Job(start, audio[start:end], range(known, max(known, last)), tuple(made))
        heard = perform(voices, job)
        if heard.maps is not None:
            made.append(heard.maps)
        yield View(first_frame(start), speaking(heard.activity), heard.voiceprints, heard.clean)
