"""From a window of audio to a hypothesis: the one thing the rest of the system asks of a model."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Literal, Protocol

from npu.acceleration import Acceleration
from npu.architecture import Architecture
from npu.attempts import Attempt, Decoder, Outcome
from npu.beam import Beam
from npu.decoding import Rules, Shaper
from npu.longform import long_form
from npu.model import Backend
from npu.opening import Opened, opened_all, prompt_tokens
from npu.plausibility import Thresholds
from npu.shaping import shapers, vocabulary
from npu.timing import timed
from npu.tokens import Tokenizer
from streaming.audio import Samples
from streaming.events import Utterance
from streaming.window import SAMPLE_RATE, Hypothesis, Manner, Purpose, Scores, Window, Word

SHORTEST_S = 0.1  # audio below this holds no word
LATE_S = 0.1  # how late the detector hears most speech begin
BATCH = 16  # decodings in lockstep; more gain little, and wait longer for the longest
_MANNERS = 64  # vocabularies and prompts that are held ready

LiveContext = Literal["full", "window"]

_log = logging.getLogger(__name__)


class Transcriber(Protocol):
    """A resident model with its tokenizer. Shared by all sessions, safe to call from several threads at once."""

    name: str  # model, e.g. "moonshine-tiny"
    languages: tuple[str, ...]  # codes of those it understands, e.g. ("en",)
    translates: bool  # into English, where that is asked for
    context_s: (
        float | None
    )  # of audio that it hears as one, and pads where there is less; None: as much as there is

    @property
    def device(self) -> str:
        """What it runs on, e.g. "cpu (onnxruntime 1.31.1)"; another one once the NPU has failed."""

    @property
    def acceleration(self) -> Acceleration:
        """What it has of the NPU."""

    def transcribe(self, window: Window) -> Hypothesis:
        """Decodes the window, beginning with `window.forced`; blocks until done.

        Audio shorter than a tenth of a second gives the forced words alone.
        """

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        """Decodes windows of recordings, without forced words or drafts, several in lockstep; blocks until done."""

    def follow(self, blocks: Iterable[Samples], manner: Manner, words: bool) -> Iterator[Utterance]:
        """What is said in a recording [n] at 16 kHz, by the model's own timestamps; blocks while it reads.

        words: with their times and confidences. ModelError where the model tells no times.
        """


class ModelTranscriber:
    """A transcriber over any backend."""

    def __init__(
        self,
        backend: Backend,
        architecture: Architecture,
        tokenizer: Tokenizer,
        live_context: LiveContext = "full",
    ) -> None:
        """live_context: how much a model of fixed context hears for a partial: all of it, or only the window.

        Words are doubted where the model can say that nobody speaks: the thresholds are of the probabilities of those
        that can.
        """
        self.name = backend.name
        self.languages = tokenizer.languages
        self.translates = "translate" in tokenizer.signals.tasks
        padded = architecture.spectrogram is not None
        self.context_s = architecture.most_samples / SAMPLE_RATE if padded else None
        self._backend = backend
        self._architecture = architecture
        self._tokenizer = tokenizer
        self._short = live_context == "window"
        thresholds = Thresholds() if tokenizer.signals.silent is not None else None
        self._decoder = Decoder(backend, tokenizer.text, thresholds)
        self._shapers = lru_cache(_MANNERS)(partial(_shapers, tokenizer))
        # Without `self`, or nothing but the cyclic collector would ever give a model's memory back.
        self._before = lru_cache(_MANNERS)(partial(_prompt, tokenizer, architecture.most_tokens))

    @property
    def device(self) -> str:
        """What the backend runs on."""
        return self._backend.device

    @property
    def acceleration(self) -> Acceleration:
        """What the backend has of the NPU."""
        return self._backend.acceleration

    def transcribe(self, window: Window) -> Hypothesis:
        """A partial by the most probable tokens, with the window's draft; a final as its manner asks."""
        begun = time.perf_counter()
        if len(window.audio) < SHORTEST_S * SAMPLE_RATE:
            return Hypothesis(self._untimed(window.forced), window.manner.language or self.languages[0])
        live = window.purpose is Purpose.PARTIAL
        (attempt,) = self._attempts([window], self._short and live)
        if live:
            outcome = self._decoder.at_once(attempt, window.timed)
        else:
            manner = window.manner
            beam = Beam(manner.beam)
            outcome = self._decoder.at_leisure([attempt], beam, manner.temperature, window.timed)[0]
        return self._hypothesis(window, attempt, outcome, time.perf_counter() - begun)

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        """Windows of about one length share their passes, so that little of a batch is padding."""
        found = {
            i: Hypothesis((), window.manner.language or self.languages[0])
            for i, window in enumerate(windows)
            if len(window.audio) < SHORTEST_S * SAMPLE_RATE
        }
        for manner in dict.fromkeys(window.manner for window in windows):
            ours = [i for i, window in enumerate(windows) if window.manner == manner and i not in found]
            order = sorted(ours, key=lambda i: len(windows[i].audio))
            size = max(1, BATCH // manner.beam)
            for at in range(0, len(order), size):
                rows = order[at : at + size]
                found |= zip(rows, self._in_lockstep([windows[i] for i in rows]), strict=True)
        return [found[i] for i in range(len(windows))]

    def follow(self, blocks: Iterable[Samples], manner: Manner, words: bool) -> Iterator[Utterance]:
        """A context after the other."""
        return long_form(self._backend, self._architecture, self._tokenizer, blocks, manner, words)

    def _in_lockstep(self, windows: Sequence[Window]) -> list[Hypothesis]:
        """Of one manner."""
        begun = time.perf_counter()
        timed = any(window.timed for window in windows)
        attempts = self._attempts(windows)
        manner = windows[0].manner
        outcomes = self._decoder.at_leisure(attempts, Beam(manner.beam), manner.temperature, timed)
        share = (time.perf_counter() - begun) / len(windows)
        return [self._hypothesis(*each, share) for each in zip(windows, attempts, outcomes, strict=True)]

    def _attempts(self, windows: Sequence[Window], short: bool = False) -> list[Attempt]:
        """Of one manner."""
        caches = [self._backend.encode(window.audio, short).start() for window in windows]
        manner = windows[0].manner
        before = self._before(manner.prompt)
        begun = opened_all(self._backend, self._tokenizer, caches, manner, before=before)
        return list(map(self._attempt, windows, begun))

    def _attempt(self, window: Window, begun: Opened) -> Attempt:
        """A partial is no longer than what was said; a final has the benefit of the doubt: the detector may be late."""
        shape, samples = self._architecture, len(window.audio)
        most = shape.token_limit(samples, SAMPLE_RATE)
        if window.purpose is Purpose.PARTIAL:
            silent = max(0, window.quiet - round(LATE_S * SAMPLE_RATE))
            most = shape.token_limit(samples - silent, SAMPLE_RATE) - 1
        most = min(most, shape.most_tokens - len(begun.opening))
        signals, shapers = self._tokenizer.signals, self._shapers(window.manner.vocabulary)
        rules = Rules(begun.opening, signals.end, most, self._tokenizer.word_starts, shapers)
        return Attempt(begun, rules, window.forced, window.draft)

    def _hypothesis(self, window: Window, attempt: Attempt, outcome: Outcome, decode_s: float) -> Hypothesis:
        """Of the words that are withheld, those that are committed stay."""
        decoding, language = outcome.decoding, attempt.opened.language
        words = self._untimed(decoding.tokens)
        if window.timed:
            offset = window.start / SAMPLE_RATE
            words = timed(words, decoding.attention, decoding.log_probs, window.audio, offset)
        scores = None
        if len(decoding.log_probs):
            scores = Scores(decoding.mean_log_prob, attempt.opened.silence, outcome.temperature)
        if outcome.doubt is None:
            return Hypothesis(words, language, decode_s, scores=scores)
        kept = words[: len(self._tokenizer.words(window.forced))]
        _log.info(
            "%d words withheld, %s: utterance %d, %.1f to %.1f s, a %s",
            len(words) - len(kept), outcome.doubt, window.utterance, window.start / SAMPLE_RATE,
            window.end / SAMPLE_RATE, window.purpose.name.lower(),
        )  # fmt: skip
        return Hypothesis(kept, language, decode_s, outcome.doubt, scores)

    def _untimed(self, tokens: Sequence[int]) -> tuple[Word, ...]:
        return tuple(Word(text, spelling) for text, spelling in self._tokenizer.words(tokens))


def _prompt(tokenizer: Tokenizer, most_tokens: int, prompt: str) -> tuple[int, ...]:
    return prompt_tokens(tokenizer, prompt, most_tokens)


def _shapers(tokenizer: Tokenizer, words: tuple[str, ...]) -> tuple[Shaper, ...]:
    return shapers(tokenizer.signals, expected=vocabulary(words, tokenizer) if words else None)
