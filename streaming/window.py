"""A window of audio on its way to the model, and what the model made of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, of all audio behind the socket


class Purpose(Enum):
    """Why a window is decoded. Lower is more urgent."""

    FINAL = 0  # the utterance has ended, or will have if nobody goes on speaking
    PARTIAL = 1  # the utterance is open


Task = Literal["transcribe", "translate"]


@dataclass(frozen=True)
class Manner:
    """How speech is to become text; the same for all windows of a session or a recording."""

    language: str | None = None  # code, e.g. "de"; None: the model finds out for each window
    task: Task = "transcribe"  # "translate": into English
    prompt: str = ""  # what might have been said before: spelling, names, style
    vocabulary: tuple[str, ...] = ()  # words and phrases that are more likely here than elsewhere
    beam: int = 1  # hypotheses kept side by side where nobody waits for a partial
    temperature: float | None = (
        None  # of sampling; None: the most probable, less sure where that is implausible
    )


PLAIN = Manner()


@dataclass(frozen=True, eq=False)
class Window:
    """Audio to be decoded, with what is known of its text."""

    utterance: int  # which utterance of the session
    start: int  # sample index of audio[0] in the session
    audio: NDArray[np.float32]  # [n] at 16 kHz, -1..1
    forced: tuple[int, ...]  # tokens the decoding must begin with: what has been committed
    draft: tuple[int, ...]  # tokens the last hypothesis went on with; a guess to verify, never a constraint
    purpose: Purpose
    timed: bool = False  # word times and confidences are wanted
    quiet: int = 0  # samples at its beginning in which nobody speaks yet, as far as the detector can tell
    manner: Manner = PLAIN

    @property
    def end(self) -> int:
        """Sample index after the last one."""
        return self.start + len(self.audio)


@dataclass(frozen=True)
class Word:
    """A word of a hypothesis, with the tokens that spell it."""

    text: str  # as written, punctuation attached, no surrounding space
    tokens: tuple[int, ...]
    start: float = 0.0  # seconds since the session's first sample; 0 where the window was not `timed`
    end: float = 0.0  # seconds
    confidence: float = 0.0  # 0..1, geometric mean of its tokens' probabilities


@dataclass(frozen=True)
class Scores:
    """How a hypothesis came about, and how far its model believes it."""

    avg_logprob: float  # mean natural logarithm of the probabilities of its tokens, the end among them
    no_speech_prob: float = 0.0  # 0..1 that nobody speaks; 0 where the model does not say
    temperature: float = 0.0  # that its tokens were drawn at; 0: the most probable ones


@dataclass(frozen=True)
class Hypothesis:
    """What the model heard in a window. The words' tokens, joined, are the decoded tokens (no start or end)."""

    words: tuple[Word, ...]
    language: str = "en"
    decode_s: float = 0.0  # CPU-side duration of encoder and decoder, seconds
    doubt: str | None = None  # why words that were heard are withheld, a word or two, e.g. "repetition"
    scores: Scores | None = None  # None where the model keeps none

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens in order."""
        return tuple(token for word in self.words for token in word.tokens)
