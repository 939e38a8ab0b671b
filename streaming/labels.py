"""The speaker labels of a session: what each line was labelled, and what has to be revised as voices become known.

Text never waits for a label. A partial has the label of whoever speaks most of it so far; a final has the best that is
known by then, and is judged again twice: when its last sample has been heard for voices, and when nothing about it
can change any more. So it is revised once in the ordinary case: to bring a label that came late, to correct one
that was the speaker's before, or to split a line that two people said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streaming.attribution import NEAR_S, attribute, dominant
from streaming.audio import Samples
from streaming.events import SpeakerLabel, SpokenWord
from streaming.recognition import KnownVoice, Recognition
from streaming.turns import Turn
from streaming.window import SAMPLE_RATE, Word


class TurnSource(Protocol):
    """Who speaks when. Positions are sample indices of the session."""

    def receive_audio(self, samples: Samples) -> None:
        """samples [n] that follow the last ones."""

    def receive_verdicts(self, verdicts: Sequence[bool]) -> None:
        """Speech or not, for each frame that is complete."""

    def skip(self, samples: int) -> None:
        """Audio is missing."""

    def finish(self) -> None:
        """No more audio; what is known is settled once `demand` is None."""

    def demand(self) -> int | None:
        """Since when a job for a model is due; None where there is none, or one is out."""

    def next_job(self) -> Any:
        """Takes it."""

    def receive_heard(self, job: Any, heard: Any) -> None:
        """What the model made of it."""

    def turns(self, start: int, end: int) -> tuple[Turn, ...]:
        """Those that overlap a stretch, as known now."""

    @property
    def heard_until(self) -> int:
        """Turns before it are known, if not settled."""

    @property
    def settled_until(self) -> int:
        """Labels before it do not change any more."""

    @property
    def speakers(self) -> Mapping[int, Any]:
        """Those there are, by number."""

    @property
    def finished(self) -> bool:
        """No more audio comes, and all is decided."""


@dataclass(frozen=True)
class Line:
    """What one speaker said of an utterance."""

    label: SpeakerLabel | None
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Change:
    """What a revision has to say."""

    utterance: int | None  # None: it is about the speaker, whatever they said
    reason: str
    label: SpeakerLabel | None
    words: tuple[SpokenWord, ...] | None = None  # that the utterance keeps, where others go to `rest`
    rest: tuple[tuple[SpeakerLabel | None, tuple[SpokenWord, ...]], ...] = ()


@dataclass
class _Followed:
    """A final whose label may still change."""

    utterance: int
    start: int
    end: int
    words: tuple[SpokenWord, ...]
    shown: int | None  # the speaker it is labelled with
    heard: bool = False  # judged since its last sample was heard for voices
    whole: bool = False  # is not to be split: its words' times are not known, or a person wrote it


class Labels:
    """One session's labels, over a source of turns."""

    def __init__(
        self, source: TurnSource, settle_after_s: float, known: int = 0, voices: Sequence[KnownVoice] = ()
    ) -> None:
        """known: how many speakers the session had in an earlier life: their voices are gone, their ids are taken.

        voices: of people who are labelled by name.
        """
        self._source = source
        self._settle_after = round(settle_after_s * SAMPLE_RATE)
        self._known = known
        self._names: dict[int, SpeakerLabel] = {}  # given by a person
        self._recognition = Recognition(voices)
        self._position = 0  # samples received
        self._finishing = False
        self._labelled: set[int] = set()  # speakers of lines that were shown
        self._followed: list[_Followed] = []  # in the order of their finals
        self._about_speakers: list[Change] = []
        self._fresh = False  # the source has learnt something since the last look
        self._given_up = False

    # traffic in

    def receive_audio(self, samples: Samples, verdicts: Sequence[bool]) -> None:
        """samples [n], and the verdicts on the frames that are complete with them."""
        self._position += len(samples)
        if not self._given_up:
            self._source.receive_audio(samples)
            self._source.receive_verdicts(verdicts)

    def skip(self, samples: int) -> None:
        """Audio is missing."""
        self._position += samples
        self._source.skip(samples)

    def receive_heard(self, job: Any, heard: Any) -> None:
        """What the model made of a job."""
        self._source.receive_heard(job, heard)
        self._fresh = True
        self._recognise()

    def finish(self) -> None:
        """No more audio comes."""
        self._source.finish()
        self._fresh = self._finishing = True
        self._recognise()

    def give_up(self) -> None:
        """The models failed: lines keep the labels they have, and later ones get none."""
        self._given_up = self._fresh = True

    def rename(self, speaker: str, name: str | None) -> SpeakerLabel:
        """A person says who a speaker is; None takes the name away. KeyError where there is no such speaker."""
        label = SpeakerLabel(id=speaker, name=name, settled=True)
        number = int(speaker.removeprefix("S")) - self._known
        if number > 0:  # none of an earlier life
            if number not in self._source.speakers:
                raise KeyError(speaker)
            self._names[number] = label
        self._about_speakers.append(Change(None, "named", label))
        self._recognition.give(number, name)
        self._recognise()
        return label

    def know(self, voices: Sequence[KnownVoice]) -> None:
        """Others are labelled by name from now on."""
        self._recognition.know(voices)
        self._recognise()

    def voices(self) -> dict[str, Any]:
        """The voice of each speaker who has one."""
        return {
            self._id(number): voice for number, voice in self._source.speakers.items() if voice is not None
        }

    def note_edit(self, utterance: int) -> None:
        """A person changed its text."""
        for each in self._followed:
            if each.utterance == utterance:
                each.whole = True

    # traffic out

    def demand(self) -> int | None:
        """See TurnSource."""
        return None if self._given_up else self._source.demand()

    def next_job(self) -> Any:
        """See TurnSource."""
        return self._source.next_job()

    @property
    def idle(self) -> bool:
        """After `finish`: nothing more will be learnt."""
        return self._given_up or self._source.finished

    # labels

    def of(self, start: int, end: int) -> SpeakerLabel | None:
        """Who speaks most of a stretch, as far as is known."""
        speaker = dominant(self._source.turns(start, end), start, end)
        return None if speaker is None else self._label(speaker, settled=False)

    def lines(self, words: tuple[Word, ...], start: int, end: int) -> list[Line]:
        """The words of an utterance as one line for each speaker in turn."""
        if not words[-1].end:  # their times are not known
            return [Line(self.of(start, end), words)]
        settled = self._source.settled_until >= end
        parts = attribute(words, self._turns(start, end))
        return [
            Line(None if part.speaker is None else self._label(part.speaker, settled), part.words)
            for part in parts
        ]

    def follow(
        self, utterance: int, start: int, end: int, words: tuple[SpokenWord, ...], label: SpeakerLabel | None
    ) -> None:
        """A line was shown with this label: it may have to be revised."""
        shown = None if label is None else int(label.id.removeprefix("S")) - self._known
        if shown is not None:
            self._labelled.add(shown)
        if label is None or not label.settled:
            timed = words[-1].end > 0
            self._followed.append(_Followed(utterance, start, end, words, shown, whole=not timed))

    def changes(self, now: int) -> list[Change]:
        """What has to be revised by now, a sample index; each is said once."""
        changes, self._about_speakers = self._about_speakers, []
        oldest = self._followed[0].end if self._followed else now
        if not self._fresh and now - oldest < self._settle_after:
            return changes
        self._fresh = False
        kept = []
        for each in self._followed:
            over = now - each.end >= self._settle_after
            settled = over or self._given_up or self._source.settled_until >= each.end
            heard = self._source.heard_until >= each.end
            if settled or each.shown is None or (heard and not each.heard):
                changes += self._judge(each, settled)
            each.heard |= heard
            if not settled:
                kept.append(each)
        self._followed = kept
        return changes

    # inside

    def _judge(self, line: _Followed, settled: bool) -> list[Change]:
        turns = self._turns(line.start, line.end)
        if line.whole:
            speaker, rest = dominant(turns, line.start, line.end), []
        else:
            first, *rest = attribute(line.words, turns)
            speaker = first.speaker
        if speaker is None or (speaker == line.shown and not rest):
            return []
        before, line.shown = line.shown, speaker
        self._labelled.add(speaker)
        label = self._label(speaker, settled)
        if not rest:
            return [Change(line.utterance, self._reason(before), label)]
        line.words = first.words
        line.end = round(first.words[-1].end * SAMPLE_RATE)
        others = tuple(
            (None if part.speaker is None else self._label(part.speaker, settled), part.words)
            for part in rest
        )
        return [Change(line.utterance, "voices_told_apart", label, first.words, others)]

    def _turns(self, start: int, end: int) -> tuple[Turn, ...]:
        """Those of a stretch, and those near enough to claim a word in it that is in nobody's turn."""
        near = round(NEAR_S * SAMPLE_RATE)
        return self._source.turns(start - near, end + near)

    def _reason(self, before: int | None) -> str:
        if before is None:
            return "labelled"
        return "voices_told_apart" if before in self._source.speakers else "voices_joined"

    def _recognise(self) -> None:
        """Whose names have become known, or have proved to be another's, is said once for all their lines."""
        changed = self._recognition.review(self._source.speakers, self._position, hurry=self._finishing)
        self._about_speakers += [
            Change(None, "recognised", self._label(speaker, settled=False))
            for speaker in changed
            if speaker in self._labelled and speaker not in self._names
        ]

    def _label(self, speaker: int, settled: bool) -> SpeakerLabel:
        if (given := self._names.get(speaker)) is not None:
            return given.model_copy(update={"settled": settled})
        name, confidence = self._recognition.match(speaker) or (None, None)
        return SpeakerLabel(id=self._id(speaker), name=name, confidence=confidence, settled=settled)

    def _id(self, speaker: int) -> str:
        return f"S{speaker + self._known}"
