"""LocalAgreement-2: words on which two successive hypotheses agree are committed, and stay.

Macháček, Dabre, Bojar: Turning Whisper into Real-Time Transcription System, IJCNLP-AACL 2023.
"""

from __future__ import annotations

from streaming.errors import StateError
from streaming.window import Word


class LocalAgreement:
    """The hypotheses of one utterance in order -> its committed words, which only grow."""

    def __init__(self, hold_back: int = 1) -> None:
        """hold_back: words at the end of a hypothesis that are never committed; the audio cuts through them."""
        self._hold_back = hold_back
        self.committed: tuple[Word, ...] = ()
        self.tentative: tuple[Word, ...] = ()  # what the last hypothesis went on with

    def receive_hypothesis(self, words: tuple[Word, ...]) -> int:
        """Takes the next hypothesis, which begins with the committed words; returns how many it committed."""
        known = len(self.committed)
        if tuple(word.tokens for word in words[:known]) != tuple(word.tokens for word in self.committed):
            raise StateError("A hypothesis did not keep the committed words: the decoder ignored `forced`.")
        fresh = words[known:]
        agreed = 0
        for old, new in zip(self.tentative, fresh[: max(0, len(fresh) - self._hold_back)], strict=False):
            if old.tokens != new.tokens:
                break
            agreed += 1
        self.committed = words[: known + agreed]
        self.tentative = fresh[agreed:]
        return agreed

    @property
    def forced(self) -> tuple[int, ...]:
        """Tokens that the next decoding must begin with."""
        return tuple(token for word in self.committed for token in word.tokens)

    @property
    def draft(self) -> tuple[int, ...]:
        """Tokens that it will probably go on with."""
        return tuple(token for word in self.tentative for token in word.tokens)
