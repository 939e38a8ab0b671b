"""The engine: the models that live as long as the daemon, and how much work the machine was measured to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from daemon.calibration import WINDOW_S, calibrate, choices, cores
from daemon.config import Config
from daemon.models import Known, Shelf
from npu.catalog import EMBEDDED
from npu.embedded import default_cache_dir
from npu.loading import load_judge, load_transcriber
from npu.store import Installed, Store
from npu.transcriber import Transcriber
from npu.voiceprint import Voices, load_voices
from streaming.errors import ModelError
from streaming.vad import FrameJudge

logger = logging.getLogger("amanuensis.engine")

JudgeMaker = Callable[[], FrameJudge]


@dataclass(frozen=True)
class Engine:
    """Resident models. Heavy; shared by all sessions."""

    transcriber: Transcriber  # the default one
    judges: JudgeMaker | None = None  # makes Silero for a stream; None: WebRTC alone
    voices: Voices | None = None  # None: no speaker labels
    workers: int = 1  # threads for the transcriber
    capacity: int = 1  # sessions at once
    window_s: float = 0.0  # measured: seconds a worker needs for a window of 4 s
    notes: tuple[str, ...] = field(default=())  # what is missing, for whoever looks after this daemon
    shelf: Shelf = field(default_factory=Shelf)  # transcribers that could be loaded besides

    @classmethod
    async def load(cls, config: Config) -> Engine:
        """All models of the configuration; ModelError where there is none to transcribe with."""
        cache = config.model.cache_path or default_cache_dir(logger.warning)
        transcriber = await asyncio.to_thread(
            load_transcriber, config.model.name, progress=logger.info, **config.model.loading
        )
        judges, voices, notes = None, None, []
        if config.speech.silero:
            try:
                judges = await asyncio.to_thread(load_judge, cache)
            except ModelError as error:
                notes.append(f"Speech detection runs without Silero, so more noise becomes text: {error}")
        try:
            voices = await asyncio.to_thread(load_voices, cache)
        except ModelError as error:
            notes.append(f"Speaker labels are unavailable: {error}")
        for note in notes:
            logger.warning(note)
        return cls(transcriber, judges, voices, notes=tuple(notes), shelf=_shelf(config))

    async def measured(self, config: Config) -> Engine:
        """The same, with the numbers of the configuration, or of a calibration where it leaves them open."""
        engine = config.engine
        workers, capacity, window_s, notes = engine.workers, engine.capacity, 0.0, self.notes
        if not workers or not capacity:
            tried = (workers,) if workers else choices(cores())
            found = await asyncio.to_thread(calibrate, self.transcriber, tried, engine.max_step_s)
            workers, window_s = found.workers, found.window_s
            capacity = capacity or found.capacity
            if not found.keeps_up:
                notes = (*notes, _too_slow(self.transcriber.name, window_s))
                logger.warning(notes[-1])
        logger.info(
            "model %s on %s, %d workers, %d sessions at once",
            self.transcriber.name,
            self.transcriber.device,
            workers,
            capacity,
        )
        return replace(self, workers=workers, capacity=capacity, window_s=window_s, notes=notes)


def _too_slow(model: str, window_s: float) -> str:
    return (
        f"{model} is too slow for live speech on this machine ({window_s:.1f} s for {WINDOW_S:g} s of it), so captions"
        ' will come late. Choose a smaller model, or live_context = "window" in [model], or a longer max_step_s in'
        " [engine]; recordings can take their time."
    )


def _shelf(config: Config) -> Shelf:
    """What is installed on this machine: with the package, and pulled."""

    def installed() -> list[Known]:
        pulled = Store.of(config.model.models_path).installed()
        return [Known(EMBEDDED, ("en",)), *(_known(each) for each in pulled if isinstance(each, Installed))]

    return Shelf(installed, lambda name: load_transcriber(name, progress=logger.info, **config.model.loading))


def _known(model: Installed) -> Known:
    named = model.named
    english = named.entry is not None and named.entry.english_only
    try:
        created = round(model.folder.stat().st_mtime)
    except OSError:  # it is being removed
        created = 0
    return Known(named.name, ("en",) if english else (), created, named.repository.partition("/")[0])
