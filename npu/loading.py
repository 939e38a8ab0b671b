"""Models by name: what is installed here, made resident."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from npu.transcriber import Transcriber
from streaming.vad import FrameJudge


def _quiet(_line: str) -> None:
    """Progress nobody asked for."""


def load_transcriber(
    model: str = "moonshine-tiny",
    device: str = "auto",
    cache_dir: Path | None = None,
    progress: Callable[[str], None] = _quiet,
) -> Transcriber:
    """The resident model. `progress` gets one line per slow step; ModelError says what to install."""
    raise NotImplementedError


def load_judge(cache_dir: Path | None = None) -> Callable[[], FrameJudge]:
    """Makes one judge per stream; all of them share the resident Silero model. ModelError when there is none."""
    raise NotImplementedError
