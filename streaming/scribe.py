"""Writing a session down: its events, the durable ones numbered, and the account of its audio kept with them."""

from __future__ import annotations

from streaming.account import Account
from streaming.events import Final, Gap, Partial, Revise, SpokenWord, Stopped
from streaming.settings import ResumePoint, SessionOptions
from streaming.utterance import Ending, Utterance
from streaming.window import SAMPLE_RATE, Word


class Scribe:
    """Makes the events of one session, in the order they are asked for. Positions are sample indices."""

    def __init__(self, options: SessionOptions, start: ResumePoint) -> None:
        self._options = options
        self.account = Account(start.sample, start.ledger)
        self.seq = start.seq  # of the last durable event
        self.partial: Partial | None = None  # of the open utterance, as last written

    def final(self, utterance: Utterance, words: tuple[Word, ...], ending: Ending) -> Final:
        """The utterance is over and said this."""
        self.account.book(utterance.start, ending.end, "speech")
        self.partial = None
        return Final(
            seq=self._next_seq(),
            utterance=utterance.number,
            start=utterance.onset / SAMPLE_RATE,
            end=ending.offset / SAMPLE_RATE,
            text=_text(words),
            language=self._options.language,
            words=_spoken(words) if self._options.words else None,
        )

    def gap(self, start: int, end: int, reason: str) -> Gap:
        """This stretch has no text."""
        self.account.book(start, end, "suppressed" if reason.startswith("suppressed:") else "gap")
        self.partial = None
        return Gap(seq=self._next_seq(), start=start / SAMPLE_RATE, end=end / SAMPLE_RATE, reason=reason)

    def news(self, utterance: Utterance) -> list[Partial]:
        """A partial, where the utterance is open and its text is not the one shown last."""
        shown = _text(utterance.committed), _text(utterance.tentative)
        if not self._options.partials or utterance.ending is not None or utterance.shown == shown:
            return []
        utterance.shown = committed, tentative = shown
        self.partial = Partial(
            utterance=utterance.number,
            start=utterance.onset / SAMPLE_RATE,
            end=utterance.heard_until / SAMPLE_RATE,
            text=committed,
            tentative=f" {tentative}" if committed and tentative else tentative,
        )
        return [self.partial]

    def revise(self, utterance: int, rev: int, text: str) -> Revise:
        """A person changed the text of a final."""
        return Revise(seq=self._next_seq(), utterance=utterance, rev=rev, reason="edited", text=text)

    def stopped(self, end: int) -> Stopped:
        """The session ended with this sample; what is not accounted for was silence."""
        self.account.book(end, end, "silence")
        return Stopped(seq=self._next_seq(), audio_end=end / SAMPLE_RATE, ledger=self.account.ledger(end))

    def _next_seq(self) -> int:
        self.seq += 1
        return self.seq


def _text(words: tuple[Word, ...]) -> str:
    return " ".join(word.text for word in words)


def _spoken(words: tuple[Word, ...]) -> tuple[SpokenWord, ...]:
    return tuple(SpokenWord(text=w.text, start=w.start, end=w.end, confidence=w.confidence) for w in words)
