"""Long recordings without a detector: the model itself says where each segment begins and ends, and where to go on.

The context slides over the recording; what is said after the last whole segment is heard again at the beginning of the
next context. As in Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 4.5,
and, but for the two guards named at `passages`, as transformers' `generate` has it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from npu.architecture import Architecture
from npu.attempts import Attempt, Decoder, Outcome
from npu.beam import Beam
from npu.decoding import Rules, Shaper
from npu.model import Backend, Encoded
from npu.opening import opened, prompt_tokens, recent
from npu.plausibility import Thresholds
from npu.shaping import shapers, vocabulary
from npu.timing import timed
from npu.tokens import Signals, Tokenizer
from streaming.audio import Samples
from streaming.errors import ModelError
from streaming.events import SpokenWord, Utterance
from streaming.spacing import joined
from streaming.window import PLAIN, SAMPLE_RATE, Manner, Word

FRAME = SAMPLE_RATE // 100  # samples; places in a recording are counted in these
SHORTEST = 10  # frames; less than that at the end of a recording holds no word
_COOL = 0.5  # what was drawn at this temperature or above is no good beginning for what follows

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segment:
    """What was said between two times."""

    start: float  # seconds of the recording
    end: float
    tokens: tuple[int, ...]  # timestamps included


class Hearing(Protocol):
    """A recording, a context at a time."""

    def context(self, frame: int) -> tuple[Encoded, int] | None:
        """What begins at this frame, encoded, and how many frames of it are audio; None: there is no more.

        The frames never descend from call to call.
        """


class FeatureBackend(Protocol):
    """A backend that hears through features."""

    def encode_features(self, features: NDArray[np.float32], short: bool = False) -> Encoded:
        """features [frames, bins], no more than the context holds."""


class HeardFeatures:
    """Of features [frames, bins] that are there as a whole, scaled by the loudest place in all of them."""

    def __init__(self, backend: FeatureBackend, features: NDArray[np.float32], frames: int) -> None:
        """frames: of a context."""
        self._backend = backend
        self._features = features
        self._frames = frames

    def context(self, frame: int) -> tuple[Encoded, int] | None:
        """Zeros fill what is beyond the end."""
        part = self._features[frame : frame + self._frames]
        return (self._backend.encode_features(part), len(part)) if len(part) else None


class HeardAudio:
    """Of audio that comes in blocks, a context of which is held at a time."""

    def __init__(self, backend: Backend, blocks: Iterable[Samples], most_samples: int) -> None:
        self._backend = backend
        self._blocks = iter(blocks)
        self._most = most_samples
        self._held = np.zeros(0, np.float32)
        self._start = 0  # frames before it

    def context(self, frame: int) -> tuple[Encoded, int] | None:
        """Silence fills what is beyond the end."""
        self._held = self._held[(frame - self._start) * FRAME :]
        self._start = frame
        while len(self._held) < self._most and (block := next(self._blocks, None)) is not None:
            self._held = np.concatenate([self._held, block])
        audio = self._held[: self._most]
        frames = len(audio) // FRAME
        return (self._backend.encode(audio), frames) if frames >= SHORTEST else None

    def audio(self, frame: int, frames: int) -> Samples:
        """Of the last context."""
        return self._held[(frame - self._start) * FRAME :][: frames * FRAME]


@dataclass(frozen=True, eq=False)
class Passage:
    """What was heard in one context."""

    segments: tuple[Segment, ...]
    outcome: Outcome
    language: str
    start: int  # frame of the recording
    frames: int


def passages(
    backend: Backend,
    architecture: Architecture,
    tokenizer: Tokenizer,
    hearing: Hearing,
    manner: Manner = PLAIN,
    thresholds: Thresholds | None = None,
    carried: bool = False,
    attended: bool = False,
    guarded: bool = True,
) -> Iterator[Passage]:
    """One context after the other, as they are decoded; the language is that of the first in which something is said.

    carried: what was said before is told to the model. thresholds: what is plausible; the words of other passages are
    withheld. guarded: loops are cut short. A context in which the model would stand still is left behind.
    ModelError where the model tells no times.
    """
    signals = tokenizer.signals
    if signals.first_time is None:
        raise ModelError(
            f"{backend.name} tells no times, so it cannot go through a recording by itself; detect the speech first"
        )
    run = _Run(backend, architecture, tokenizer, manner, thresholds, guarded)
    frame, said = 0, list[int]()
    while (found := hearing.context(frame)) is not None:
        encoded, frames = found
        before = recent([*run.prompt, *said], architecture.most_tokens) if said else run.prompt
        outcome, language = run.decode(encoded, before, attended)
        segments: tuple[Segment, ...] = ()
        step = frames
        if outcome.doubt is None:
            segments, step = split(outcome.decoding.tokens, frame, frames, signals)
            run.manner = replace(run.manner, language=language)
        yield Passage(segments, outcome, language, frame, frames)
        for segment in segments if carried else ():
            said += _without_double_time(segment.tokens, signals)
        if outcome.temperature >= _COOL:
            said.clear()
        frame += step if step > 0 else frames


class _Run:
    """What stays the same from context to context."""

    def __init__(
        self,
        backend: Backend,
        architecture: Architecture,
        tokenizer: Tokenizer,
        manner: Manner,
        thresholds: Thresholds | None,
        guarded: bool,
    ) -> None:
        self.manner = manner  # with the language, once it is known
        self.prompt = prompt_tokens(tokenizer, manner.prompt, architecture.most_tokens)
        self._backend = backend
        self._architecture = architecture
        self._tokenizer = tokenizer
        self._guarded = guarded
        expected = vocabulary(manner.vocabulary, tokenizer) if manner.vocabulary else None
        self._shapers: tuple[Shaper, ...] = shapers(tokenizer.signals, timestamps=True, expected=expected)
        self._decoder = Decoder(backend, tokenizer.text, thresholds)

    def decode(self, encoded: Encoded, before: Sequence[int], attended: bool) -> tuple[Outcome, str]:
        """What is heard, and in which language."""
        begun = opened(self._backend, self._tokenizer, encoded.start(), self.manner, True, before)
        most = self._architecture.most_tokens - len(begun.opening)
        starts = self._tokenizer.word_starts
        end = self._tokenizer.signals.end
        rules = Rules(begun.opening, end, most, starts, self._shapers, guarded=self._guarded)
        beam = Beam(self.manner.beam)
        attempts = [Attempt(begun, rules)]
        return self._decoder.at_leisure(attempts, beam, self.manner.temperature, attended)[0], begun.language


def split(
    tokens: Sequence[int], start: int, frames: int, signals: Signals
) -> tuple[tuple[Segment, ...], int]:
    """tokens: of a context of so many frames that begins at frame `start` -> its segments, and frames to go on by.

    Two timestamps in a row end a segment and begin the next. What follows the last pair is not whole, unless it ends
    with a timestamp of its own: then nothing is said after it.
    """
    first, step_s = signals.first_time, signals.time_step_s
    assert first is not None
    offset = start * FRAME / SAMPLE_RATE
    frames_per_step = round(step_s * SAMPLE_RATE / FRAME)
    times = [token >= first for token in tokens]
    edges = [i for i in range(1, len(tokens)) if times[i - 1] and times[i]]
    whole = times[-2:] == [False, True]
    if not edges:
        said = [token for token in tokens if token >= first]
        steps = said[-1] - first if said and said[-1] != first else frames // frames_per_step
        return (Segment(offset, offset + steps * step_s, tuple(tokens)),), frames
    if whole:
        edges.append(len(tokens))
    else:
        edges[-1] += 1  # the last segment holds both of its timestamps
    found = []
    for begin, end in zip([0, *edges], edges, strict=False):
        part = tuple(tokens[begin:end])
        last = part[-1] if end < edges[-1] or whole else part[-2]
        spoken = offset + (part[0] - first) * step_s, offset + (last - first) * step_s
        found.append(Segment(*spoken, part))
    if whole:
        return tuple(found), frames
    return tuple(found), (tokens[edges[-1] - 2] - first) * frames_per_step


def long_form(
    backend: Backend,
    architecture: Architecture,
    tokenizer: Tokenizer,
    blocks: Iterable[Samples],
    manner: Manner = PLAIN,
    words: bool = False,
) -> Iterator[Utterance]:
    """blocks: 16 kHz, of any length -> what is said, segment by segment, numbered 1, 2, 3 ...; blocks while it reads.

    words: with their times and confidences. A context of the audio is held at a time. ModelError where the model tells
    no times.
    """
    hearing = HeardAudio(backend, blocks, architecture.most_samples)
    signals = tokenizer.signals
    thresholds = Thresholds() if signals.silent is not None else None
    first_time = len(tokenizer.word_starts) if signals.first_time is None else signals.first_time
    number = 0
    for passage in passages(backend, architecture, tokenizer, hearing, manner, thresholds, attended=words):
        if passage.outcome.doubt is not None:
            begin = passage.start * FRAME / SAMPLE_RATE
            _log.info("words withheld, %s: the context from %.1f s on", passage.outcome.doubt, begin)
        at = 0  # token of the passage
        for segment in passage.segments:
            rows = [at + i for i, token in enumerate(segment.tokens) if token < first_time]
            at += len(segment.tokens)
            tokens = [passage.outcome.decoding.tokens[row] for row in rows]
            spoken = tuple(Word(text, spelling) for text, spelling in tokenizer.words(tokens))
            if spoken:
                number += 1
                yield Utterance(
                    utterance=number,
                    start=segment.start,
                    end=max(segment.start, segment.end),
                    text=joined(word.text for word in spoken),
                    language=passage.language,
                    words=_timed(spoken, rows, segment, passage, hearing) if words else None,
                )


def _timed(
    words: Sequence[Word], rows: Sequence[int], segment: Segment, passage: Passage, hearing: HeardAudio
) -> tuple[SpokenWord, ...]:
    """By the attention within the segment. rows: of its text in the passage's tokens."""
    decoding, end = passage.outcome.decoding, passage.start + passage.frames
    last = min(max(_frame(segment.end), _frame(segment.start) + SHORTEST), end)
    first = min(_frame(segment.start), last - SHORTEST)
    per_frame = decoding.attention.shape[1] / passage.frames
    begins, ends = ((at - passage.start) * per_frame for at in (first, last))
    found = timed(
        words,
        decoding.attention[rows, int(begins) : max(int(begins) + 1, round(ends))],
        decoding.log_probs[rows],
        hearing.audio(first, last - first),
        first * FRAME / SAMPLE_RATE,
    )
    return tuple(SpokenWord(text=w.text, start=w.start, end=w.end, confidence=w.confidence) for w in found)


def _frame(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / FRAME)


def _without_double_time(tokens: Sequence[int], signals: Signals) -> Sequence[int]:
    """The tokens of a segment that ends with two timestamps, without the second of them."""
    assert signals.first_time is not None
    return tokens[:-1] if len(tokens) > 2 and tokens[-2] >= signals.first_time else tokens
