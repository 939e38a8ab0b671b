"""What is measured of the model when the daemon starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from daemon.config import Config
from daemon.engine import Engine
from npu.scripted import ScriptedTranscriber


def test_a_model_that_is_too_slow(settings: Callable[..., Config]) -> None:
    """One session is taken all the same, and the notes say what to change; a model that is fast enough has no note."""
    config = settings(engine={"capacity": 0, "workers": 1})
    for delay_s, notes in ((1.0, 1), (0.01, 0)):
        engine = asyncio.run(Engine(ScriptedTranscriber([], delay_s)).measured(config))
        assert engine.capacity >= 1 and len(engine.notes) == notes
        assert all("too slow" in note and "live_context" in note for note in engine.notes)
