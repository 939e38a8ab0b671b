"""Joining the texts of two windows that overlap: no word lost, none doubled."""

from __future__ import annotations

from dataclasses import dataclass

from streaming.window import Word


def _spelling(word: Word) -> str:
    return "".join(letter for letter in word.text.casefold() if letter.isalnum()) or word.text


def _middle(word: Word) -> float:
    return (word.start + word.end) / 2


def split_at(words: tuple[Word, ...], at_s: float, keep: int) -> int:
    """How many words the left window keeps: those before the cut, and in any case its first `keep`."""
    for index in range(keep, len(words)):
        if _middle(words[index]) >= at_s:
            return index
    return len(words)


@dataclass(frozen=True)
class Seam:
    """What the left window said around a cut; times are seconds of the session."""

    at_s: float  # the cut
    kept: tuple[Word, ...]  # the left window's last words: they have been shown
    beyond: tuple[Word, ...]  # words it heard after the cut: left to the right window

    _NEAR_S = 0.7  # two windows place the same word at most this far apart

    def first_new(self, words: tuple[Word, ...]) -> int:
        """The index in the right window's words of the first that the left one has not said.

        The two windows share words in the overlap. The shared word nearest the cut tells by count how many
        of the right window's are known; where none is shared, time decides.
        """
        heard = self.kept + self.beyond
        best: tuple[float, int] | None = None
        for i, left in enumerate(heard):
            for j, right in enumerate(words):
                if abs(_middle(left) - _middle(right)) > self._NEAR_S or _spelling(left) != _spelling(right):
                    continue
                # a pair that is off in time by as much as it is near the cut could be a repetition
                cost = abs(_middle(left) - self.at_s) + 2 * abs(_middle(left) - _middle(right))
                if best is None or cost < best[0]:
                    best = cost, j + len(self.kept) - i
        if best is not None:
            return min(max(best[1], 0), len(words))
        return next((j for j, word in enumerate(words) if _middle(word) >= self.at_s), len(words))
