"""From a window of audio to a hypothesis: the one thing the rest of the system asks of a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from npu.architecture import Architecture
from npu.decoding import Decoding, Rules, decode, decode_together
from npu.model import Backend
from npu.timing import word_spans
from npu.tokens import Tokenizer
from streaming.window import SAMPLE_RATE, Hypothesis, Purpose, Window, Word

SHORTEST_S = 0.1  # audio below this holds no word
LATE_S = 0.1  # how late the detector hears most speech begin
BATCH = 16  # windows decoded in lockstep; more gain little, and wait longer for the longest


class Transcriber(Protocol):
    """A resident model with its tokenizer. Shared by all sessions, safe to call from several threads at once."""

    name: str  # model, e.g. "moonshine-tiny"
    device: str  # what it runs on, e.g. "cpu (onnxruntime 1.31.1)"
    languages: tuple[str, ...]  # codes of those it understands, e.g. ("en",)
    translates: bool  # into English, where that is asked for
    context_s: (
        float | None
    )  # of audio that it hears as one, and pads where there is less; None: as much as there is

    def transcribe(self, window: Window) -> Hypothesis:
        """Decodes the window, beginning with `window.forced`; blocks until done.

        Audio shorter than a tenth of a second gives the forced words alone.
        """

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        """Decodes windows of recordings, without forced words or drafts, several in lockstep; blocks until done."""


class ModelTranscriber:
    """A transcriber over any backend."""

    def __init__(self, backend: Backend, architecture: Architecture, tokenizer: Tokenizer) -> None:
        self.name = backend.name
        self.device = backend.device
        self.languages = tokenizer.languages
        self.translates = "translate" in tokenizer.signals.tasks
        padded = architecture.spectrogram is not None
        self.context_s = architecture.most_samples / SAMPLE_RATE if padded else None
        self._backend = backend
        self._architecture = architecture
        self._tokenizer = tokenizer

    def transcribe(self, window: Window) -> Hypothesis:
        """Encoder, then greedy decoding with the window's draft; word times where they are wanted."""
        begun = time.perf_counter()
        if len(window.audio) < SHORTEST_S * SAMPLE_RATE:
            return Hypothesis(self._untimed(window.forced))
        cache = self._backend.encode(window.audio).start()
        rules = self._rules(window)
        decoding = decode(self._backend, cache, rules, window.forced, window.draft, scored=window.timed)
        words = self._untimed(decoding.tokens)
        if window.timed:
            words = _timed(words, decoding, window)
        return Hypothesis(words, decode_s=time.perf_counter() - begun)

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        """Windows of about one length share their passes, so that little of a batch is padding."""
        found = {
            i: Hypothesis(())
            for i, window in enumerate(windows)
            if len(window.audio) < SHORTEST_S * SAMPLE_RATE
        }
        order = sorted(
            (i for i in range(len(windows)) if i not in found), key=lambda i: len(windows[i].audio)
        )
        for at in range(0, len(order), BATCH):
            rows = order[at : at + BATCH]
            found |= dict(zip(rows, self._in_lockstep([windows[i] for i in rows]), strict=True))
        return [found[i] for i in range(len(windows))]

    def _in_lockstep(self, windows: Sequence[Window]) -> list[Hypothesis]:
        begun = time.perf_counter()
        timed = any(window.timed for window in windows)
        starts = [self._backend.encode(window.audio).start() for window in windows]
        rules = [self._rules(window) for window in windows]
        for cache, each in zip(starts, rules, strict=True):
            if opening := each.opening[:-1]:
                self._backend.extend(cache, opening)
        decodings = decode_together(self._backend.together(starts, timed), rules, timed)
        words = [self._untimed(decoding.tokens) for decoding in decodings]
        if timed:
            words = [_timed(*each) for each in zip(words, decodings, windows, strict=True)]
        share = (time.perf_counter() - begun) / len(windows)
        return [Hypothesis(each, decode_s=share) for each in words]

    def _rules(self, window: Window) -> Rules:
        """A partial is no longer than what was said; a final has the benefit of the doubt: the detector may be late."""
        shape, samples = self._architecture, len(window.audio)
        most = shape.token_limit(samples, SAMPLE_RATE)
        if window.purpose is Purpose.PARTIAL:
            silent = max(0, window.quiet - round(LATE_S * SAMPLE_RATE))
            most = shape.token_limit(samples - silent, SAMPLE_RATE) - 1
        signals = self._tokenizer.signals
        opening = signals.opening(window.manner.language or self.languages[0], window.manner.task)
        return Rules(opening, signals.end, most, self._tokenizer.word_starts)

    def _untimed(self, tokens: Sequence[int]) -> tuple[Word, ...]:
        return tuple(Word(text, spelling) for text, spelling in self._tokenizer.words(tokens))


def _timed(words: Sequence[Word], decoding: Decoding, window: Window) -> tuple[Word, ...]:
    """The words with their times and confidences."""
    if not words:
        return ()
    lengths = [len(word.tokens) for word in words]
    spans = word_spans(decoding.attention, lengths, window.audio)
    offset = window.start / SAMPLE_RATE
    ends = np.cumsum(lengths)
    timed = []
    for word, (start, end), last in zip(words, spans, ends, strict=True):
        confidence = float(np.exp(decoding.log_probs[last - len(word.tokens) : last].mean()))
        timed.append(Word(word.text, word.tokens, offset + start, offset + end, confidence))
    return tuple(timed)
