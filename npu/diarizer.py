"""Who speaks when in a recording: what is asked of a diarizer, and the choice of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from npu.diarization import STEP, diarize
from npu.embedded import default_cache_dir
from npu.fbank import log_mel
from npu.loading import load_judge
from npu.voiceprint import Voices, load_voices
from streaming.audio import Samples
from streaming.errors import ModelError
from streaming.turns import Turn
from streaming.vad import FrameJudge, SpeechDetector
from streaming.voices import Voiceprint, recognise
from streaming.window import SAMPLE_RATE

LISTENED_S = 30.0  # of a speaker, for a voiceprint; more would not make it better
LEAST_S = 1.0  # shorter, and anybody might be recognised
_BLOCK = 60 * SAMPLE_RATE  # samples that the speech detector is given at a time


def _unwatched(_share: float) -> None:
    """Nobody wants to know."""


# turns and audio -> (name, confidence) of the speakers who are known
Recogniser = Callable[[Sequence[Turn], Samples], dict[int, tuple[str, float]]]


class RecordingDiarizer(Protocol):
    """Tells the speakers of a whole recording apart. Resident, shared by all recordings."""

    name: str  # what its results are called after

    def turns(
        self,
        audio: Samples,
        min_speakers: int | None,
        max_speakers: int | None,
        speech: Sequence[tuple[int, int]] | None = None,
        watch: Callable[[float], None] = _unwatched,
    ) -> list[Turn]:
        """audio [n] at 16 kHz -> turns in order of time, speakers numbered; blocks until done.

        speech: stretches of samples; elsewhere nobody speaks. watch: called now and then with the share that is done,
        0..1; what it raises ends the work.
        """


class EmbeddedDiarizer:
    """The networks that install with the package."""

    name = "embedded"

    def __init__(self, voices: Voices, judges: Callable[[], FrameJudge] | None = None) -> None:
        """judges: makes the speech detector's judge for each recording; None: pauses within turns are kept."""
        self._voices = voices
        self._judges = judges

    def turns(
        self,
        audio: Samples,
        min_speakers: int | None,
        max_speakers: int | None,
        speech: Sequence[tuple[int, int]] | None = None,
        watch: Callable[[float], None] = _unwatched,
    ) -> list[Turn]:
        """audio [n] at 16 kHz -> turns in order of time; silent stretches cost nothing."""
        watched = _WatchedVoices(self._voices, watch, max(1, len(audio) // STEP))
        verdicts = None if self._judges is None else _verdicts(SpeechDetector(self._judges()), audio, watch)
        return diarize(watched, audio, min_speakers, max_speakers, speech, verdicts=verdicts)

    def voiceprint(self, audio: Samples) -> Voiceprint:
        """audio [n] at 16 kHz of one speaker, a second at least -> its voiceprint."""
        spectrogram = log_mel(audio)
        maps = self._voices.features(spectrogram, spectrogram.mean(axis=0))
        voiceprint: Voiceprint = self._voices.embed(maps, np.ones((1, len(maps)), np.float32))[0]
        return voiceprint


def _verdicts(detector: SpeechDetector, audio: Samples, watch: Callable[[float], None]) -> list[bool]:
    """Speech or not for each frame; little work, before which the watch is looked at every minute."""
    found: list[bool] = []
    for at in range(0, len(audio), _BLOCK):
        watch(0.0)
        found += detector.receive(audio[at : at + _BLOCK])
    return found


class _WatchedVoices:
    """The networks, with a look at the watch before each window."""

    def __init__(self, voices: Voices, watch: Callable[[float], None], windows: int) -> None:
        self.features, self.embed = voices.features, voices.embed
        self._voices, self._watch, self._windows = voices, watch, windows
        self._done = 0

    def segment(self, audio: Samples) -> Samples:
        """As theirs."""
        self._watch(min(1.0, self._done / self._windows))
        self._done += 1
        return self._voices.segment(audio)


def load_embedded(cache_dir: Path | None, progress: Callable[[str], None]) -> EmbeddedDiarizer:
    """The resident networks; ModelError says what to install."""
    progress("Loading the networks that tell voices apart")
    folder = cache_dir or default_cache_dir(progress)
    return EmbeddedDiarizer(load_voices(folder), load_judge(folder))


def recogniser(
    diarizer: EmbeddedDiarizer,
    heard: Sequence[tuple[str, Samples]],
    enrolled: Sequence[tuple[str, Voiceprint]] = (),
) -> Recogniser | None:
    """Names speakers of a recording by how known people sound; None where nobody is known.

    heard: names, and audio of each at 16 kHz; enrolled: names, and voiceprints of the same networks.
    """
    prints = [*((name, diarizer.voiceprint(audio)) for name, audio in heard), *enrolled]
    if not prints:
        return None

    def named(turns: Sequence[Turn], audio: Samples) -> dict[int, tuple[str, float]]:
        heard = {speaker: _heard(speaker, turns, audio) for speaker in {turn.speaker for turn in turns}}
        voices = {
            speaker: diarizer.voiceprint(samples)
            for speaker, samples in heard.items()
            if len(samples) >= LEAST_S * SAMPLE_RATE
        }
        return recognise(voices, prints)

    return named


def _heard(speaker: int, turns: Sequence[Turn], audio: Samples) -> Samples:
    """The longest stretches of a speaker, up to LISTENED_S of them."""
    own = sorted((t for t in turns if t.speaker == speaker), key=lambda t: t.start - t.end)
    pieces, room = [], round(LISTENED_S * SAMPLE_RATE)
    for turn in own:
        piece = audio[turn.start : turn.end][:room]
        pieces.append(piece)
        room -= len(piece)
        if room <= 0:
            break
    return np.concatenate(pieces)


def load_diarizer(
    kind: str, model: str | None, cache_dir: Path | None, progress: Callable[[str], None]
) -> RecordingDiarizer:
    """The resident diarizer. model: of pyannote, a folder or an id on the hub. ModelError says what to install."""
    if kind == "pyannote":
        from npu.pyannote import DEFAULT_MODEL, PyannoteDiarizer  # only here: it loads torch

        progress("Loading pyannote.audio")
        return PyannoteDiarizer.load(model or DEFAULT_MODEL)
    if kind == "embedded":
        return load_embedded(cache_dir, progress)
    raise ModelError(f"no diarizer is called {kind!r}; there are embedded and pyannote")
