"""Whether what a model says is what anybody said: thresholds that hold in every language.

The thresholds are those of Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022,
section 4.5.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from npu.decoding import Decoding, Ending

SILENCE, REPETITION, DENSITY = "silence", "repetition", "density"  # why words are withheld


@dataclass(frozen=True)
class Thresholds:
    """What a text has to keep to."""

    compression: float = 2.4  # its bytes for each byte of it compressed; more of them repeat themselves
    log_prob: float = -1.0  # mean of its tokens; less is guessed
    silence: float = 0.6  # probability that nobody speaks; above it, what is guessed is made up
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # tried in order until it is plausible


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is to be thought of a decoding."""

    doubt: str | None  # why its words are to be withheld
    again: bool  # another temperature may find better words


def judged(decoding: Decoding, text: str, silence: float, thresholds: Thresholds) -> Judgement:
    """decoding: scored. text: what it spells. silence: probability that nobody speaks."""
    guessed = decoding.mean_log_prob < thresholds.log_prob
    if guessed and silence > thresholds.silence:
        return Judgement(SILENCE, again=False)
    if decoding.ending is Ending.LOOP or compression_ratio(text) > thresholds.compression:
        return Judgement(REPETITION, again=True)
    if decoding.ending is Ending.FULL:
        return Judgement(DENSITY, again=True)
    return Judgement(None, again=guessed)


def compression_ratio(text: str) -> float:
    """How many times smaller zlib makes it; 0 for nothing."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0
