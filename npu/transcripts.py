"""Transcripts of recordings: what was said in each, and, where it is wanted, by whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from npu.diarizer import Recogniser, RecordingDiarizer
from npu.languages import code_of
from npu.recordings import POOL_S, Batches, Source, transcribe
from npu.transcriber import Transcriber
from streaming.audio import Samples
from streaming.errors import AmanuensisError, AudioError, ModelError
from streaming.events import DurableEvent, Event, Final, Gap, SpeakerLabel, Stopped, Utterance
from streaming.lines import by_speaker, speakers
from streaming.settings import SessionOptions, SessionSettings
from streaming.transcript import apply
from streaming.vad import FrameJudge, VadSettings
from streaming.window import PLAIN, SAMPLE_RATE, Manner

AROUND_S = 0.5  # of an utterance, which the diarizer hears too


@dataclass(frozen=True)
class SpeakersWanted:
    """How the speakers of a recording are to be told apart."""

    diarizer: RecordingDiarizer
    least: int | None = None  # speakers there are, where that is known
    most: int | None = None
    recognise: Recogniser | None = None


@dataclass(frozen=True)
class Wanted:
    """What a transcript is to hold."""

    manner: Manner = PLAIN
    words: bool = False  # their times and confidences
    evidence: bool = False  # what each utterance rests on
    speakers: SpeakersWanted | None = None
    speech: SessionSettings = field(default_factory=SessionSettings)
    vad: VadSettings = field(default_factory=VadSettings)


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording."""

    name: str
    utterances: tuple[Utterance, ...]  # numbered 1, 2, 3 ...; with speakers, one utterance is of one of them
    duration_s: float
    speech_s: float  # of it
    language: str

    @property
    def text(self) -> str:
        """All of it in one line."""
        return " ".join(utterance.text for utterance in self.utterances)

    @property
    def speakers(self) -> list[SpeakerLabel]:
        """In order of appearance."""
        return speakers(self.utterances)

    def summary(self, words: bool) -> dict[str, Any]:
        """All of it as one JSON object, word times included or not: what POST /transcribe answers."""
        return {
            "text": self.text,
            "language": self.language,
            "duration": round(self.duration_s, 3),
            "segments": [_segment(utterance, words) for utterance in self.utterances],
            "speakers": [
                {
                    **each.model_dump(include={"id", "name", "confidence"}, exclude_none=True),
                    "seconds": round(self._speaking_s(each.id), 3),
                }
                for each in self.speakers
            ],
        }

    def _speaking_s(self, speaker: str) -> float:
        return sum(
            u.end - u.start for u in self.utterances if u.speaker is not None and u.speaker.id == speaker
        )


def _segment(utterance: Utterance, words: bool) -> dict[str, Any]:
    """Of `summary`. The speaker is the name where there is one."""
    segment: dict[str, Any] = {
        "id": utterance.utterance,
        "start": round(utterance.start, 3),
        "end": round(utterance.end, 3),
        "text": utterance.text,
    }
    if (speaker := utterance.speaker) is not None:
        segment["speaker"] = speaker.name or speaker.id
    if words and utterance.words is not None:
        segment["words"] = [
            {
                "text": w.text,
                "start": round(w.start, 3),
                "end": round(w.end, 3),
                "confidence": round(w.confidence, 3),
            }
            for w in utterance.words
        ]
    return segment


@dataclass(frozen=True)
class Unreadable:
    """A recording that has no transcript."""

    name: str
    error: AmanuensisError
    read_s: float  # seconds of audio before that


def understood(language: str | None, transcriber: Transcriber) -> str | None:
    """The code of a language that is written as a code, a tag or an English name; None where the model is to find out.

    ModelError, with the languages it knows, where this is none of them.
    """
    known = transcriber.languages
    if not language:
        return known[0] if len(known) == 1 else None
    bare = code_of(language)
    if bare not in known:
        which = "English only (en)" if known == ("en",) else ", ".join(known)
        raise ModelError(f"{transcriber.name} understands {which}, not {language!r}.")
    return bare


class Progress:
    """How far a run is, in seconds of audio over all recordings. Its methods are called in the thread of the work.

    Overridden by those who show it, or who want to stop it: what a method raises ends the run.
    """

    def read(self, name: str, seconds: float) -> None:
        """So much more audio was read of a recording."""

    def said(self, name: str, final: Final) -> None:
        """Something said in a recording has its text, in order of time; not yet whose it is."""

    def decoded(self, seconds: float) -> None:
        """So much audio of all recordings is transcribed by now; called before and between batches."""

    def telling_apart(self, name: str, share: float) -> None:
        """Its speakers are being told apart now; so much is done, 0..1. Called now and then."""


def transcripts(
    sources: Iterable[Source],
    transcriber: Transcriber,
    judges: Callable[[], FrameJudge] | None,
    wanted: Wanted,
    progress: Progress,
    threads: int = 1,
    pool_s: float = POOL_S,
) -> Iterator[Transcript | Unreadable]:
    """One for each source, each as soon as it is there; they may overtake each other.

    pool_s: audio collected before it is decoded; with less the first words come sooner, and all of it later.

    An AudioError of a source's blocks concerns that source alone. With speakers, the whole audio of a recording is
    held until it is done: 230 MB an hour; without, some minutes of it.
    """
    run = _Run(wanted, progress, wanted.manner.language or transcriber.languages[0])
    words = wanted.words or wanted.speakers is not None
    options = SessionOptions(wanted.manner, partials=False, words=words, evidence=wanted.evidence)
    decoder = Batches(transcriber, run.decoded, threads)
    opened = run.opened(sources)
    for name, event in transcribe(opened, decoder, judges, options, wanted.speech, wanted.vad, pool_s):
        if (outcome := run.receive(name, event)) is not None:
            yield outcome


class _Run:
    """What is held of the recordings that are under way."""

    def __init__(self, wanted: Wanted, progress: Progress, language: str) -> None:
        """language: of a recording in which nothing is said."""
        self._wanted = wanted
        self._language = language
        self._progress = progress
        self._events: dict[str, list[DurableEvent]] = {}
        self._audio: dict[str, list[Samples]] = {}
        self._failures: dict[str, AudioError] = {}
        self._read_s = 0.0  # of all recordings
        self._decoded_s = 0.0  # of them, when the pool was decoded last

    def opened(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The sources, listened in on."""
        for name, blocks in sources:
            self._events[name] = []
            self._audio[name] = []
            yield name, self._listened(name, blocks)

    def decoded(self, share: float) -> None:
        """So much of the pool is."""
        self._progress.decoded(self._decoded_s + share * (self._read_s - self._decoded_s))
        if share == 1.0:
            self._decoded_s = self._read_s

    def receive(self, name: str, event: Event) -> Transcript | Unreadable | None:
        """The outcome, once the recording is over."""
        if isinstance(event, Stopped):
            return self._outcome(name, event)
        if isinstance(event, Final | Gap):
            self._events[name].append(event)
        if isinstance(event, Final):
            self._progress.said(name, event)
        return None

    def _listened(self, name: str, blocks: Iterable[Samples]) -> Iterator[Samples]:
        try:
            for block in blocks:
                if self._wanted.speakers is not None:
                    self._audio[name].append(block)
                seconds = len(block) / SAMPLE_RATE
                self._read_s += seconds
                self._progress.read(name, seconds)
                yield block
        except AudioError as error:
            self._failures[name] = error

    def _outcome(self, name: str, stopped: Stopped) -> Transcript | Unreadable:
        events, audio = self._events.pop(name), self._audio.pop(name)
        if (failure := self._failures.pop(name, None)) is not None:
            return Unreadable(name, failure, stopped.audio_end)
        utterances = apply(events)
        if self._wanted.speakers is not None and utterances:
            try:
                utterances = self._labelled(name, utterances, audio, self._wanted.speakers)
            except ModelError as error:
                return Unreadable(name, error, stopped.audio_end)
        numbered = [line.model_copy(update={"utterance": at}) for at, line in enumerate(utterances, 1)]
        return Transcript(
            name, tuple(numbered), stopped.audio_end, stopped.ledger.speech_s, self._most_spoken(numbered)
        )

    def _most_spoken(self, utterances: Sequence[Utterance]) -> str:
        """The language in which most time was spent."""
        spent: dict[str, float] = {}
        for each in utterances:
            spent[each.language] = spent.get(each.language, 0.0) + each.end - each.start
        return max(spent, key=lambda language: spent[language], default=self._language)

    def _labelled(
        self, name: str, utterances: list[Utterance], blocks: list[Samples], wanted: SpeakersWanted
    ) -> list[Utterance]:
        audio = np.concatenate(blocks)
        blocks.clear()  # now it is held once
        watch = partial(self._progress.telling_apart, name)
        speech = [_samples(utterance, len(audio)) for utterance in utterances]
        turns = wanted.diarizer.turns(audio, wanted.least, wanted.most, speech, watch)
        names = wanted.recognise(turns, audio) if wanted.recognise else {}
        return by_speaker(utterances, turns, names)


def _samples(utterance: Utterance, last: int) -> tuple[int, int]:
    """Where somebody speaks: a little before and after as well."""
    start, end = utterance.start - AROUND_S, utterance.end + AROUND_S
    return max(0, round(start * SAMPLE_RATE)), min(last, round(end * SAMPLE_RATE))
