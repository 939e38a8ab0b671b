"""LocalAgreement: words on which successive hypotheses agree are committed, and stay.

Macháček, Dabre, Bojar: Turning Whisper into Real-Time Transcription System, IJCNLP-AACL 2023. Two hypotheses a
quarter of a second apart have heard nearly the same and agree on errors as well; so agreement counts here only over
a stretch of new audio, and then between all hypotheses on the way.
"""

from __future__ import annotations

from streaming.errors import StateError
from streaming.window import Word


class LocalAgreement:
    """The hypotheses of one utterance in order -> its committed words, which only grow."""

    _HOLD_BACK = 1  # words at the end of a hypothesis that do not count: the audio cuts through them

    def __init__(self, span: int = 0, committed: tuple[Word, ...] = ()) -> None:
        """span: samples of new audio over which hypotheses must agree."""
        self._span = span
        self.committed = committed
        self.tentative: tuple[Word, ...] = ()  # what the last hypothesis went on with
        self._agreed: tuple[Word, ...] | None = None  # after the committed: what all agreed on since ...
        self._since = 0  # ... the hypothesis whose window ended here

    def receive_hypothesis(self, words: tuple[Word, ...], end: int) -> int:
        """Takes the next hypothesis, which begins with the committed words; returns how many it committed.

        end: sample index after its window.
        """
        known = len(self.committed)
        if _tokens(words[:known]) != _tokens(self.committed):
            raise StateError("A hypothesis did not keep the committed words: the decoder ignored `forced`.")
        self.committed = words[:known]  # the same tokens, with the times of this hypothesis where it has some
        fresh = words[known:]
        sure = fresh[: max(0, len(fresh) - self._HOLD_BACK)]
        agreed = 0 if self._agreed is None else _common(self._agreed, sure)
        if self._agreed is None or end - self._since < self._span:
            if self._agreed is None:
                self._agreed, self._since = sure, end
            else:
                self._agreed = sure[:agreed]
            self.tentative = fresh
            return 0
        self.committed, self.tentative = words[: known + agreed], fresh[agreed:]
        self._agreed, self._since = sure[agreed:], end
        return agreed

    @property
    def forced(self) -> tuple[int, ...]:
        """Tokens that the next decoding must begin with."""
        return _tokens(self.committed)

    @property
    def draft(self) -> tuple[int, ...]:
        """Tokens that it will probably go on with."""
        return _tokens(self.tentative)


def _tokens(words: tuple[Word, ...]) -> tuple[int, ...]:
    return tuple(token for word in words for token in word.tokens)


def _common(left: tuple[Word, ...], right: tuple[Word, ...]) -> int:
    """How many words both begin with."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a.tokens != b.tokens:
            return index
    return min(len(left), len(right))
