"""Stages one after the other."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from npu.untrained import BASE
from npu.xdna.composition import Constants
from npu.xdna.decoders_w8 import Size, passes_w8
from npu.xdna.design import Await, Pattern, Stage, Start
from npu.xdna.junction import joined, parted, room
from npu.xdna.shapes import whisper_parts

ONE, FURTHER = Pattern((64,), (1,)), Pattern((64,), (1,), 64)
HEADER, ROWS = Start("A0", "headers", ONE), Start("A0", "work", ONE)
WEIGHTS, OTHER, RESULT = Start("B0", "constants", ONE), Start("B0", "work", FURTHER), Start("C0", "work", ONE)
END = (Await("A0"), Await("B0"), Await("C0"))
STAGE = Stage("product", (HEADER, ROWS, WEIGHTS, OTHER, RESULT, *END), {}, first=5)


def of(*group: Start) -> Stage:
    """A stage of one group."""
    return replace(STAGE, steps=(*group, *END), first=len(group))


def test_one_stage() -> None:
    """Is as it was written."""
    assert joined([STAGE]) == STAGE.steps


def test_the_next_stage() -> None:
    """Begins before the one before has ended, but for the rows."""
    ahead = (HEADER, WEIGHTS, OTHER, RESULT)
    all_but_ahead = (Await("A0", 1), Await("B0", 2), Await("C0", 1))
    assert joined([STAGE, STAGE]) == (*STAGE.steps[:5], *ahead, *all_but_ahead, ROWS, *END)


def test_what_needs_results() -> None:
    """Is what was written, even if only in part or in a later repetition; and what comes after it on its channel."""
    for written in (
        Start("C0", "work", Pattern((64,), (1,), 100)),
        Start("C0", "work", Pattern((2, 8), (500, 1))),
        Start("C0", "work", Pattern((8,), (1,)), 3, 40),
    ):
        ahead, others = parted(of(HEADER, written), of(HEADER, ROWS, OTHER, WEIGHTS, RESULT))
        assert (ahead, others) == ([HEADER, RESULT], [ROWS, OTHER, WEIGHTS])


def test_another_buffer() -> None:
    """Is not written by results."""
    kept = replace(OTHER, argument="past")
    written = Start("C0", "work", FURTHER)
    assert parted(of(HEADER, written), of(HEADER, kept, ROWS))[0] == [HEADER, kept]


def test_rows_of_several_shims() -> None:
    """Come before what is added to their products."""
    written = Start("C0", "work", FURTHER)
    needing = [replace(each, fifo=f"{each.fifo[0]}{i}") for i in range(4) for each in (OTHER, ROWS)]
    _, others = parted(of(HEADER, written), of(*needing))
    assert [start.fifo for start in others] == ["A0", "A1", "A2", "A3", "B0", "B1", "B2", "B3"]


def test_results_without_rows() -> None:
    """Are not asked for ahead: nobody knows what still reads the memory that they go to."""
    assert parted(STAGE, of(HEADER, RESULT)) == ([HEADER], [RESULT])


def test_full_queues() -> None:
    """Of the stage before as many are awaited as it takes."""
    rolling = (HEADER, ROWS) * 2 + (Await("A0", 2), HEADER, ROWS, WEIGHTS, RESULT)
    full = replace(STAGE, steps=(*rolling, *END), first=2)
    assert room(full, STAGE) == (Await("A0", 3),)
    assert room(STAGE, STAGE) == room(None, STAGE) == ()
    assert joined([full, STAGE])[len(rolling) :][:2] == (Await("A0", 3), HEADER)


def test_a_stage_with_other_fifos() -> None:
    """Is awaited for what it has moved, and only that."""
    small = Stage("statistics", (HEADER, ROWS, Await("A0")), {}, first=2)
    after = (HEADER, WEIGHTS, OTHER, RESULT, Await("A0", 1), ROWS, *END)
    assert joined([small, STAGE]) == (HEADER, ROWS, *after)


def test_a_decoder() -> None:
    """Only rows are started late, and keys and values of the tokens themselves."""
    parts = whisper_parts(replace(BASE, decoder_layers=1, vocabulary=300))
    size = Size(groups=4, past=1, blocks=2)
    (composed,) = passes_w8(parts, Constants(), size, [size])
    stages = [stage for unit in composed.composer.units.values() for stage in unit]
    late = {stage.name: parted(before, stage)[1] for before, stage in pairwise(stages)}
    for name, others in late.items():
        own = 4 if name.endswith(" attention") else 0
        assert sum(start.fifo[0] == "B" for start in others) == own
        assert others[0].fifo == "A0"
