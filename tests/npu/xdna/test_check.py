"""A design that fits passes; for every rule there is one that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from npu.xdna.check import check
from npu.xdna.design import (
    Acquire,
    Await,
    Block,
    Call,
    Choose,
    Design,
    Element,
    Fifo,
    Function,
    Held,
    Link,
    Local,
    Pattern,
    Release,
    Repeat,
    Sequence,
    Start,
    Tile,
    Word,
    Worker,
    whole,
)

SHIM, MEMORY, FIRST, SECOND = Tile(0, 0), Tile(0, 1), Tile(0, 2), Tile(0, 3)
HALF, BOTH, HEADER = Block(Element.I8, (32, 64)), Block(Element.I8, (64, 64)), Block(Element.I32, (8,))
SUM = Block(Element.I32, (32, 64))


def worker(tile: Tile, number: int) -> Worker:
    """Adds halves up, as often as the header says."""
    body = (
        Acquire("headers"),
        Acquire(f"out{number}"),
        Repeat(
            Word("headers", 0),
            (
                Acquire(f"in{number}"),
                Call("add", (Held(f"in{number}"), Local("sum"), Word("headers", 1))),
                Release(f"in{number}"),
            ),
        ),
        Choose(Word("headers", 2), {1: (Call("store", (Local("sum"), Held(f"out{number}"))),)}),
        Release(f"out{number}"),
        Release("headers"),
    )
    return Worker(tile, (Repeat(None, body),), {"sum": SUM}, stack=512)


def good() -> Design:
    """Rows split over two cores, their results joined."""
    blocks = Pattern((4, 8, 8, 8), (512, 8, 64, 1))
    fifos = (
        Fifo("rows", SHIM, (MEMORY,), BOTH),
        Fifo("in0", MEMORY, (FIRST,), HALF, sent=blocks),
        Fifo("in1", MEMORY, (SECOND,), HALF, sent=blocks),
        Fifo("headers", Tile(1, 0), (FIRST, SECOND), HEADER),
        Fifo("out0", FIRST, (MEMORY,), HALF),
        Fifo("out1", SECOND, (MEMORY,), HALF),
        Fifo("sums", MEMORY, (SHIM,), BOTH),
    )
    links = (Link(("rows",), ("in0", "in1"), (0, 2048)), Link(("out0", "out1"), ("sums",), (0, 2048)))
    functions = (
        Function("add", "add.cc", (HALF, SUM, None), stack=96),
        Function("store", "add.cc", (SUM, HALF), stack=64),
    )
    arguments = {"headers": HEADER, "x": Block(Element.I8, (256, 64)), "y": BOTH}
    steps = (
        Start("headers", "headers", whole(HEADER)),
        Start("rows", "x", whole(BOTH), repeat=4, step=BOTH.count),
        Start("sums", "y", whole(BOTH)),
        Await("sums"),
    )
    return Design(
        "sums",
        fifos,
        links,
        (worker(FIRST, 0), worker(SECOND, 1)),
        functions,
        (Sequence("add", arguments, steps),),
    )


def with_fifo(name: str, **changes: object) -> Design:
    design = good()
    return replace(
        design,
        fifos=tuple(replace(each, **changes) if each.name == name else each for each in design.fifos),  # type: ignore[arg-type]
    )


def with_worker(**changes: object) -> Design:
    design = good()
    return replace(design, workers=(replace(design.workers[0], **changes), design.workers[1]))  # type: ignore[arg-type]


def with_body(*steps: object) -> Design:
    return with_worker(body=steps)


def with_steps(*steps: Start | Await) -> Design:
    design = good()
    return replace(design, sequences=(replace(design.sequences[0], steps=steps),))


def with_link(*offsets: int) -> Design:
    design = good()
    return replace(design, links=(replace(design.links[0], offsets=offsets), design.links[1]))


def crowded() -> Design:
    """Another object for each core, which takes a third channel."""
    design = good()
    more = Fifo("third", Tile(2, 0), (FIRST,), HEADER), Fifo("fourth", Tile(3, 0), (FIRST,), HEADER)
    return replace(design, fifos=(*design.fifos, *more))


BROKEN: dict[str, tuple[str, str, Callable[[], Design]]] = {
    "unknown fifo in a link": (
        "names",
        "none",
        lambda: replace(good(), links=(Link(("rows",), ("nowhere",)),)),
    ),
    "a name twice": ("names", "2 times", lambda: replace(good(), fifos=(*good().fifos, good().fifos[0]))),
    "unknown fifo in a program": ("names", "nowhere", lambda: with_body(Acquire("nowhere"))),
    "unknown function": ("names", "no such function", lambda: with_body(Call("nothing", ()))),
    "unknown argument": ("names", "the argument z", lambda: with_steps(Start("rows", "z", whole(BOTH)))),
    "a tile outside": ("tiles", "4 columns", lambda: with_worker(tile=Tile(4, 2))),
    "a program in a memory tile": ("tiles", "only cores", lambda: with_worker(tile=MEMORY)),
    "two programs": ("tiles", "2 programs", lambda: with_worker(tile=SECOND)),
    "no consumer": ("tiles", "nobody", lambda: with_fifo("rows", consumers=())),
    "parts that overlap": ("links", "do not tile", lambda: with_link(0, 1024)),
    "parts of other elements": (
        "links",
        "different kinds",
        lambda: with_fifo("in0", block=Block(Element.I16, (16, 64)), sent=None),
    ),
    "fifos that do not meet": ("links", "do not meet", lambda: with_fifo("rows", consumers=(Tile(1, 1),))),
    "too much for a core": ("memory", "bytes of data memory", lambda: with_worker(locals={"sum": SUM, "more": BOTH, "most": Block(Element.I32, (13_000,))})),
    "too much for a memory tile": ("memory", "of 524288", lambda: with_fifo("rows", depth=127)),
    "too many channels": ("channels", "4 of 2 DMA channels into", crowded),
    "too many descriptors": ("descriptors", "buffer descriptors", lambda: with_fifo("headers", depth=15)),
    "too many descriptors of parts": ("descriptors", "52 of 48", lambda: with_fifo("rows", depth=11)),
    "too many transfers": (
        "live_descriptors",
        "17 of 16",
        lambda: with_steps(*(Start("rows", "x", whole(BOTH)) for _ in range(17))),
    ),
    "five loops": (
        "patterns",
        "5 loops of 4",
        lambda: with_fifo("in0", sent=Pattern((2, 2, 8, 8, 8), (1024, 512, 8, 64, 1))),
    ),
    "a loop within a word": (
        "patterns",
        "no whole words",
        lambda: with_fifo("in0", sent=Pattern((64, 32), (1, 64))),
    ),
    "a stride within a word": (
        "patterns",
        "no whole number of words",
        lambda: with_fifo("in0", sent=Pattern((512, 4), (2, 1))),
    ),
    "a loop too long": (
        "patterns",
        "has 10 bits",
        lambda: with_fifo("in0", sent=Pattern((2048, 4), (0, 1))),
    ),
    "half of an object": (
        "patterns",
        "visits 1024",
        lambda: with_fifo("in0", sent=Pattern((1024,), (1,))),
    ),
    "beyond an object": (
        "patterns",
        "outside",
        lambda: with_fifo("in0", sent=Pattern((2048,), (1,), 4)),
    ),
    "objects of odd size": (
        "patterns",
        "no multiple of 4",
        lambda: with_fifo("headers", block=Block(Element.I8, (7,))),
    ),
    "beyond an argument": (
        "transfers",
        "outside",
        lambda: with_steps(Start("rows", "x", whole(BOTH), repeat=5, step=BOTH.count)),
    ),
    "too many iterations": (
        "transfers",
        "65 iterations of 64",
        lambda: with_steps(Start("rows", "x", whole(BOTH), repeat=65)),
    ),
    "iterations too far apart": (
        "transfers",
        "elements apart, the field has 20 bits",
        lambda: with_steps(Start("rows", "x", whole(BOTH), repeat=2, step=1 << 23)),
    ),
    "a queue that overflows": (
        "queues",
        "5 of 4 transfers queued",
        lambda: with_steps(*[Start("rows", "x", whole(BOTH))] * 5),
    ),
    "a queue of which too few are awaited": (
        "queues",
        "5 of 4 transfers queued",
        lambda: with_steps(*[Start("rows", "x", whole(BOTH))] * 4, Await("rows", 3), *[Start("rows", "x", whole(BOTH))] * 2),
    ),
    "part of an object": (
        "transfers",
        "no whole number of objects",
        lambda: with_steps(Start("rows", "x", Pattern((1024,), (1,)))),
    ),
    "another element": (
        "transfers",
        "holds i32",
        lambda: with_steps(Start("rows", "headers", whole(HEADER))),
    ),
    "a fifo within the array": (
        "transfers",
        "neither end",
        lambda: with_steps(Start("in0", "x", whole(HALF))),
    ),
    "a stack too small": ("stacks", "128 are needed", lambda: with_worker(stack=64)),
    "an object kept": ("programs", "ends holding 1 of in0", lambda: with_body(Acquire("in0"))),
    "an object not held": ("programs", "holds 0", lambda: with_body(Release("in0"))),
    "a loop that takes and keeps": (
        "programs",
        "a round of a loop",
        lambda: with_body(Repeat(None, (Acquire("in0"),))),
    ),
    "more than there can be": (
        "programs",
        "2 deep",
        lambda: with_body(Acquire("in0", 3), Release("in0", 3)),
    ),
    "somebody else's fifo": (
        "programs",
        "does not lead here",
        lambda: with_body(Acquire("in1"), Release("in1")),
    ),
    "another type": (
        "programs",
        "32x64xi32 is wanted",
        lambda: with_body(
            Acquire("in0"), Call("add", (Held("in0"), Held("in0"), 1)), Release("in0")
        ),
    ),
    "an argument too few": (
        "programs",
        "takes 3",
        lambda: with_body(Acquire("in0"), Call("add", (Held("in0"), Local("sum"))), Release("in0")),
    ),
    "a header nobody holds": ("programs", "without holding", lambda: with_body(Repeat(Word("headers", 0), ()))),
    "a word behind a buffer": ("programs", "beyond its end", lambda: with_body(Repeat(Word("sum", 2048), ()))),
}  # fmt: skip


def test_a_design_that_fits() -> None:
    """Nothing is found."""
    assert check(good()) == ()


def test_transfers_that_roll() -> None:
    """A place in the queue and a descriptor are free for each that is done."""
    start = Start("rows", "x", whole(BOTH))
    assert check(with_steps(*[start] * 4, *[Await("rows", 3), start] * 16)) == ()


@pytest.mark.parametrize("case", BROKEN)
def test_a_design_that_breaks_a_rule(case: str) -> None:
    """The rule is named, with how much is too much."""
    rule, what, broken = BROKEN[case]
    found = check(broken())
    assert any(each.rule == rule and what in each.what for each in found), [str(each) for each in found]
