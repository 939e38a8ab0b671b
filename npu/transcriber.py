"""From a window of audio to a hypothesis: the one thing the rest of the system asks of a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from npu.architecture import Architecture
from npu.decoding import Decoding, Rules, decode
from npu.model import Backend, Cache
from npu.timing import word_spans
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
    if not words:
        return ()
    lengths = [len(word.tokens) for word in words]
    attention = cache.attention()[: sum(lengths)]  # row i: where the model looked when it chose token i
    spans = word_spans(attention, lengths, window.audio)
    offset = window.start / SAMPLE_RATE
    ends = np.cumsum(lengths)
    timed = []
    for word, (start, end), last in zip(words, spans, ends, strict=True):
        confidence = float(np.exp(decoding.log_probs[last - len(word.tokens) : last].mean()))
        timed.append(Word(word.text, word.tokens, offset + start, offset + end, confidence))
    return tuple(timed)
