"""Goals are reached by bounds, by what is expected, or not at all."""

from __future__ import annotations

import pytest

from npu.xdna.goals import Verdict, goal_of
from npu.xdna.prediction import Question, predict


@pytest.mark.parametrize(
    ("reaching", "verdict"),
    [
        ((True, True, True), Verdict.REACHED),
        ((False, True, True), Verdict.EXPECTED),
        ((False, False, True), Verdict.POSSIBLE),
        ((False, False, False), Verdict.MISSED),
    ],
)
def test_a_verdict(reaching: tuple[bool, bool, bool], verdict: Verdict) -> None:
    """It says which of the worst, the expected and the best reach it."""
    assert Verdict.of(*reaching) is verdict


def test_moonshine() -> None:
    """Its goal is one of live speech, and of windows of 5 s."""
    found = goal_of(predict(Question("moonshine-tiny")))
    assert found is not None and found.words == "live, a window of 5 s encoded within 30 ms"
    assert found.verdict is Verdict.REACHED
    assert goal_of(predict(Question("moonshine-tiny", 8))) is None


def test_whisper_base() -> None:
    """Its goal is one of recordings, with eight windows side by side."""
    found = goal_of(predict(Question("whisper-base", 10)))
    assert found is not None and "8 windows side by side, over 220 times real time" in found.words
    assert goal_of(predict(Question("whisper-base", 10, batch=4))) is None


def test_other_models() -> None:
    """They have none."""
    assert goal_of(predict(Question("whisper-tiny", 10))) is None
