"""Decoding over the three verbs, the most probable token or one drawn at a temperature, the last hypothesis as draft.

The draft saves passes and never changes the outcome: a pass over k drafted tokens gives the very logits that k passes
would have given, and only the tokens that would have been chosen are kept. What is drawn depends on nothing but the
logits, the temperature and the place, so this holds there as well, and every decoding can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
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
_SEEDS = 1000  # temperatures in thousandths draw different tokens
_NOWHERE = np.zeros((0, 0), np.float32)


class Shaper(Protocol):
    """Something that makes tokens more or less likely than the model thinks, or forbids them."""

    def shape(self, logits: Array, tokens: Sequence[int]) -> None:
        """Changes logits [vocabulary], those of the token after these of the result, where they lie."""


class Ending(Enum):
    """Why a decoding went no further."""

    END = 0  # the model said so
    LOOP = 1  # it repeated itself without end; one round of it is kept
    FULL = 2  # as many tokens as may be


@dataclass(frozen=True, eq=False)
class Rules:
    """What the decoding of a window obeys."""

    opening: tuple[int, ...]  # the tokens it starts with, one at least, not part of the result
    end: int  # the token it stops at, not part of the result
    most: int  # tokens of the result; forced ones count, but are never cut off
    word_starts: NDArray[np.bool_]  # [vocabulary]: what may follow the forced tokens, which are whole words
    shapers: tuple[Shaper, ...] = ()  # applied in order
    temperature: float = 0.0  # of sampling; 0: the most probable token
    guarded: bool = True  # a loop of the model's ends the decoding


@dataclass(frozen=True, eq=False)
class Decoding:
    """The tokens, the forced ones first."""

    tokens: tuple[int, ...]
    log_probs: Array  # [tokens] if scored, else empty; of the shaped logits
    attention: (
        Array  # [tokens, frames] if scored, else empty: where the model looked when it chose each of them
    )
    passes: int  # calls of `extend`
    ending: Ending = Ending.END
    end_log_prob: float = 0.0  # of the end, if scored and the model said it

    @property
    def mean_log_prob(self) -> float:
        """Of its tokens, the end included; 0 unless scored."""
        ended = self.ending is Ending.END
        count = len(self.log_probs) + ended
        return (float(self.log_probs.sum()) + ended * self.end_log_prob) / count if count else 0.0


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
    scored: bool = False, attended: bool = True,
) -> Decoding:  # fmt: skip
    """One token after another; `scored` adds their log-probabilities, and, if `attended`, their attention.

    The cache is empty, or holds the opening's first tokens, all but one at most.
    """
    tokens, most = list(forced), max(rules.most, len(forced))
    guess = Draft([token for token in draft if token != rules.end])
    pending = [*rules.opening, *forced][cache.length :]  # decided, but not in the cache yet
    log_probs: list[Array] = []
    passes, going = 0, True
    ending, end_log_prob = Ending.FULL, 0.0
    while going:
        start, proposed = cache.length, guess.proposal(most - len(tokens))
        logits = backend.extend(cache, (*pending, *proposed))
        first = max(
            0, len(rules.opening) - 1 - start
        )  # row that says what follows the opening, or a later one
        passes += 1
        said = [*tokens, *proposed]  # row `first` chooses what follows some of them, the next one more
        _shape(logits[first:], said, start + first + 1 - len(rules.opening), rules.shapers)
        rows = logits[len(pending) - 1 :]  # [proposed + 1, vocabulary], each follows one more proposed token
        choices = _choices(rows, len(tokens), rules)
        if forced and passes == 1:
            choices[0] = _choices(new_word(rows[:1], rules), len(tokens), rules)[0]
        accepted = _agreement(choices, proposed)
        following = int(choices[accepted])
        guess.receive_decided(accepted, following)
        cache.truncate(start + len(pending) + accepted)
        if following == rules.end:
            ending = Ending.END
            end_log_prob = float(_log_probs(rows[accepted : accepted + 1], [following])[0]) if scored else 0.0
        going = following != rules.end and len(tokens) + accepted < most
        decided = len(tokens)
        tokens += [*proposed[:accepted], following] if going else proposed[:accepted]
        kept = without_loop(tokens, max(decided, len(forced)), len(forced)) if rules.guarded else len(tokens)
        if kept < len(tokens):
            del tokens[kept:]
            ending, going = Ending.LOOP, False
        if scored:
            log_probs.append(_log_probs(logits[first:], tokens[start + first + 1 - len(rules.opening) :]))
        pending = [following]
    scores = np.concatenate(log_probs)[: len(tokens)] if scored else np.zeros(0, np.float32)
    seen = len(rules.opening) - 1  # tokens that were fed before the one which the result's first came of
    attention = cache.attention()[seen : seen + len(tokens)] if scored and attended else _NOWHERE
    return Decoding(tuple(tokens), scores, attention, passes, ending, end_log_prob)


def decode_together(
    batch: Batch, rules: Sequence[Rules], scored: bool = False, attended: bool = True
) -> list[Decoding]:
    """The tokens of each decoding of a batch, a token each a pass, no draft.

    Each has been fed its opening but for the last token. When half of the windows are done the batch goes on without
    them; until then what they are fed is of no account. `scored` and `attended` together need a batch that keeps the
    attention.
    """
    lanes = [_Lane(each) for each in rules]
    going = lanes  # those in the batch, in its order
    while not all(lane.done for lane in going):
        logits = batch.extend([lane.last for lane in going])
        for row, lane in enumerate(going):
            _shape(logits[row : row + 1], lane.tokens, len(lane.tokens), lane.rules.shapers)
        if any(lane.rules.temperature for lane in going):
            choices = [
                int(_choices(logits[row : row + 1], len(lane.tokens), lane.rules)[0])
                for row, lane in enumerate(going)
            ]
        else:
            choices = logits.argmax(axis=1).tolist()
        scores = _log_probs(logits, choices) if scored else np.zeros(len(choices), np.float32)
        for row, lane in enumerate(going):
            if lane.done:
                continue
            lane.receive_choice(choices[row], float(scores[row]))
            if lane.done and scored and attended:
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
        self._ending, self._end_log_prob = Ending.FULL, 0.0
        self._log_probs: list[float] = []
        self._passes = 0

    @property
    def last(self) -> int:
        """The token to be fed next."""
        return self.tokens[-1] if self.tokens else self.rules.opening[-1]

    def receive_choice(self, token: int, log_prob: float) -> None:
        """The next token, or the end."""
        self._passes += 1
        if token == self.rules.end:
            self._ending, self._end_log_prob = Ending.END, log_prob
        self.done = token == self.rules.end or len(self.tokens) >= self.rules.most
        if self.done:
            return
        self.tokens.append(token)
        self._log_probs.append(log_prob)
        if not self.rules.guarded:
            return
        kept = without_loop(self.tokens, len(self.tokens) - 1, 0)
        if kept < len(self.tokens):
            self._ending, self.done = Ending.LOOP, True
            del self.tokens[kept:]

    def decoding(self, scored: bool) -> Decoding:
        """What came out."""
        n = len(self.tokens)
        log_probs = np.array(self._log_probs[:n] if scored else [], np.float32)
        attention = _NOWHERE if self.attention is None else self.attention[:n]
        ending = self._ending, self._end_log_prob if scored else 0.0
        return Decoding(tuple(self.tokens), log_probs, attention, self._passes, *ending)


def _shape(logits: Array, tokens: Sequence[int], first: int, shapers: Sequence[Shaper]) -> None:
    """logits [rows, vocabulary]: row i follows the first `first + i` tokens."""
    if shapers:
        for i, row in enumerate(logits):
            for shaper in shapers:
                shaper.shape(row, tokens[: first + i])


def _choices(logits: Array, at: int, rules: Rules) -> NDArray[np.intp]:
    """[rows] of logits [rows, vocabulary]: row i chooses token `at + i` of the result.

    Above temperature 0 it is drawn: the highest logit after noise of Gumbel's distribution, which is that of the place.
    """
    if not rules.temperature:
        return np.asarray(logits.argmax(axis=1))
    drawn = [
        row / rules.temperature + _noise(rules.temperature, at + i, len(row)) for i, row in enumerate(logits)
    ]
    return np.asarray(np.argmax(drawn, axis=1))


def _noise(temperature: float, at: int, vocabulary: int) -> NDArray[np.float64]:
    return np.random.default_rng((round(temperature * _SEEDS), at)).gumbel(size=vocabulary)


def new_word(logits: Array, rules: Rules) -> Array:
    """logits [rows, vocabulary] without the tokens that would go on with the word before them."""
    allowed = rules.word_starts.copy()
    allowed[rules.end] = True
    return np.where(allowed, logits, np.float32(-np.inf))


def _agreement(choices: NDArray[np.intp], proposed: Sequence[int]) -> int:
    """How many proposed tokens are the ones that would have been chosen."""
    for i, token in enumerate(proposed):
        if choices[i] != token:
            return i
    return len(proposed)


def without_loop(tokens: Sequence[int], checked: int, forced: int) -> int:
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
