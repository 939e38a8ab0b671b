"""Beam search over the three verbs, several windows in lockstep.

As transformers has it: scores are sums of the model's own log-probabilities, changed by the shapers and not normalised
again, and are divided by a power of the length once a hypothesis is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from npu.decoding import Decoding, Ending, Rules, new_word, without_loop
from npu.model import Batch

Array = NDArray[np.float32]

_NOWHERE = np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class Beam:
    """How wide the search is, and when it ends."""

    width: int  # hypotheses side by side
    length_penalty: float = 1.0  # the score of a complete one is divided by its length to this power
    patience: float = 1.0  # times `width`, so many complete ones are waited for

    @property
    def complete(self) -> int:
        """Complete hypotheses that are kept."""
        return max(1, round(self.width * self.patience))


@dataclass(frozen=True)
class _Hypothesis:
    """Tokens of the result without the forced ones."""

    tokens: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    total: float = 0.0  # in float32, of the log-probabilities, the end's included


@dataclass(frozen=True)
class _Complete:
    """One that goes no further."""

    score: float
    hypothesis: _Hypothesis
    ending: Ending
    end_log_prob: float = 0.0


@dataclass
class _Search:
    """The beam of one window."""

    rules: Rules
    forced: tuple[int, ...]
    beam: Beam
    open: list[_Hypothesis] = field(default_factory=lambda: [_Hypothesis()])  # the best first
    complete: list[_Complete] = field(default_factory=list)  # the best first
    parents: list[int] = field(default_factory=list)  # of the open ones, among those before
    done: bool = False
    passes: int = 0

    def last(self, row: int) -> int:
        """The token that hypothesis is fed next; of one that is not there, any."""
        tokens = self.open[row].tokens if row < len(self.open) else ()
        return (*self.rules.opening, *self.forced, *tokens)[-1] if not tokens else tokens[-1]

    def receive_logits(self, logits: Array) -> None:
        """logits [open hypotheses, vocabulary], of what follows each."""
        self.passes += 1
        log_probs = self._shaped(logits)
        totals = log_probs + np.array([each.total for each in self.open], np.float32)[:, None]
        vocabulary = totals.shape[1]
        length = len(self.open[0].tokens) + 1  # of the continuations
        full = len(self.forced) + length >= self.rules.most
        going: list[tuple[_Hypothesis, int]] = []
        fresh: list[_Complete] = []
        for rank, at in enumerate(_best(totals.ravel(), 2 * self.beam.width)):
            parent, token = divmod(int(at), vocabulary)
            before = self.open[parent]
            total = float(totals[parent, token])
            log_prob = float(log_probs[parent, token])
            ended = self._ended(before, token, log_prob, total, full, length)
            if ended is None:
                grown = _Hypothesis((*before.tokens, token), (*before.log_probs, log_prob), total)
                going.append((grown, parent))
            elif rank < self.beam.width:
                fresh.append(ended)
        merged = sorted([*self.complete, *fresh], key=lambda each: -each.score)
        self.complete = merged[: self.beam.complete]
        kept = going[: self.beam.width]
        self.done = not kept or self._decided(kept[0][0].total, length)
        if not self.done:
            self.open = [hypothesis for hypothesis, _ in kept]
            self.parents = [parent for _, parent in kept]

    def decoding(self) -> Decoding:
        """The best complete hypothesis."""
        best = self.complete[0] if self.complete else _Complete(0.0, self.open[0], Ending.FULL)
        log_probs = np.array(best.hypothesis.log_probs, np.float32)
        tokens = (*self.forced, *best.hypothesis.tokens)
        return Decoding(tokens, log_probs, _NOWHERE, self.passes, best.ending, best.end_log_prob)

    def _shaped(self, logits: Array) -> Array:
        log_probs = _log_softmax(logits)
        for row, hypothesis in enumerate(self.open):
            for shaper in self.rules.shapers:
                shaper.shape(log_probs[row], (*self.forced, *hypothesis.tokens))
        return new_word(log_probs, self.rules) if self.forced and not self.open[0].tokens else log_probs

    def _ended(
        self, before: _Hypothesis, token: int, log_prob: float, total: float, full: bool, length: int
    ) -> _Complete | None:
        """The continuation as a complete hypothesis, where it is one."""
        score = total / length**self.beam.length_penalty
        if token == self.rules.end:
            return _Complete(score, _Hypothesis(before.tokens, before.log_probs, total), Ending.END, log_prob)
        tokens, log_probs = (*before.tokens, token), (*before.log_probs, log_prob)
        if self.rules.guarded and (kept := without_loop(tokens, length - 1, 0)) < length:
            return _Complete(score, _Hypothesis(tokens[:kept], log_probs[:kept], total), Ending.LOOP)
        return _Complete(score, _Hypothesis(tokens, log_probs, total), Ending.FULL) if full else None

    def _decided(self, best: float, length: int) -> bool:
        """Whether no open hypothesis, were it complete now, would be among the complete ones."""
        if len(self.complete) < self.beam.complete:
            return False
        possible: float = best / length**self.beam.length_penalty
        return possible <= self.complete[-1].score


def beam_search(
    batch: Batch, rules: Sequence[Rules], beam: Beam, forced: Sequence[Sequence[int]] = ()
) -> list[Decoding]:
    """The best hypothesis for each window of a batch, scored, without attention.

    batch: one decoding a window; each has been fed its opening and its forced tokens but for the last of them all.
    A hypothesis' log-probabilities are those of the tokens after the forced ones.
    """
    given = forced or [()] * len(rules)
    searches = [_Search(each, tuple(first), beam) for each, first in zip(rules, given, strict=True)]
    going, width = searches, 1  # those in the batch, in its order, with so many rows each
    while not all(search.done for search in going):
        tokens = [search.last(row) for search in going for row in range(width)]
        logits = batch.extend(tokens)
        for at, search in enumerate(going):
            if not search.done:
                search.receive_logits(logits[at * width :][: len(search.open)])
        left = [at for at, search in enumerate(going) if not search.done]
        if not left:
            break
        if 2 * len(left) > len(going):
            left = list(range(len(going)))
        rows = [[at * width + row for row in _rows(going[at], width, beam.width)] for at in left]
        going, before, width = [going[at] for at in left], len(going) * width, beam.width
        if (kept := list(chain(*rows))) != list(range(before)):
            batch.keep(kept)
    return [search.decoding() for search in searches]


def _rows(search: _Search, before: int, after: int) -> list[int]:
    """Which of the `before` rows of a window go on, `after` of them; the last ones stand in for those that are missing."""
    rows = [0] * after if search.done else search.parents[:after]
    return rows + [min(rows[-1], before - 1)] * (after - len(rows))


def _log_softmax(logits: Array) -> Array:
    """logits [rows, vocabulary]."""
    lowered = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(lowered - np.log(np.exp(lowered).sum(axis=1, keepdims=True)), np.float32)


def _best(scores: Array, count: int) -> NDArray[np.intp]:
    """Indices of the highest finite scores, the highest first, equal ones in order."""
    count = min(count, len(scores))
    found = np.sort(np.argpartition(scores, -count)[-count:])
    found = found[np.isfinite(scores[found])]
    return found[np.argsort(-scores[found], kind="stable")]
