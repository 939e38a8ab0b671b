"""A Whisper that speaks, for tests of the whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from npu.loading import load_transcriber
from npu.transcriber import Transcriber

FIXTURES = Path(__file__).parents[1] / "fixtures"
SMALL_TALK = "whisper-small-talk"


@pytest.fixture(scope="session")
def small_talk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Transcriber]:
    """Loads the checkpoint of the fixtures, which knows a little English and Spanish; its graphs are built once."""
    cache = tmp_path_factory.mktemp("small-talk")
    return lambda: load_transcriber(str(FIXTURES / SMALL_TALK), cache_dir=cache)


@pytest.fixture(scope="session")
def small_talk_folder() -> Path:
    """Where that checkpoint lies."""
    return FIXTURES / SMALL_TALK


@pytest.fixture(scope="session")
def sayings() -> Callable[[str], tuple[Path, dict[str, Any]]]:
    """A recording of the fixtures, and what is said in it: `text`, `language`, `sentences`."""
    said = json.loads((FIXTURES / "speech" / "sentences.json").read_text("utf-8"))
    return lambda name: (FIXTURES / "speech" / f"{name}.flac", said[f"{name}.flac"])
