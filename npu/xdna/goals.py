"""What models are meant to reach on the NPU, and what a prediction says of that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from npu.xdna.cost import Estimate
from npu.xdna.prediction import LIVE_S, Prediction

LIVE_LIMIT_S = 0.030  # for a window of Moonshine tiny's, by the encoder
RECORDINGS = 220.0  # times real time, whisper-base
WINDOWS = 8  # of recordings, decoded side by side


class Verdict(StrEnum):
    """Where a goal lies among the bounds of what is predicted."""

    REACHED = "reached, bounds included"
    EXPECTED = "reached by what is expected, not by all of the bounds"
    POSSIBLE = "not reached by what is expected, though within the bounds"
    MISSED = "not reached, bounds included"

    @classmethod
    def of(cls, worst: bool, expected: bool, best: bool) -> Verdict:
        """Whether each of them reaches it."""
        if worst:
            return cls.REACHED
        if expected:
            return cls.EXPECTED
        return cls.POSSIBLE if best else cls.MISSED


@dataclass(frozen=True)
class Goal:
    """One of them."""

    words: str
    found: Estimate  # in seconds, or times real time
    verdict: Verdict


def goal_of(prediction: Prediction) -> Goal | None:
    """What is meant to be reached by just what was asked for; None where nothing is."""
    expected = prediction.expected
    if (prediction.model, prediction.seconds) == ("moonshine-tiny", LIVE_S):
        time, limit = expected.encoding.time, LIVE_LIMIT_S
        verdict = Verdict.of(time.high < limit, time.expected < limit, time.low < limit)
        return Goal(f"live, a window of 5 s encoded within {limit * 1000:.0f} ms", time, verdict)
    if (prediction.model, prediction.lockstep.batch) == ("whisper-base", WINDOWS):
        speed, least = expected.speed, RECORDINGS
        verdict = Verdict.of(speed.low > least, speed.expected > least, speed.high > least)
        return Goal(
            f"recordings, {WINDOWS} windows side by side, over {least:.0f} times real time", speed, verdict
        )
    return None
