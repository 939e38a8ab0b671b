"""One utterance on its way from audio to a final. Positions are sample indices of the session."""

from __future__ import annotations

from dataclasses import dataclass

from streaming.agreement import LocalAgreement
from streaming.audio import Samples
from streaming.pauses import CutSettings, Pauses
from streaming.stitch import Seam, split_at
from streaming.window import SAMPLE_RATE, Hypothesis, Scores, Window, Word


@dataclass(frozen=True)
class Ending:
    """How an utterance ended."""

    end: int  # its share of the audio, for the ledger, ends here
    audio_end: int  # what the model hears in the end: beyond `end` before a cut
    offset: int  # after its last frame of speech
    cut: bool  # it goes on in the next utterance
    spoken: bool = True  # there is enough speech in it to be one


class Utterance:
    """What is known of a stretch of speech until its final."""

    _SEAM_WORDS = 8  # of the left window, enough to span the overlap

    def __init__(
        self,
        number: int,
        start: int,
        onset: int,
        cuts: CutSettings,
        agreement_s: float,
        audio_start: int | None = None,
    ) -> None:
        """audio_start: where the model hears it from, after a cut earlier than `start`."""
        self.number = number
        self.start = start  # its share of the audio begins here
        self.onset = onset  # its first frame of speech
        self.audio_start = start if audio_start is None else audio_start
        self.ending: Ending | None = None  # None while it is open
        self.audio: Samples | None = None  # [audio_start, audio_end), its own once it has ended
        self.pauses = Pauses(cuts, start)
        self.agreement = LocalAgreement(round(agreement_s * SAMPLE_RATE))
        self.heard_until = onset  # end of the last window decoded
        self.shown = ("", "")  # committed and tentative text of the last partial
        self.failures: list[str] = []  # why decodings failed, since one succeeded or the utterance ended
        self._seam: Seam | None = None
        self._known = 0  # words at its beginning that the utterance before has said
        self._last: tuple[Window, Hypothesis] | None = None

    @property
    def timed(self) -> bool:
        """Word times are needed to join it with a neighbour."""
        return self.audio_start != self.start or (self.ending is not None and self.ending.cut)

    def end(self, ending: Ending, audio: Samples) -> None:
        """It is over; audio: what the model hears in the end, whatever became of its partials."""
        self.ending, self.audio = ending, audio
        self.failures.clear()

    def join(self, seam: Seam) -> None:
        """The utterance before has its final: this is what it said around the cut between them."""
        self._seam = seam

    def receive_hypothesis(self, window: Window, hypothesis: Hypothesis) -> None:
        """What the model made of the audio so far."""
        if self._seam is not None and len(self.agreement.committed) <= self._known:
            self._known = self._seam.first_new(hypothesis.words)
        self.agreement.receive_hypothesis(hypothesis.words, window.end)
        self.heard_until = window.end
        self.failures.clear()
        self._last = window, hypothesis

    def receive_failure(self, window: Window, reason: str) -> None:
        """The model failed on the audio so far."""
        self.failures.append(reason)
        self.heard_until = max(self.heard_until, window.end)

    def hypothesis_over(self, end: int, timed: bool) -> Hypothesis | None:
        """The last hypothesis, if it is over the audio up to exactly `end`."""
        if self._last is None:
            return None
        window, hypothesis = self._last
        return hypothesis if window.end == end and (window.timed or not timed) else None

    @property
    def language(self) -> str:
        """What it was heard in."""
        return Hypothesis(()).language if self._last is None else self._last[1].language

    @property
    def doubt(self) -> str | None:
        """Why the words that were heard last are withheld."""
        return None if self._last is None else self._last[1].doubt

    @property
    def scores(self) -> Scores | None:
        """Of the last hypothesis."""
        return None if self._last is None else self._last[1].scores

    @property
    def committed(self) -> tuple[Word, ...]:
        """The words that stay, without those that the utterance before has said."""
        return self.agreement.committed[self._known :]

    @property
    def tentative(self) -> tuple[Word, ...]:
        """The words that may change."""
        return self.agreement.tentative[max(0, self._known - len(self.agreement.committed)) :]

    def final_words(self) -> tuple[tuple[Word, ...], Seam | None]:
        """The words of its final, and where it was cut what its right neighbour must know."""
        words = self.agreement.committed + self.agreement.tentative
        if self.ending is None or not self.ending.cut:
            return words[self._known :], None
        at_s = self.ending.end / SAMPLE_RATE
        keep = split_at(words, at_s, len(self.agreement.committed))
        seam = Seam(at_s, words[max(0, keep - self._SEAM_WORDS) : keep], words[keep:])
        return words[min(self._known, keep) : keep], seam
