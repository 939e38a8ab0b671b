"""For tests of the whole: a Whisper that speaks, and a session without a producer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.service import Service
from npu.loading import load_transcriber
from npu.transcriber import Transcriber
from streaming.events import Final, Ledger, Stopped
from streaming.protocol import AudioFormat, Start

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


class Talk:
    """A session named talk in which text is said that nobody spoke."""

    async def open(self, service: Service) -> None:
        """Begins it."""
        audio = AudioFormat(encoding="pcm_s16le", sample_rate=16_000)
        await service.open_session(Start(audio=audio, session="talk"))

    async def say(self, service: Service, first: int, last: int, text: str = "text") -> None:
        """Finals with these numbers, from the first to the last."""
        for seq in range(first, last + 1):
            final = Final(seq=seq, utterance=seq, start=seq, end=seq + 0.5, text=text, language="en")
            await service.journal.append("talk", [final], 0, Ledger())
            service.hub.publish("talk", final)

    async def stop(self, service: Service, seq: int) -> None:
        """Ends it."""
        stopped = Stopped(seq=seq, audio_end=1.0, ledger=Ledger())
        await service.journal.append("talk", [stopped], 0, Ledger())
        service.hub.publish("talk", stopped)
        service.hub.end("talk")


@pytest.fixture(scope="session")
def talk() -> Talk:
    """What viewers see without a producer."""
    return Talk()
