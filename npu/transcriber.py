"""From a window of audio to a hypothesis: the one thing the rest of the system asks of a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from npu.architecture import Architecture
from npu.decoding import Decoding, Rules, decode
from npu.model import Backend, Cache
from npu.timing import token_starts
from npu.tokens import Tokenizer
from streaming.window import SAMPLE_RATE, Hypothesis, Window, Word

SHORTEST_S = 0.1  # audio below this holds no word


class Transcriber(Protocol):
    """A resident model with its tokenizer. Shared by all sessions, safe to call from several threads at once."""

    name: str  # model, e.g. "moonshine-tiny"
    device: str  # what it runs on, e.g. "cpu (onnxruntime 1.31.1)"

    def transcribe(self, window: Window) -> Hypothesis:
        """Decodes the window, beginning with `window.forced`; blocks until done.

        Audio shorter than a tenth of a second gives the forced words alone.
        """


class ModelTranscriber:
    """A transcriber over any backend."""

    def __init__(self, backend: Backend, architecture: Architecture, tokenizer: Tokenizer) -> None:
        self.name = backend.name
        self.device = backend.device
        self._backend = backend
        self._architecture = architecture
        self._tokenizer = tokenizer

    def transcribe(self, window: Window) -> Hypothesis:
        """Encoder, then greedy decoding with the window's draft; word times where they are wanted."""
        begun = time.perf_counter()
        if len(window.audio) < SHORTEST_S * SAMPLE_RATE:
            return Hypothesis(self._untimed(window.forced))
        encoded = self._backend.encode(window.audio)
        cache = encoded.start()
        rules = self._rules(len(window.audio))
        decoding = decode(self._backend, cache, rules, window.forced, window.draft, scored=window.timed)
        words = self._untimed(decoding.tokens)
        if window.timed:
            words = _timed(words, decoding, cache, window)
        return Hypothesis(words, decode_s=time.perf_counter() - begun)

    def _rules(self, samples: int) -> Rules:
        shape = self._architecture
        most = shape.token_limit(samples, SAMPLE_RATE)
        return Rules(begin=shape.begin, end=shape.end, most=most, word_starts=self._tokenizer.word_starts)

    def _untimed(self, tokens: Sequence[int]) -> tuple[Word, ...]:
        return tuple(Word(text, spelling) for text, spelling in self._tokenizer.words(tokens))


def _timed(words: Sequence[Word], decoding: Decoding, cache: Cache, window: Window) -> tuple[Word, ...]:
    """The words with their times and confidences."""
    attention = cache.attention()[
        : len(decoding.tokens)
    ]  # row i: where the model looked when it chose token i
    frame_s = len(window.audio) / SAMPLE_RATE / max(1, attention.shape[1])
    starts = np.append(token_starts(attention), attention.shape[1]) * frame_s + window.start / SAMPLE_RATE
    timed, at = [], 0
    for word in words:
        end = at + len(word.tokens)
        confidence = float(np.exp(decoding.log_probs[at:end].mean()))
        timed.append(Word(word.text, word.tokens, float(starts[at]), float(starts[end]), confidence))
        at = end
    return tuple(timed)
