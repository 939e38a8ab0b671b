"""What is printed of a session where printed lines stay as they are: when a line is ready, and what is said later.

A label of a speaker may come a little after the text, and be revised for some time. A line waits for its first
label, but not for long. What a revision changes of a printed line is noted below, as briefly as can be: several
lines that turn out to be another speaker's are one note, and a first label of a printed line is none.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from streaming.events import Event, Final, Gap, Partial, Revise, Snapshot, SpeakerLabel, Stopped, Utterance

HOLD_S = 3.0  # of audio, that a line waits for its first label ...
HOLD_ITEMS = 3  # ... and so many others may wait behind it: a recording goes by faster than its labels come
QUOTED_WORDS = 4  # of a part that was another speaker's


@dataclass(frozen=True)
class Line:
    """To be printed for good."""

    utterance: Utterance
    edited: bool = False  # a person changed the text of a line printed before


@dataclass(frozen=True)
class Note:
    """A remark about lines that are printed already."""

    text: str


Item = Line | Note | Gap


@dataclass
class _Printed:
    """A line on the paper."""

    utterance: Utterance  # as it is by now
    speaker: SpeakerLabel | None  # as the paper says, notes included


class Printout:
    """Events in, lines and notes out, in the order in which they are to be printed."""

    def __init__(self) -> None:
        self._held: deque[Utterance | Gap] = deque()
        self._printed: dict[int, _Printed] = {}
        self._mistaken: dict[int, SpeakerLabel] = {}  # by utterance: who it was, and is not noted yet
        self._names: dict[str, str | None] = {}  # by speaker's id: what the paper calls them
        self._labels = False  # this session has labels
        self._heard = 0.0  # seconds of audio that an event has spoken of

    @property
    def held(self) -> tuple[Utterance, ...]:
        """Finished utterances that wait for a label."""
        return tuple(item for item in self._held if isinstance(item, Utterance))

    def receive(self, event: Event) -> list[Item]:
        """Takes an event into account."""
        ready: list[Item] = []
        match event:
            case Revise(utterance=None):
                ready += self._rename(event)
            case Revise():
                ready += self._revise(event)
            case Snapshot():
                self._hold(*_said(event))
                ready += self.finish()
            case Stopped():
                ready += self.finish()
            case Final():
                ready += self._corrections()
                self._hold(_utterance(event))
            case Gap():
                ready += self._corrections()
                self._hold(event)
            case Partial():
                ready += self._corrections()
                self._heard = max(self._heard, event.end)
                self._labels = self._labels or event.speaker is not None
        return [*ready, *self._release()]

    def finish(self) -> list[Item]:
        """Nothing more will come, or nothing that these lines wait for."""
        return [*self._corrections(), *self._release(waiting=False)]

    def _hold(self, *items: Utterance | Gap) -> None:
        for item in items:
            self._held.append(item)
            self._heard = max(self._heard, item.end)
            self._labels = self._labels or (isinstance(item, Utterance) and item.speaker is not None)

    def _release(self, waiting: bool = True) -> Iterator[Item]:
        """All leave in the order in which they came, so a line without a label holds those behind it."""
        while self._held and not (waiting and self._waits(self._held[0])):
            first = self._held.popleft()
            if isinstance(first, Gap):
                yield first
                continue
            self._print(first)
            if first.text:
                yield Line(first)

    def _waits(self, item: Utterance | Gap) -> bool:
        unknown = isinstance(item, Utterance) and item.speaker is None
        early = self._heard < item.end + HOLD_S or len(self._held) <= HOLD_ITEMS
        return self._labels and unknown and early

    def _print(self, utterance: Utterance) -> None:
        self._printed[utterance.utterance] = _Printed(utterance, utterance.speaker)
        if utterance.speaker is not None:
            self._names[utterance.speaker.id] = utterance.speaker.name

    def _revise(self, event: Revise) -> Iterator[Line | Note]:
        self._labels = self._labels or event.speaker is not None
        for place, waiting in enumerate(self._held):
            if isinstance(waiting, Utterance) and waiting.utterance == event.utterance:
                del self._held[place]
                for part in reversed((_revised(waiting, event), *(event.split or ()))):
                    self._held.insert(place, part)
                return
        line = self._printed.get(event.utterance or 0)
        if line is None:
            return
        text = line.utterance.text
        line.utterance = _revised(line.utterance, event)
        if event.split is None and line.utterance.text != text:
            yield Line(line.utterance, edited=True)
            line.speaker = line.utterance.speaker
        self._compare(line)
        for part in event.split or ():
            self._print(part)
            if part.speaker and line.speaker and part.speaker.id != line.speaker.id:
                yield Note(f"{stamp(part.start)} “{_beginning(part.text)}” was {name_of(part.speaker)}")

    def _compare(self, line: _Printed) -> None:
        """Remembers a speaker who is not the one on the paper; a first one is taken for granted."""
        number, speaker = line.utterance.utterance, line.utterance.speaker
        self._mistaken.pop(number, None)
        if line.speaker is None:
            line.speaker = speaker
        elif speaker is not None and speaker.id != line.speaker.id:
            self._mistaken[number] = speaker

    def _corrections(self) -> Iterator[Note]:
        """What the revisions since the last other event come to: a note for each speaker."""
        found: dict[str, tuple[SpeakerLabel, list[float]]] = {}
        for number, speaker in self._mistaken.items():
            line = self._printed[number]
            line.speaker = speaker
            found.setdefault(speaker.id, (speaker, []))[1].append(line.utterance.start)
        self._mistaken.clear()
        for speaker, starts in found.values():
            yield Note(f"{_listed(sorted(starts))} {name_of(speaker)}")

    def _rename(self, event: Revise) -> Iterator[Note]:
        label = event.speaker
        if label is None:
            return
        for place, waiting in enumerate(self._held):
            if isinstance(waiting, Utterance) and waiting.speaker and waiting.speaker.id == label.id:
                self._held[place] = waiting.model_copy(update={"speaker": label})
        if label.id in self._names and self._names[label.id] != label.name:
            yield Note(f"{self._names[label.id] or label.id} is {label.name or label.id}")
            self._names[label.id] = label.name


def name_of(speaker: SpeakerLabel) -> str:
    """What a speaker is called where there is little room."""
    return speaker.name or speaker.id


def stamp(seconds: float) -> str:
    """Seconds as 01:23, or 1:02:03 from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _utterance(final: Final) -> Utterance:
    return Utterance.model_validate(
        {name: value for name, value in final if name in Utterance.model_fields}  # the rest is of the event
    )


def _said(snapshot: Snapshot) -> list[Utterance | Gap]:
    """Its lines and gaps in order of time. What was said long before has its label for good, which no event says."""
    ends = [item.end for item in (*snapshot.utterances, *snapshot.gaps, snapshot.partial) if item is not None]
    wait = snapshot.settle_after_s
    settled_until = -math.inf if wait is None else max(ends, default=0.0) - wait
    lines = [_settled(each) if each.end <= settled_until else each for each in snapshot.utterances]
    return sorted([*snapshot.gaps, *lines], key=lambda item: item.start)  # a gap before the text of its time


def _settled(utterance: Utterance) -> Utterance:
    if utterance.speaker is None:
        return utterance
    return utterance.model_copy(update={"speaker": utterance.speaker.model_copy(update={"settled": True})})


def _revised(before: Utterance, revise: Revise) -> Utterance:
    changes = {name: getattr(revise, name) for name in ("text", "end", "speaker")}
    return before.model_copy(update={name: value for name, value in changes.items() if value is not None})


def _listed(starts: list[float]) -> str:
    """The lines of these starts, seconds, and the verb that goes with them."""
    if len(starts) == 1:
        return f"{stamp(starts[0])} was"
    if len(starts) == 2:
        return f"{stamp(starts[0])} and {stamp(starts[1])} were"
    return f"{len(starts)} lines from {stamp(starts[0])} to {stamp(starts[-1])} were"


def _beginning(text: str) -> str:
    words = text.split()
    return " ".join(words[:QUOTED_WORDS]) + (" …" if len(words) > QUOTED_WORDS else "")
