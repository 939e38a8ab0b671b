"""What a client asks of its recording."""

from __future__ import annotations

from dataclasses import dataclass

from npu.recordings import POOL_S
from npu.transcriber import Transcriber
from npu.transcripts import understood
from streaming.audio import Samples
from streaming.errors import BadMessage, ModelError
from streaming.window import Manner, Task


@dataclass(frozen=True)
class Asked:
    """The fields of a form, whichever path it came by, without what the model may make of them."""

    model: str | None = None  # None: the default one
    language: str | None = None  # a code, a tag or an English name; None: the model finds out
    task: Task = "transcribe"
    prompt: str = ""
    temperature: float | None = None
    vocabulary: tuple[str, ...] = ()
    beam: int = 1
    words: bool = False
    evidence: bool = False
    speakers: bool = False
    min_speakers: int | None = None
    max_speakers: int | None = None
    known: tuple[tuple[str, Samples], ...] = ()  # names, and how they sound, 16 kHz
    pool_s: float = POOL_S  # audio read before it is decoded

    def manner(self, transcriber: Transcriber) -> Manner:
        """How this model is to do it; BadMessage where it cannot."""
        if self.task == "translate" and not transcriber.translates:
            raise BadMessage(f"model: {transcriber.name} cannot translate; name one that does.", "model")
        try:
            language = understood(self.language, transcriber)
        except ModelError as error:
            raise BadMessage(f"language: {error}", "language") from error
        return Manner(language, self.task, self.prompt, self.vocabulary, self.beam, self.temperature)
