"""Who speaks when in a recording: what is asked of a diarizer, and the choice of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from streaming.audio import Samples
from streaming.errors import ModelError
from streaming.turns import Turn
from streaming.voices import Voiceprint, recognise
from streaming.window import SAMPLE_RATE

LISTENED_S = 30.0  # of a speaker, for a voiceprint


class RecordingDiarizer(Protocol):
    """Tells the speakers of a whole recording apart. Resident, shared by all recordings."""

    name: str  # what its results are called after

    def turns(self, audio: Samples, min_speakers: int | None, max_speakers: int | None) -> list[Turn]:
        """audio [n] at 16 kHz -> turns in order of time, speakers numbered; blocks until done."""


class EmbeddedDiarizer:
    """The networks that install with the package."""

    name = "embedded"

    def __init__(self, voices: object) -> None:
        self._voices = voices

    def turns(self, audio: Samples, min_speakers: int | None, max_speakers: int | None) -> list[Turn]:
        """audio [n] at 16 kHz -> turns in order of time."""
        half = len(audio) // 2  # placeholder until branch diarizer is merged
        return [Turn(0, half, 0), Turn(half, len(audio), 1)]

    def voiceprint(self, audio: Samples) -> Voiceprint:
        """audio [n] at 16 kHz of one speaker -> its voiceprint."""
        return np.zeros(256, np.float32)


def load_embedded(cache_dir: Path | None, progress: Callable[[str], None]) -> EmbeddedDiarizer:
    """The resident networks; ModelError says what to install."""
    return EmbeddedDiarizer(None)


def recogniser(
    diarizer: EmbeddedDiarizer, known: Sequence[tuple[str, Samples]]
) -> Callable[[Sequence[Turn], Samples], dict[int, tuple[str, float]]]:
    """Names speakers of a recording by how people on file sound. known: names, and audio of each at 16 kHz."""
    prints = [(name, diarizer.voiceprint(audio)) for name, audio in known]

    def named(turns: Sequence[Turn], audio: Samples) -> dict[int, tuple[str, float]]:
        voices = {
            speaker: diarizer.voiceprint(_heard(speaker, turns, audio))
            for speaker in {turn.speaker for turn in turns}
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
