"""Enrolment: the voiceprint of one person, out of recordings of that person alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from npu.voiceprint import Voices, perform
from streaming.audio import Samples
from streaming.errors import AudioError
from streaming.speakers import Diarizer
from streaming.turns import Turn
from streaming.vad import SpeechDetector
from streaming.voices import Voiceprint, alike
from streaming.window import SAMPLE_RATE

MODEL = "pyannote community-1"  # whose voiceprints these are: those of another cannot be compared with them
LEAST_S = 6.0  # of one voice alone
ONE_VOICE = 0.4  # cosine below which the voices of two recordings are two people's
_STRAY_S, _STRAY = 1.5, 0.1  # what else is heard, up to this long or this share, is a cough or a mistake
_VOICE_S = 1.5  # of one voice, below which it is a sound
_GRID = 100  # places a second at which it is counted who speaks alone


@dataclass(frozen=True, eq=False)
class Sample:
    """A voice as it was heard."""

    voiceprint: Voiceprint  # [VOICEPRINT], unit vector
    seconds: float  # of it alone


def listen(voices: Voices, blocks: Iterable[Samples]) -> list[Sample]:
    """The voices in a recording [n] at 16 kHz, that of who speaks most first."""
    diarizer, detector = Diarizer(), SpeechDetector(None)
    end = 0
    for block in blocks:
        diarizer.receive_audio(block)
        diarizer.receive_verdicts(detector.receive(block))
        end += len(block)
        _look(diarizer, voices)
    diarizer.finish()
    _look(diarizer, voices)
    alone = _alone(diarizer.turns(0, end), end)
    found = [Sample(voice.centroid, alone.get(number, 0.0)) for number, voice in diarizer.speakers.items()]
    return sorted(found, key=lambda sample: -sample.seconds)


def sole(samples: Sequence[Sample]) -> Sample:
    """The one voice of a recording; AudioError where there is none, or another as well."""
    if not samples or samples[0].seconds < _VOICE_S:
        raise AudioError("Nobody was heard speaking in it; take a recording of the person, close by.")
    first, *others = samples
    other_s = sum(each.seconds for each in others)
    if other_s > max(_STRAY_S, _STRAY * first.seconds):
        heard = " and ".join(f"{each.seconds:.1f} s" for each in (first, *others) if each.seconds)
        raise AudioError(
            f"It has more than one voice in it ({heard}); take a recording of one person alone, "
            "or cut the others out."
        )
    return first


def joined(samples: Sequence[Sample]) -> Sample:
    """One person's voice out of several recordings, by their seconds; AudioError where it is not one, or too short."""
    seconds = sum(each.seconds for each in samples)
    for at, sample in enumerate(samples[1:], 2):
        cosine = alike(sample.voiceprint, [("", samples[0].voiceprint)])[""]
        if cosine < ONE_VOICE:
            raise AudioError(
                f"Recording {at} has another voice than the first one; enrol one person at a time."
            )
    if seconds < LEAST_S:
        raise AudioError(
            f"Only {seconds:.1f} s of the voice were heard and {LEAST_S:g} s are needed; "
            "take a longer recording, or several."
        )
    mixed = np.sum([each.seconds * each.voiceprint for each in samples], axis=0)
    return Sample((mixed / np.linalg.norm(mixed)).astype(np.float32), seconds)


def _look(diarizer: Diarizer, voices: Voices) -> None:
    while diarizer.demand() is not None:
        job = diarizer.next_job()
        diarizer.receive_heard(job, perform(voices, job))


def _alone(turns: Sequence[Turn], end: int) -> dict[int, float]:
    """Seconds in which each speaker speaks and nobody else does."""
    active = {turn.speaker: np.zeros(end * _GRID // SAMPLE_RATE + 1, np.bool_) for turn in turns}
    for turn in turns:
        active[turn.speaker][turn.start * _GRID // SAMPLE_RATE : turn.end * _GRID // SAMPLE_RATE] = True
    together = np.sum(list(active.values()), axis=0)
    return {speaker: float((spoken & (together == 1)).sum()) / _GRID for speaker, spoken in active.items()}
