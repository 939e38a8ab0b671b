"""What the server says: the events of a session, as they stand on the wire (PROTOCOL section 1).

Times are float seconds since the session's first audio sample. `durable` events carry `seq`, which counts
1, 2, 3 ... without holes within a session, and are in the journal before anyone sees them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Record(BaseModel):
    """Base of everything on the wire: immutable, and a field nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Event(Record):
    """One JSON text frame from the server."""

    durable: ClassVar[bool] = False

    def to_json(self) -> str:
        """The frame's text; fields that are None are left out."""
        return self.model_dump_json(exclude_none=True)


class SpokenWord(Record):
    """One word of a transcript."""

    text: str
    start: float  # seconds
    end: float  # seconds
    confidence: float  # 0..1, the geometric mean of its tokens' probabilities


class SpeakerLabel(Record):
    """Who said it."""

    id: str  # S1, S2, ... in order of appearance; stable for the session
    name: str | None = None  # of a known voice, or given by a person
    confidence: float | None = None  # 0..1 that it is the known voice; None where a person gave the name
    settled: bool = False  # no revision will change it


class Evidence(Record):
    """What a line of a recording rests on. It stays inside: on the wire and in the journal there is none."""

    heard_from: float  # seconds; where the audio begins that the model heard it in
    tokens: tuple[int, ...]  # that spell it
    avg_logprob: float | None = None  # this and the next two as in `Scores`; None where the model keeps none
    no_speech_prob: float = 0.0
    temperature: float = 0.0


class Latency(Record):
    """Where the time of a final went, in milliseconds."""

    audio_to_final_ms: float  # from the arrival of the last sample of speech to the final
    decode_ms: float
    queue_ms: float


class Ledger(Record):
    """Where every second of a session's audio went; the four add up to `audio_end`."""

    speech_s: float = 0.0
    silence_s: float = 0.0
    suppressed_s: float = 0.0
    gap_s: float = 0.0


class Limits(Record):
    """What the server will take from this producer."""

    max_frame_bytes: int
    max_backlog_s: float  # undecided audio beyond which the server stops reading
    idle_timeout_s: float
    resume_window_s: float
    max_window_s: float
    settle_after_s: float  # labels of speakers are not revised after this long


class Started(Event):
    """The session is open; send audio from `next_sample` on."""

    type: Literal["started"] = "started"
    session: str
    resume_token: str
    seq: int  # last durable event so far
    next_sample: int  # the first sample, at the declared rate, that the server does not have
    model: str
    device: str
    version: str
    limits: Limits


class Speech(Event):
    """Someone began, or ceased, to speak."""

    type: Literal["speech"] = "speech"
    state: Literal["start", "end"]
    time: float


class Partial(Event):
    """The open utterance so far."""

    type: Literal["partial"] = "partial"
    utterance: int
    start: float
    end: float
    text: str  # committed: append-only within the utterance
    tentative: str  # may change
    speaker: SpeakerLabel | None = None
    words: tuple[SpokenWord, ...] | None = None


class Final(Event):
    """A finished utterance. `text` starts with the last partial's."""

    durable: ClassVar[bool] = True
    type: Literal["final"] = "final"
    seq: int
    utterance: int
    start: float
    end: float
    text: str
    language: str
    speaker: SpeakerLabel | None = None
    words: tuple[SpokenWord, ...] | None = None
    latency: Latency | None = None
    evidence: Evidence | None = Field(default=None, exclude=True)


class Utterance(Record):
    """A final with its revisions applied: one line of a transcript."""

    utterance: int
    start: float
    end: float
    text: str
    language: str
    rev: int = 0
    speaker: SpeakerLabel | None = None
    words: tuple[SpokenWord, ...] | None = None
    evidence: Evidence | None = Field(default=None, exclude=True)


class Revise(Event):
    """Fields of a final that changed, or, where it names no utterance, of a speaker."""

    durable: ClassVar[bool] = True
    type: Literal["revise"] = "revise"
    seq: int
    utterance: int | None = None  # None: `speaker` is what everything with that id is labelled from now on
    rev: int | None = None  # 1, 2, 3 ... for this utterance
    reason: str | None = None  # edited, labelled, voices_told_apart, voices_joined, recognised, named
    text: str | None = None
    end: float | None = None  # of an utterance whose last words went into `split`
    words: tuple[SpokenWord, ...] | None = None
    speaker: SpeakerLabel | None = None
    split: tuple[Utterance, ...] | None = (
        None  # what the other speakers in it said, as utterances of their own
    )


class Gap(Event):
    """A stretch of audio that has no text, and why."""

    durable: ClassVar[bool] = True
    type: Literal["gap"] = "gap"
    seq: int
    start: float
    end: float
    reason: str  # overload, source_lost, client_skipped, suppressed:<why>


class Status(Event):
    """How the server keeps up with this session."""

    type: Literal["status"] = "status"
    lag_s: float
    degraded: bool
    reason: str | None = None
    step_ms: float


class Marker(Event):
    """Every sample sent before this marker has been decided."""

    type: Literal["marker"] = "marker"
    id: str
    seq: int
    audio_end: float


class Finalized(Event):
    """The open utterance was closed on request."""

    type: Literal["finalized"] = "finalized"
    id: str | None = None
    seq: int
    audio_end: float


class Stopped(Event):
    """The session is over; the ledger adds up to `audio_end`."""

    durable: ClassVar[bool] = True
    type: Literal["stopped"] = "stopped"
    seq: int
    audio_end: float
    ledger: Ledger


class Error(Event):
    """Something is wrong; `message` says what to do about it."""

    type: Literal["error"] = "error"
    code: str
    message: str
    fatal: bool
    retry_after_s: float | None = None


class Snapshot(Event):
    """The session as it stands: the first message to a viewer that named no `after`."""

    type: Literal["snapshot"] = "snapshot"
    session: str
    title: str | None = None
    seq: int
    live: bool
    utterances: tuple[Utterance, ...]
    gaps: tuple[Gap, ...] = ()  # in order of time
    partial: Partial | None = None
    settle_after_s: float | None = None  # as in `Limits`


ServerMessage = Annotated[
    Started
    | Speech
    | Partial
    | Final
    | Revise
    | Gap
    | Status
    | Marker
    | Finalized
    | Stopped
    | Error
    | Snapshot,
    Field(discriminator="type"),
]
DurableEvent = Final | Revise | Gap | Stopped

_SERVER: TypeAdapter[ServerMessage] = TypeAdapter(ServerMessage)


def parse_event(text: str | bytes) -> ServerMessage:
    """Reads one JSON frame from the server; pydantic.ValidationError where it is none of ours."""
    return _SERVER.validate_json(text)
