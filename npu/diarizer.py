"""Who speaks when in a recording: what is asked of a diarizer, and the choice of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from streaming.audio import Samples
from streaming.errors import ModelError
from streaming.turns import Turn

Diarizer = Literal["embedded", "pyannote"]


class RecordingDiarizer(Protocol):
    """Tells the speakers of a whole recording apart. Resident, shared by all recordings."""

    name: str  # what its results are called after

    def turns(self, audio: Samples, min_speakers: int | None, max_speakers: int | None) -> list[Turn]:
        """audio [n] at 16 kHz -> turns in order of time, speakers numbered; blocks until done."""


def load_diarizer(
    kind: str, model: str | None, cache_dir: Path | None, progress: Callable[[str], None]
) -> RecordingDiarizer:
    """The resident diarizer. model: of pyannote, a folder or an id on the hub. ModelError says what to install."""
    if kind == "pyannote":
        from npu.pyannote import DEFAULT_MODEL, PyannoteDiarizer  # only here: it loads torch

        progress("Loading pyannote.audio")
        return PyannoteDiarizer.load(model or DEFAULT_MODEL)
    raise ModelError(f"no diarizer is called {kind!r}; there are embedded and pyannote")
