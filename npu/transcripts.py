"""Transcripts of recordings: what was said in each, and, where it is wanted, by whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from npu.batches import Batches
from npu.diarizer import Recogniser, RecordingDiarizer
from npu.languages import code_of
from npu.recordings import POOL_S, Source, transcribe
from npu.spill import Spill
from npu.transcriber import Transcriber
from streaming.audio import Samples
from streaming.errors import AmanuensisError, AudioError, ModelError
from streaming.events import Event, Final, Gap, Ledger, SpeakerLabel, Stopped, Utterance
from streaming.lines import by_speaker, speakers
from streaming.settings import ResumePoint, SessionOptions, SessionSettings
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
    detect: bool = True  # speech is found first; else the model finds its way by its own timestamps
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


@dataclass(frozen=True)
class Landmark:
    """How far a recording has come."""

    events: tuple[
        Final | Gap, ...
    ]  # what was said up to there; to `Landmarks.reached`, only what came since the last
    resume: ResumePoint


class Landmarks:
    """What becomes of recordings that are not finished. Overridden by those who want to go on with them in another run.

    Its methods are called in the thread of the work.
    """

    def begun(self, name: str) -> Landmark | None:
        """Where another run left off; the source begins there, or, where speakers are wanted, with its first sample."""
        return None

    def reached(self, name: str, landmark: Landmark) -> None:
        """Everything before it is decided."""


def transcripts(
    sources: Iterable[Source | tuple[str, Iterable[Samples]]],
    transcriber: Transcriber,
    judges: Callable[[], FrameJudge] | None,
    wanted: Wanted,
    progress: Progress,
    threads: int = 1,
    pool_s: float = POOL_S,
    batch: int | None = None,
    landmarks: Landmarks | None = None,
) -> Iterator[Transcript | Unreadable]:
    """One for each source, each as soon as it is there; they may overtake each other.

    pool_s: audio collected before it is decoded; with less the first words come sooner, and all of it later. batch:
    windows decoded in lockstep; None: as the model does best.

    An AudioError of a source's blocks concerns that source alone. Of a recording some minutes are in memory; where
    speakers are wanted the whole of it lies in a temporary file until it is done, 230 MB an hour.
    """
    run = _Run(wanted, progress, landmarks or Landmarks(), wanted.manner.language or transcriber.languages[0])
    with Batches(transcriber, threads, batch) as decoder:
        try:
            events = (
                _events(run, sources, decoder, judges, wanted, pool_s)
                if wanted.detect
                else _undetected(run, sources, transcriber, wanted)
            )
            for name, event in events:
                if (outcome := run.receive(name, event)) is not None:
                    yield outcome
        finally:
            run.close()


def _events(
    run: _Run,
    sources: Iterable[Source | tuple[str, Iterable[Samples]]],
    decoder: Batches,
    judges: Callable[[], FrameJudge] | None,
    wanted: Wanted,
    pool_s: float,
) -> Iterator[tuple[str, Event]]:
    """What is said in the recordings: where the detector finds speech."""
    words = wanted.words or wanted.speakers is not None
    options = SessionOptions(wanted.manner, partials=False, words=words, evidence=wanted.evidence)
    speech = _roomy(wanted.speech, decoder.context_s)
    opened = run.opened(sources)
    return transcribe(
        opened, decoder, judges, options, speech, wanted.vad, pool_s, run.progress.decoded, run.mark
    )


def _undetected(
    run: _Run,
    sources: Iterable[Source | tuple[str, Iterable[Samples]]],
    transcriber: Transcriber,
    wanted: Wanted,
) -> Iterator[tuple[str, Event]]:
    """What is said in the recordings: where the model says so itself. They cannot be taken up in the middle."""
    words = wanted.words or wanted.speakers is not None
    before_s = 0.0  # of recordings that are done
    for source in run.opened(sources):
        heard = Counted(source.blocks)
        seq, spoken_s = 0, 0.0
        for seq, said in enumerate(transcriber.follow(heard, wanted.manner, words), 1):
            spoken_s += said.end - said.start
            run.progress.decoded(before_s + min(said.end, heard.seconds))
            yield (
                source.name,
                Final(
                    seq=seq,
                    utterance=said.utterance,
                    start=said.start,
                    end=said.end,
                    text=said.text,
                    language=said.language,
                    words=said.words,
                ),
            )
        before_s += heard.seconds
        run.progress.decoded(before_s)
        speech_s = min(spoken_s, heard.seconds)
        ledger = Ledger(speech_s=speech_s, silence_s=heard.seconds - speech_s)
        yield source.name, Stopped(seq=seq + 1, audio_end=heard.seconds, ledger=ledger)


class Counted:
    """Blocks, and how much of them was taken."""

    def __init__(self, blocks: Iterable[Samples]) -> None:
        self._blocks = blocks
        self._samples = 0

    @property
    def seconds(self) -> float:
        """So far."""
        return self._samples / SAMPLE_RATE

    def __iter__(self) -> Iterator[Samples]:
        for block in self._blocks:
            self._samples += len(block)
            yield block


def _roomy(speech: SessionSettings, context_s: float | None) -> SessionSettings:
    """Where a model hears a long context anyway, nobody is cut off before it is full."""
    cuts = speech.cuts
    longest = 0.0 if context_s is None else context_s - cuts.overlap_s - 2 * speech.endpoint.pre_roll_s
    if longest <= cuts.max_window_s:
        return speech
    soft = longest * cuts.soft_window_s / cuts.max_window_s
    return replace(speech, cuts=replace(cuts, soft_window_s=soft, max_window_s=longest))


class _Run:
    """What is held of the recordings that are under way."""

    def __init__(self, wanted: Wanted, progress: Progress, landmarks: Landmarks, language: str) -> None:
        """language: of a recording in which nothing is said."""
        self.progress = progress
        self._wanted = wanted
        self._language = language
        self._landmarks = landmarks
        self._events: dict[str, list[Final | Gap]] = {}
        self._kept: dict[str, int] = {}  # of them, those that a landmark holds
        self._audio: dict[str, Spill] = {}
        self._failures: dict[str, AudioError] = {}

    def opened(self, sources: Iterable[Source | tuple[str, Iterable[Samples]]]) -> Iterator[Source]:
        """The sources, listened in on, each from where an earlier run left off."""
        for name, blocks, resume, first in (Source(*source) for source in sources):
            begun = self._landmarks.begun(name)
            self._events[name] = [] if begun is None else list(begun.events)
            self._kept[name] = len(self._events[name])
            if self._wanted.speakers is not None:
                self._audio[name] = Spill()
            yield Source(name, self._listened(name, blocks), resume if begun is None else begun.resume, first)

    def mark(self, name: str, point: ResumePoint) -> None:
        """The recording can be resumed from there."""
        fresh = self._events[name][self._kept[name] :]
        self._kept[name] = len(self._events[name])
        self._landmarks.reached(name, Landmark(tuple(fresh), point))

    def receive(self, name: str, event: Event) -> Transcript | Unreadable | None:
        """The outcome, once the recording is over."""
        if isinstance(event, Stopped):
            return self._outcome(name, event)
        if isinstance(event, Final | Gap):
            self._events[name].append(event)
        if isinstance(event, Final):
            self.progress.said(name, event)
        return None

    def close(self) -> None:
        """Nothing more is done with any of them."""
        for spill in self._audio.values():
            spill.close()

    def _listened(self, name: str, blocks: Iterable[Samples]) -> Iterator[Samples]:
        try:
            for block in blocks:
                if name in self._audio:
                    self._audio[name].append(block)
                self.progress.read(name, len(block) / SAMPLE_RATE)
                yield block
        except AudioError as error:
            self._failures[name] = error

    def _outcome(self, name: str, stopped: Stopped) -> Transcript | Unreadable:
        events, spill = self._events.pop(name), self._audio.pop(name, None)
        try:
            if (failure := self._failures.pop(name, None)) is not None:
                return Unreadable(name, failure, stopped.audio_end)
            utterances = apply(events)
            if self._wanted.speakers is not None and spill is not None and utterances:
                utterances = self._labelled(name, utterances, spill.samples(), self._wanted.speakers)
        except (AudioError, ModelError) as error:
            return Unreadable(name, error, stopped.audio_end)
        finally:
            if spill is not None:
                spill.close()
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
        self, name: str, utterances: list[Utterance], audio: Samples, wanted: SpeakersWanted
    ) -> list[Utterance]:
        watch = partial(self.progress.telling_apart, name)
        speech = [_samples(utterance, len(audio)) for utterance in utterances]
        turns = wanted.diarizer.turns(audio, wanted.least, wanted.most, speech, watch)
        names = wanted.recognise(turns, audio) if wanted.recognise else {}
        return by_speaker(utterances, turns, names)


def _samples(utterance: Utterance, last: int) -> tuple[int, int]:
    """Where somebody speaks: a little before and after as well."""
    start, end = utterance.start - AROUND_S, utterance.end + AROUND_S
    return max(0, round(start * SAMPLE_RATE)), min(last, round(end * SAMPLE_RATE))
