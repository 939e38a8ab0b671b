"""Stages one after the other."""

from __future__ import annotations

from dataclasses import replace

from npu.xdna.design import Await, Pattern, Stage, Start
from npu.xdna.junction import joined, room

ONE = Pattern((64,), (1,))
HEADER, ROWS = Start("A0", "headers", ONE), Start("A0", "work", ONE)
WEIGHTS, RESULT = Start("B0", "constants", ONE), Start("C0", "work", ONE)
END = (Await("A0"), Await("B0"), Await("C0"))
STAGE = Stage("product", (HEADER, WEIGHTS, RESULT, ROWS, *END), {}, ahead=3, first=1)


def test_one_stage() -> None:
    """Is as it was written."""
    assert joined([STAGE]) == STAGE.steps


def test_the_next_stage() -> None:
    """Begins before the one before has ended, but for the rows, which are its results."""
    all_but_ahead = (Await("A0", 1), Await("B0", 1), Await("C0", 1))
    ahead = (HEADER, WEIGHTS, RESULT)
    assert joined([STAGE, STAGE]) == (*ahead, ROWS, *ahead, *all_but_ahead, ROWS, *END)


def test_a_stage_that_needs_everything() -> None:
    """Begins when the one before has ended."""
    needing = replace(STAGE, ahead=0)
    assert joined([STAGE, needing]) == (*STAGE.steps, *needing.steps)


def test_full_queues() -> None:
    """Of the stage before as many are awaited as it takes."""
    rolling = (HEADER, ROWS) * 2 + (Await("A0", 2), HEADER, ROWS, WEIGHTS, RESULT)
    full = replace(STAGE, steps=(*rolling, *END), ahead=0)
    assert room(full, STAGE) == (Await("A0", 3),)
    assert room(STAGE, STAGE) == room(None, STAGE) == ()
    after = joined([full, STAGE])[len(rolling) :]
    assert after[:4] == (Await("A0", 3), HEADER, WEIGHTS, RESULT)


def test_a_stage_with_other_fifos() -> None:
    """Is awaited for what it has moved, and only that."""
    small = Stage("statistics", (ROWS, Await("A0")), {})
    assert joined([small, STAGE]) == (ROWS, HEADER, WEIGHTS, RESULT, Await("A0", 1), ROWS, *END)
