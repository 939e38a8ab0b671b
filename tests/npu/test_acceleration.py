"""What is said of the NPU where several models are resident."""

from __future__ import annotations

from npu.acceleration import NOT_ASKED, Acceleration, State, of_all

USED = Acceleration(State.IN_USE, device="RyzenAI-npu1", dispatches=5, recoveries=1)
FAILED = Acceleration(State.FAILED, "it hangs", ("reload",), "RyzenAI-npu1", dispatches=2, recoveries=1)
NOT_BUILT = Acceleration(State.UNAVAILABLE, "not built")


def test_the_one_worth_telling() -> None:
    """Is the one that uses it, then the one for which it failed, then the default model's."""
    found = of_all([NOT_BUILT, FAILED, USED])
    assert (found.state, found.device, found.reason) == (State.IN_USE, "RyzenAI-npu1", None)
    assert (found.dispatches, found.recoveries) == (7, 2)
    assert of_all([NOT_BUILT, FAILED]).reason == "it hangs"
    assert of_all([NOT_ASKED, NOT_BUILT]) == NOT_ASKED
