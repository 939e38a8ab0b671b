"""What makes tokens more or less likely than the model thinks: rules of its text, and words that are expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from npu.decoding import Shaper
from npu.tokens import Signals, Tokenizer

Array = NDArray[np.float32]

BEGUN = 1.0  # added to the logit of a token that begins an expected word ...
PER_CHARACTER = 0.5  # ... with so much for each character: few other words begin with it ...
MOST_BEGUN = 4.0  # ... up to this
CONTINUED = 5.0  # added to one that goes on with it
WHOLE = 1.0  # added to what one token begins with that is all of a word
_FREELY = 6.0  # so far behind the best token none begins a word


class Suppressed:
    """Tokens that no result holds."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = np.array(tokens, np.int64)

    def shape(self, logits: Array, tokens: Sequence[int]) -> None:
        """Forbids them."""
        logits[self._tokens] = -np.inf


class SuppressedFirst:
    """Tokens that no result begins with: silence is not to be the first thing that comes to mind."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = np.array(tokens, np.int64)

    def shape(self, logits: Array, tokens: Sequence[int]) -> None:
        """Forbids them at the beginning."""
        if not tokens:
            logits[self._tokens] = -np.inf


class Timestamps:
    """A text with times: each segment between two of them, in ascending order, the first one early.

    Where all times together are more probable than any one token of text, a time it is. Rules: Radford et al.,
    "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 4.5, as transformers has them.
    """

    def __init__(self, signals: Signals) -> None:
        """The signals need `first_time`."""
        if signals.first_time is None:
            raise ValueError("a model without timestamps")
        self._first = signals.first_time
        self._untimed = signals.untimed
        self._end = signals.end
        self._latest_first = signals.latest_first_time

    def shape(self, logits: Array, tokens: Sequence[int]) -> None:
        """Forbids what would break the order."""
        first = self._first
        if self._untimed is not None:
            logits[self._untimed] = -np.inf
        said = [token for token in tokens if token >= first]
        closed = len(tokens) >= 1 and tokens[-1] >= first
        between = len(tokens) < 2 or tokens[-2] >= first
        if closed and between:  # two in a row: a segment begins
            logits[first:] = -np.inf
        elif closed:  # one: the segment has ended, another begins at a time, or nothing follows
            logits[: self._end] = -np.inf
        if said:
            earliest = said[-1] if closed and not between else said[-1] + 1
            logits[first:earliest] = -np.inf
        if not tokens:
            logits[:first] = -np.inf
            if self._latest_first is not None:
                logits[first + self._latest_first + 1 :] = -np.inf
        likely = logits[first:].max()
        if np.isfinite(likely):
            times = np.log(np.exp(logits[first:] - likely).sum()) + likely
            if times > logits[:first].max():
                logits[:first] = -np.inf


@dataclass(frozen=True)
class Spelling:
    """A word as tokens."""

    tokens: tuple[int, ...]  # one at least
    first: int  # characters that the first of them spells


class Vocabulary:
    """Words and phrases that are more likely here than elsewhere, as a tree of their tokens.

    What begins one is favoured a little, what goes on with one that is begun the more the more of it was said. Those
    that leave it half said pay back what it was given, so that a wrong beginning loses where hypotheses compete.
    """

    def __init__(self, words: Iterable[Spelling], at_first: Iterable[Spelling] = ()) -> None:
        """at_first: spellings that only a text may begin with, without a space."""
        self._anywhere, self._at_first = _tree(words), _tree(at_first)
        self._longest = _height(self._anywhere)

    def shape(self, logits: Array, tokens: Sequence[int]) -> None:
        """Raises what begins a word, or goes on with one; lowers all else where one would be left half said."""
        raised: dict[int, float] = {}
        nodes = self._open(tokens)
        owed = max((node.given for node in nodes), default=0.0)
        for node in nodes:
            for token, after in node.after.items():
                raised[token] = max(raised.get(token, 0.0), node.given - owed + after.gain)
        near = logits.max() - _FREELY
        for node in (self._anywhere,) if tokens else (self._anywhere, self._at_first):
            for token, after in node.after.items():
                if logits[token] > near:
                    raised[token] = max(raised.get(token, -owed), after.gain - owed)
        before = {token: logits[token] for token in raised}
        logits -= np.float32(owed)
        for token, much in raised.items():
            logits[token] = before[token] + np.float32(much)

    def _open(self, tokens: Sequence[int]) -> list[_Node]:
        """The places in the tree where the last tokens may be."""
        found = [self._at_first.reached(tokens)] if len(tokens) else []
        begins = range(max(0, len(tokens) - self._longest + 1), len(tokens))
        found += [self._anywhere.reached(tokens[begin:]) for begin in begins]
        return [node for node in found if node is not None and node.after]


@dataclass
class _Node:
    """A place in the tree of spelled words."""

    gain: float = 0.0  # of the token that leads here
    given: float = (
        0.0  # what the tokens up to here were raised by, and is owed; nothing where a word is complete
    )
    after: dict[int, _Node] = field(default_factory=dict)

    def reached(self, tokens: Sequence[int]) -> _Node | None:
        """Where these tokens lead from here."""
        node: _Node | None = self
        for token in tokens:
            if node is None:
                break
            node = node.after.get(token)
        return node


def _tree(words: Iterable[Spelling]) -> _Node:
    root = _Node()
    whole = []
    for word in words:
        node = root
        for at, token in enumerate(word.tokens):
            gain = CONTINUED if at else min(BEGUN + PER_CHARACTER * word.first, MOST_BEGUN)
            node = node.after.setdefault(token, _Node(gain, node.given + gain))
        whole.append(node)
        if len(word.tokens) == 1:
            node.gain += WHOLE
    for node in whole:
        node.given = 0.0
    return root


def _height(node: _Node) -> int:
    return max((1 + _height(after) for after in node.after.values()), default=0)


def vocabulary(words: Iterable[str], tokenizer: Tokenizer) -> Vocabulary:
    """Of words and phrases as given and capitalised, at the beginning of a text and within it."""
    within: dict[Spelling, None] = {}
    at_first: dict[Spelling, None] = {}
    for word in words:
        given = " ".join(word.split())
        for text in dict.fromkeys((given, given[:1].upper() + given[1:])):
            for spaced in (f" {text}", text):
                if tokens := tokenizer.spell(spaced):
                    anywhere = spaced != text or tokenizer.word_starts[tokens[0]]
                    spelling = Spelling(tokens, len(tokenizer.text(tokens[:1])))
                    (within if anywhere else at_first)[spelling] = None
    return Vocabulary(within, at_first)


def shapers(
    signals: Signals, timestamps: bool = False, expected: Vocabulary | None = None
) -> tuple[Shaper, ...]:
    """What the decoding of a model's text obeys, in the order of application; none where nothing is asked for."""
    found: list[Shaper] = []
    if expected is not None:
        found.append(expected)
    if signals.never_first:
        found.append(SuppressedFirst(signals.never_first))
    if signals.never:
        found.append(Suppressed(signals.never))
    if timestamps:
        found.append(Timestamps(signals))
    return tuple(found)
