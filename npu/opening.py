"""How the decoding of a window begins: in which language, after what, and whether anybody speaks at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.model import Backend, Cache
from npu.tokens import Tokenizer
from streaming.window import Manner


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
    """cache: empty. before: tokens of what was said before, as many as there is room for.

    The model is asked for the language where it is not given. Without a language to find and a token for silence,
    nothing is decoded.
    """
    signals = tokenizer.signals
    language = manner.language or (None if len(tokenizer.languages) > 1 else tokenizer.languages[0])
    if language is None:
        logits = backend.extend(cache, (signals.start,))[-1]
        language = max(signals.languages, key=lambda code: float(logits[signals.languages[code]]))
        if before:
            cache.truncate(0)
    opening = signals.opening(language, manner.task, timestamps, before)
    silence = 0.0
    if signals.silent is not None:
        started = len(before) + 1 if opening[0] != signals.start else 0
        if cache.length <= started:
            logits = backend.extend(cache, opening[cache.length : started + 1])[-1]
        silence = _probability(logits, signals.silent)
    cache.truncate(len(opening) - 1)
    return Opened(cache, opening, language, silence)


def prompt_tokens(tokenizer: Tokenizer, prompt: str, most_tokens: int) -> tuple[int, ...]:
    """The end of what might have been said before, as much as leaves more than half of the room to the text."""
    if tokenizer.signals.before is None or not prompt.strip():
        return ()
    return recent(tokenizer.spell(f" {prompt.strip()}"), most_tokens)


def recent(tokens: Sequence[int], most_tokens: int) -> tuple[int, ...]:
    """The last of the tokens, as many as may be said before."""
    return tuple(tokens)[-max(1, most_tokens // 2 - 1) :]


def _probability(logits: NDArray[np.float32], token: int) -> float:
    powers = np.exp(logits - logits.max())
    return float(powers[token] / powers.sum())
