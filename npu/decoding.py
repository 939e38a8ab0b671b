"""Greedy decoding over the three verbs, with the last hypothesis as the draft.

The draft saves passes and never changes the outcome: a pass over k drafted tokens gives the very logits that k passes
would have given, and only the tokens on which their maxima agree are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from npu.model import Backend, Batch, Cache

Array = NDArray[np.float32]

_LOOK_AHEAD = 4  # tokens of the draft among which a decoding that left it looks for its place
_CHUNK = 12  # tokens verified at once after that: a draft that failed once may fail again
_LOOP_TOKENS = 16  # a repetition at least this long ...
_LOOP_TIMES = 4  # ... of the same so many times is a loop of the model's, not speech
_LOOP_UNIT = 12  # tokens, the longest unit that is looked for
_NOWHERE = np.zeros((0, 0), np.float32)


class Shaper(Protocol):
    """Something that makes tokens more or less likely than the model thinks, or forbids them."""

    def shape(self, logits: Array, tokens: Sequence[int]) -> None:
        """Changes logits [vocabulary], those of the token after these of the result, where they lie."""


@dataclass(frozen=True, eq=False)
class Rules:
    """What the decoding of a window obeys."""

    opening: tuple[int, ...]  # the tokens it starts with, one at least, not part of the result
    end: int  # the token it stops at, not part of the result
    most: int  # tokens of the result; forced ones count, but are never cut off
    word_starts: NDArray[np.bool_]  # [vocabulary]: what may follow the forced tokens, which are whole words
    shapers: tuple[Shaper, ...] = ()  # applied in order


@dataclass(frozen=True, eq=False)
class Decoding:
    """The tokens, the forced ones first."""

    tokens: tuple[int, ...]
    log_probs: Array  # [tokens] if scored, else empty; of the shaped logits
    attention: (
        Array  # [tokens, frames] if scored, else empty: where the model looked when it chose each of them
    )
    passes: int  # calls of `extend`


class Draft:
    """The last hypothesis beyond what is decided, and the place in it where the decoding stands."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._rest = list(tokens)
        self._most = len(self._rest)  # tokens of one proposal
        self._reach = _LOOK_AHEAD
        self._lost = False

    def proposal(self, room: int) -> list[int]:
        """At most `room` tokens that will probably follow; none while the place is lost."""
        return [] if self._lost else self._rest[: max(0, min(room, self._most))]

    def receive_decided(self, accepted: int, following: int) -> None:
        """Of the proposal so many tokens were right, then came `following`: looks for it a little further on."""
        self._rest = self._rest[accepted:]
        ahead = self._rest[: self._reach]
        self._lost = following not in ahead
        if self._lost:
            self._reach += 1  # another token went by
        else:
            self._rest = self._rest[ahead.index(following) + 1 :]
            self._reach = _LOOK_AHEAD
        self._most = min(self._most, _CHUNK)


def decode(
    backend: Backend, cache: Cache, rules: Rules, forced: Sequence[int] = (), draft: Sequence[int] = (),
    scored: bool = False,
) -> Decoding:  # fmt: skip
    """The most probable token, one after another; `scored` adds their log-probabilities.

    The cache is empty, or holds the opening's first tokens, all but one at most.
    """
    tokens, most = list(forced), max(rules.most, len(forced))
    guess = Draft([token for token in draft if token != rules.end])
    pending = [*rules.opening, *forced][cache.length :]  # decided, but not in the cache yet
    log_probs: list[Array] = []
    passes, going = 0, True
    while going:
        start, proposed = cache.length, guess.proposal(most - len(tokens))
        logits = backend.extend(cache, (*pending, *proposed))
        first = max(
            0, len(rules.opening) - 1 - start
        )  # row that says what follows the opening, or a later one
        passes += 1
        said = [*tokens, *proposed]  # row `first` chooses what follows some of them, the next one more
        _shape(logits[first:], said, start + first + 1 - len(rules.opening), rules.shapers)
        choices = logits[len(pending) - 1 :].argmax(
            axis=1
        )  # [proposed + 1], each follows one more proposed token
        if forced and passes == 1:
            choices[0] = _new_word(logits[len(pending) - 1], rules)
        accepted = _agreement(choices, proposed)
        following = int(choices[accepted])
        guess.receive_decided(accepted, following)
        cache.truncate(start + len(pending) + accepted)
        going = following != rules.end and len(tokens) + accepted < most
        decided = len(tokens)
        tokens += [*proposed[:accepted], following] if going else proposed[:accepted]
        kept = _without_loop(tokens, max(decided, len(forced)), len(forced))
        if kept < len(tokens):
            del tokens[kept:]
            going = False
        if scored:
            log_probs.append(_log_probs(logits[first:], tokens[start + first + 1 - len(rules.opening) :]))
        pending = [following]
    scores = np.concatenate(log_probs)[: len(tokens)] if scored else np.zeros(0, np.float32)
    seen = len(rules.opening) - 1  # tokens that were fed before the one which the result's first came of
    attention = cache.attention()[seen : seen + len(tokens)] if scored else _NOWHERE
    return Decoding(tuple(tokens), scores, attention, passes)


def decode_together(batch: Batch, rules: Sequence[Rules], scored: bool = False) -> list[Decoding]:
    """The most probable tokens of each decoding of a batch, a token each a pass, no draft.

    Each has been fed its opening but for the last token. When half of the windows are done the batch goes on without them; until then what they are fed is of no account.
    `scored` needs a batch that keeps the attention.
    """
    lanes = [_Lane(each) for each in rules]
    going = lanes  # those in the batch, in its order
    while not all(lane.done for lane in going):
        logits = batch.extend([lane.last for lane in going])
        for row, lane in enumerate(going):
            _shape(logits[row : row + 1], lane.tokens, len(lane.tokens), lane.rules.shapers)
        choices = logits.argmax(axis=1).tolist()
        scores = _log_probs(logits, choices) if scored else np.zeros(len(choices), np.float32)
        for row, lane in enumerate(going):
            if lane.done:
                continue
            lane.receive_choice(choices[row], float(scores[row]))
            if lane.done and scored:
                lane.attention = batch.attention(row)
        left = [row for row, lane in enumerate(going) if not lane.done]
        if left and 2 * len(left) <= len(going):
            batch.keep(left)
            going = [going[row] for row in left]
    return [lane.decoding(scored) for lane in lanes]


class _Lane:
    """One decoding of a batch."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.tokens: list[int] = []
        self.attention: Array | None = None  # [passes, frames], once it is done and if it is wanted
        self.done = False
        self._log_probs: list[float] = []
        self._passes = 0

    @property
    def last(self) -> int:
        """The token to be fed next."""
        return self.tokens[-1] if self.tokens else self.rules.opening[-1]

    def receive_choice(self, token: int, log_prob: float) -> None:
        """The next token, or the end."""
        self._passes += 1
        self.done = token == self.rules.end or len(self.tokens) >= self.rules.most
        if self.done:
            return
        self.tokens.append(token)
        self._log_probs.append(log_prob)
        kept = _without_loop(self.tokens, len(self.tokens) - 1, 0)
        self.done = kept < len(self.tokens)
        del self.tokens[kept:]

    def decoding(self, scored: bool) -> Decoding:
        """What came out."""
        n = len(self.tokens)
        log_probs = np.array(self._log_probs[:n] if scored else [], np.float32)
        attention = _NOWHERE if self.attention is None else self.attention[:n]
        return Decoding(tuple(self.tokens), log_probs, attention, self._passes)


def _shape(logits: Array, tokens: Sequence[int], first: int, shapers: Sequence[Shaper]) -> None:
    """logits [rows, vocabulary]: row i follows the first `first + i` tokens."""
    if shapers:
        for i, row in enumerate(logits):
            for shaper in shapers:
                shaper.shape(row, tokens[: first + i])


def _new_word(logits: Array, rules: Rules) -> int:
    """The best token that does not go on with the word before it."""
    allowed = rules.word_starts.copy()
    allowed[rules.end] = True
    return int(np.where(allowed, logits, -np.inf).argmax())


def _agreement(choices: NDArray[np.intp], proposed: Sequence[int]) -> int:
    """How many proposed tokens are the ones that would have been chosen."""
    for i, token in enumerate(proposed):
        if choices[i] != token:
            return i
    return len(proposed)


def _without_loop(tokens: Sequence[int], checked: int, forced: int) -> int:
    """How many tokens to keep: all, or up to the end of the first unit of a loop that ends after `checked` tokens."""
    for end in range(checked + 1, len(tokens) + 1):
        for unit in range(1, _LOOP_UNIT + 1):
            times = max(_LOOP_TIMES, -(-_LOOP_TOKENS // unit))
            begin = end - unit * times
            if begin >= 0 and tokens[begin : end - unit] == tokens[begin + unit : end]:
                return max(begin + unit, forced)
    return len(tokens)


def _log_probs(logits: Array, tokens: Sequence[int]) -> Array:
    """Of the token that each row chose; rows beyond the tokens are left out."""
    rows = logits[: len(tokens)]
    tokens = tokens[: len(rows)]
    highest = rows.max(axis=1, initial=-np.inf)
    total = np.log(np.exp(rows - highest[:, None]).sum(axis=1)) + highest
    chosen: Array = rows[np.arange(len(tokens)), list(tokens)] - total
    return chosen
