"""Writing a session down: its events, the durable ones numbered, and the account of its audio kept with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from streaming import events
from streaming.account import Account
from streaming.events import Evidence, Final, Gap, Partial, Revise, SpeakerLabel, SpokenWord, Stopped
from streaming.labels import Change, Labels, Line
from streaming.settings import ResumePoint, SessionOptions
from streaming.spacing import joined
from streaming.utterance import Ending, Utterance
from streaming.window import SAMPLE_RATE, Word


class Scribe:
    """Makes the events of one session, in the order they are asked for. Positions are sample indices."""

    def __init__(
        self, options: SessionOptions, start: ResumePoint, number: Callable[[], int], labels: Labels | None
    ) -> None:
        """number: makes one for an utterance that is split off another."""
        self._options = options
        self.account = Account(start.sample, start.ledger)
        self.seq = start.seq  # of the last durable event
        self.partial: Partial | None = None  # of the open utterance, as last written
        self._number = number
        self._labels = labels
        self._revisions: dict[int, int] = {}  # of utterances that have some
        self._languages: dict[int, str] = {}  # of utterances that may still be split

    def finals(self, utterance: Utterance, words: tuple[Word, ...], ending: Ending) -> list[Final]:
        """The utterance is over and said this: one final, or one for each of its speakers in turn."""
        self.account.book(utterance.start, ending.end, "speech")
        self.partial = None
        lines = [Line(None, words)]
        if self._labels is not None:
            lines = self._labels.lines(words, utterance.onset, ending.offset)
        finals = []
        start = utterance.onset
        for index, line in enumerate(lines):
            last = index == len(lines) - 1
            end = ending.offset if last else round(line.words[-1].end * SAMPLE_RATE)
            number = self._number() if index else utterance.number
            spoken = _spoken(line.words)
            if self._labels is not None:
                self._labels.follow(number, start, end, spoken, line.label)
                self._languages[number] = utterance.language
            finals.append(
                Final(
                    seq=self._next_seq(),
                    utterance=number,
                    start=start / SAMPLE_RATE,
                    end=end / SAMPLE_RATE,
                    text=_text(line.words),
                    language=utterance.language,
                    speaker=line.label,
                    words=spoken if self._options.words else None,
                    evidence=_evidence(utterance, line.words) if self._options.evidence else None,
                )
            )
            if not last:
                start = round(lines[index + 1].words[0].start * SAMPLE_RATE)
        return finals

    def gap(self, start: int, end: int, reason: str) -> Gap:
        """This stretch has no text."""
        self.account.book(start, end, "suppressed" if reason.startswith("suppressed:") else "gap")
        self.partial = None
        return Gap(seq=self._next_seq(), start=start / SAMPLE_RATE, end=end / SAMPLE_RATE, reason=reason)

    def news(self, utterance: Utterance) -> list[Partial]:
        """A partial, where the utterance is open and neither its text nor its label is the one shown last."""
        if not self._options.partials or utterance.ending is not None:
            return []
        shown = _text(utterance.committed), _text(utterance.tentative)
        label = known = None
        if self._labels is not None and any(shown):
            label = self._labels.of(utterance.onset, utterance.heard_until)
        if self.partial is not None and self.partial.utterance == utterance.number:
            known = self.partial.speaker
        if shown == utterance.shown and label == known:
            return []
        utterance.shown = committed, tentative = shown
        self.partial = Partial(
            utterance=utterance.number,
            start=utterance.onset / SAMPLE_RATE,
            end=utterance.heard_until / SAMPLE_RATE,
            text=committed,
            tentative=f" {tentative}" if committed and tentative else tentative,
            speaker=label,
        )
        return [self.partial]

    def revise(self, utterance: int, rev: int, text: str) -> Revise:
        """A person changed the text of a final, which has had `rev` - 1 revisions at least."""
        if self._labels is not None:
            self._labels.note_edit(utterance)
        self._revisions[utterance] = max(rev - 1, self._revisions.get(utterance, 0))
        return Revise(
            seq=self._next_seq(),
            utterance=utterance,
            rev=self._next_rev(utterance),
            reason="edited",
            text=text,
        )

    def relabel(self, change: Change) -> Revise:
        """Something about a speaker has become known."""
        if change.utterance is None:
            return Revise(seq=self._next_seq(), reason=change.reason, speaker=change.label)
        language = self._languages[change.utterance]
        rest = tuple(self._split_off(label, words, language) for label, words in change.rest)
        kept = change.words or ()
        return Revise(
            seq=self._next_seq(),
            utterance=change.utterance,
            rev=self._next_rev(change.utterance),
            reason=change.reason,
            text=joined(word.text for word in kept) if rest else None,
            end=kept[-1].end if rest else None,
            words=kept if rest and self._options.words else None,
            speaker=change.label,
            split=rest or None,
        )

    def _split_off(
        self, label: SpeakerLabel | None, words: tuple[SpokenWord, ...], language: str
    ) -> events.Utterance:
        line = events.Utterance(
            utterance=self._number(),
            start=words[0].start,
            end=words[-1].end,
            text=joined(word.text for word in words),
            language=language,
            speaker=label,
            words=words if self._options.words else None,
        )
        assert self._labels is not None
        self._languages[line.utterance] = language
        start, end = round(line.start * SAMPLE_RATE), round(line.end * SAMPLE_RATE)
        self._labels.follow(line.utterance, start, end, words, label)
        return line

    def stopped(self, end: int) -> Stopped:
        """The session ended with this sample; what is not accounted for was silence."""
        self.account.book(end, end, "silence")
        return Stopped(seq=self._next_seq(), audio_end=end / SAMPLE_RATE, ledger=self.account.ledger(end))

    def _next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def _next_rev(self, utterance: int) -> int:
        self._revisions[utterance] = self._revisions.get(utterance, 0) + 1
        return self._revisions[utterance]


def _evidence(utterance: Utterance, words: tuple[Word, ...]) -> Evidence:
    scores = utterance.scores
    return Evidence(
        heard_from=utterance.audio_start / SAMPLE_RATE,
        tokens=tuple(token for word in words for token in word.tokens),
        **({} if scores is None else asdict(scores)),
    )


def _text(words: tuple[Word, ...]) -> str:
    return joined(word.text for word in words)


def _spoken(words: tuple[Word, ...]) -> tuple[SpokenWord, ...]:
    return tuple(SpokenWord(text=w.text, start=w.start, end=w.end, confidence=w.confidence) for w in words)
