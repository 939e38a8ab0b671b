"""How the decoding of a window begins: in which language, after what, and whether anybody speaks at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.model import Backend, Cache
from npu.tokens import Signals, Tokenizer
from streaming.window import Manner

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Opened:
    """A window whose decoding may begin."""

    cache: Cache  # holds the first tokens of the opening, all but one at most
    opening: tuple[int, ...]
    language: str  # that was asked for, or found out
    silence: float = 0.0  # probability that nobody speaks; 0 where the model does not say

    @property
    def held(self) -> int:
        """Tokens of the opening that the cache may hold."""
        return len(self.opening) - 1


def opened(
    backend: Backend,
    tokenizer: Tokenizer,
    cache: Cache,
    manner: Manner,
    timestamps: bool = False,
    before: Sequence[int] = (),
) -> Opened:
    """One window, see `opened_all`."""
    return opened_all(backend, tokenizer, [cache], manner, timestamps, before)[0]


def opened_all(
    backend: Backend,
    tokenizer: Tokenizer,
    caches: Sequence[Cache],
    manner: Manner,
    timestamps: bool = False,
    before: Sequence[int] = (),
) -> list[Opened]:
    """caches: empty, one a window. before: tokens of what was said before, as many as there is room for.

    The model is asked for the language where it is not given. Without a language to find and a token for silence,
    nothing is decoded. Of several windows, which go on in lockstep, a pass for silence takes all of the opening but its
    last token; of one, no more than it must, since the rest comes with the text, and one token is the fastest pass.
    """
    signals = tokenizer.signals
    known = manner.language or (tokenizer.languages[0] if len(tokenizer.languages) == 1 else None)
    following: list[Array] = []  # logits of what comes after `start`, where they are known
    if known is None:
        following = [rows[-1] for rows in backend.extend_all(caches, [(signals.start,)] * len(caches))]
    languages = (
        [_language(logits, signals) for logits in following] if known is None else [known] * len(caches)
    )
    openings = [signals.opening(language, manner.task, timestamps, before) for language in languages]
    if before:
        following = []  # nothing was said before those
        for cache in caches:
            cache.truncate(0)
    if signals.silent is not None and not following:
        started = openings[0].index(signals.start)
        most = len(openings[0]) - 1 if len(caches) > 1 else 0
        parts = [opening[: max(started + 1, most)] for opening in openings]
        following = [rows[started] for rows in backend.extend_all(caches, parts)]
    found = []
    for at, cache in enumerate(caches):
        cache.truncate(len(openings[at]) - 1)
        silence = 0.0 if signals.silent is None else _probability(following[at], signals.silent)
        found.append(Opened(cache, openings[at], languages[at], silence))
    return found


def prompt_tokens(tokenizer: Tokenizer, prompt: str, most_tokens: int) -> tuple[int, ...]:
    """The end of what might have been said before, as much as leaves more than half of the room to the text."""
    if tokenizer.signals.before is None or not prompt.strip():
        return ()
    return recent(tokenizer.spell(f" {prompt.strip()}"), most_tokens)


def recent(tokens: Sequence[int], most_tokens: int) -> tuple[int, ...]:
    """The last of the tokens, as many as may be said before."""
    return tuple(tokens)[-max(1, most_tokens // 2 - 1) :]


def _language(logits: Array, signals: Signals) -> str:
    """The most probable."""
    return max(signals.languages, key=lambda code: float(logits[signals.languages[code]]))


def _probability(logits: Array, token: int) -> float:
    powers = np.exp(logits - logits.max())
    return float(powers[token] / powers.sum())
