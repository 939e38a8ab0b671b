"""What a session is made with. Durations in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from streaming.endpoint import EndpointSettings
from streaming.events import Ledger
from streaming.pauses import CutSettings
from streaming.window import PLAIN, Manner


@dataclass(frozen=True)
class SessionOptions:
    """What a producer asked for."""

    manner: Manner = PLAIN
    partials: bool = True
    words: bool = False
    evidence: bool = False  # finals carry it


@dataclass(frozen=True)
class SessionSettings:
    """How live text is made."""

    first_partial_s: float = 0.25  # speech before the first partial is asked for
    step_growth: float = 0.6  # partials of an utterance of length L come at least this times L apart ...
    longest_step_s: float = 1.5  # ... but no more than this, unless the machine is busy
    pause_s: float = 0.06  # quiet from which no partial is asked for: a final will come, or more speech
    early_s: float = 0.2  # quiet after which the final is computed; it is shown when the hang-over is over
    agreement_s: float = 1.0  # words are committed that all hypotheses over this much more audio agree on
    max_failures: int = 2  # decodings that may fail before the audio becomes a gap
    endpoint: EndpointSettings = field(default_factory=EndpointSettings)
    cuts: CutSettings = field(default_factory=CutSettings)


@dataclass(frozen=True)
class ResumePoint:
    """Where a session read back from the journal goes on."""

    seq: int  # its last durable event
    utterance: int  # its last utterance
    sample: int  # everything before is decided
    ledger: Ledger  # of everything before
