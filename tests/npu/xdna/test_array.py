"""The array executes designs on real bytes: what arrives is what the descriptors say, whatever the order of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna.array import Array, Deadlock
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
    Start,
    Tile,
    Word,
    Worker,
    whole,
)
from npu.xdna.design import Sequence as HostSequence
from npu.xdna.rings import POISON
from streaming.errors import ModelError

Bytes = NDArray[np.uint8]

ROWS, WIDTH, TILE = 64, 64, 8
HALF, BOTH = Block(Element.I8, (ROWS // 2, WIDTH)), Block(Element.I8, (ROWS, WIDTH))
SUM, HEADER = Block(Element.I32, HALF.shape), Block(Element.I32, (8,))
IN_TILES = Pattern((ROWS // 2 // TILE, WIDTH // TILE, TILE, TILE), (TILE * WIDTH, TILE, WIDTH, 1))


class Adding:
    """The kernels of these designs, in NumPy."""

    def call(self, name: str, arguments: Sequence[Bytes | int]) -> None:
        match name, arguments:
            case "add", [np.ndarray() as x, np.ndarray() as total, int(factor)]:
                total.view(np.int32)[:] += x.view(np.int8).astype(np.int32) * factor
            case "store", [np.ndarray() as total, np.ndarray() as y]:
                y.view(np.int8)[:] = total.view(np.int32).astype(np.int8)
            case "leave", [np.ndarray() as y]:
                assert (y == POISON).all()


def adding(rounds_of_host: int = 4, sent: Pattern | None = IN_TILES) -> Design:
    """Blocks of rows split over two cores, which add them up tile by tile; their sums joined."""

    def worker(row: int, number: int) -> Worker:
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
            Choose(
                Word("headers", 2),
                {
                    1: (Call("store", (Local("sum"), Held(f"out{number}"))),),
                    2: (Call("leave", (Held(f"out{number}"),)),),
                },
            ),
            Release(f"out{number}"),
            Release("headers"),
        )
        return Worker(Tile(0, row), (Repeat(None, body),), {"sum": SUM}, stack=512)

    shim, memory, first, second = Tile(0, 0), Tile(0, 1), Tile(0, 2), Tile(0, 3)
    fifos = (
        Fifo("rows", shim, (memory,), BOTH),
        Fifo("in0", memory, (first,), HALF, sent=sent),
        Fifo("in1", memory, (second,), HALF, sent=sent),
        Fifo("headers", Tile(1, 0), (first, second), HEADER),
        Fifo("out0", first, (memory,), HALF),
        Fifo("out1", second, (memory,), HALF),
        Fifo("sums", memory, (shim,), BOTH),
    )
    links = (
        Link(("rows",), ("in0", "in1"), (0, HALF.count)),
        Link(("out0", "out1"), ("sums",), (0, HALF.count)),
    )
    functions = (
        Function("add", "", (HALF, SUM, None), 96),
        Function("store", "", (SUM, HALF), 64),
        Function("leave", "", (HALF,), 64),
    )
    arguments = {"headers": HEADER, "x": Block(Element.I8, (4 * ROWS, WIDTH)), "y": BOTH}
    steps = (
        Start("headers", "headers", whole(HEADER)),
        Start("rows", "x", whole(BOTH), repeat=rounds_of_host, step=BOTH.count),
        Start("sums", "y", whole(BOTH)),
        Await("sums"),
    )
    sequence = HostSequence("add", arguments, steps)
    return Design("adding", fifos, links, (worker(2, 0), worker(3, 1)), functions, (sequence,))


def run(
    design: Design, seed: int = 0, rounds: int = 4, what: int = 1
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """-> the input [4 * ROWS, WIDTH], and what came out [ROWS, WIDTH]."""
    x = np.random.default_rng(9).integers(-9, 9, (4 * ROWS, WIDTH), np.int8)
    header, y = np.array([rounds, 2, what, 0, 0, 0, 0, 0], np.int32), np.zeros((ROWS, WIDTH), np.int8)
    buffers = {"headers": header.view(np.uint8), "x": x.view(np.uint8), "y": y.view(np.uint8)}
    Array(design, Adding(), seed=seed).run("add", buffers)
    return x, y


def in_tiles(half: NDArray[np.int8]) -> NDArray[np.int8]:
    """[rows, width] in the order of its tiles."""
    parted = half.reshape(len(half) // TILE, TILE, -1, TILE)
    return parted.transpose(0, 2, 1, 3).reshape(half.shape)


@pytest.mark.parametrize(
    ("pattern", "piece"),
    [
        (IN_TILES, TILE),
        (Pattern((3, 12), (20, 1), 8), 4),
        (Pattern((3, 12), (-20, 1), 48), 4),
        (Pattern((3, 12), (21, 1)), 3),
        (Pattern((3, 12), (23, 1)), 1),
        (Pattern((4, 6), (1, 4)), 1),
        (whole(BOTH), BOTH.count),
    ],
)
def test_pieces(pattern: Pattern, piece: int) -> None:
    """Elements that move together are those that lie together: the order is that of the elements."""
    assert pattern.piece() == piece
    found = pattern.indices(piece)[:, None] * piece + np.arange(piece)
    assert np.array_equal(found.ravel(), pattern.indices())


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_work(seed: int) -> None:
    """Split, tiled, broadcast, added up as often as the header says, joined: the same for every seed."""
    x, y = run(adding(), seed)
    total = (2 * x.reshape(4, ROWS, WIDTH).astype(np.int32).sum(axis=0)).astype(np.int8)
    assert np.array_equal(y, np.concatenate([in_tiles(total[: ROWS // 2]), in_tiles(total[ROWS // 2 :])]))


def test_wrong_strides() -> None:
    """Give wrong output: the bytes really go where the descriptor sends them."""
    right = run(adding())[1]
    wrong = run(adding(sent=Pattern(IN_TILES.sizes, (TILE * WIDTH, WIDTH, TILE, 1))))[1]
    assert not np.array_equal(right, wrong)
    plain = run(adding(sent=None))[1]
    assert np.array_equal(np.sort(plain[: ROWS // 2], axis=None), np.sort(right[: ROWS // 2], axis=None))


def test_an_object_nobody_wrote() -> None:
    """Holds no remains of what was in it before."""
    _, y = run(adding(), what=2)
    assert (y.view(np.uint8) == POISON).all()


def test_a_sequence_that_never_ends() -> None:
    """The deadlock is found, with who waits for what."""
    with pytest.raises(
        Deadlock, match=r"host waits for the end of sums.*core \(0, 2\) waits for an object of in0"
    ):
        run(adding(), rounds=5)


def test_a_wait_for_the_first_transfers() -> None:
    """It is over when they are done, whatever was started after them."""
    design = adding()
    *steps, _ = design.sequences[0].steps
    steps += [Start("sums", "y", whole(BOTH)), Await("sums", 1)]  # only one result ever comes
    sequence = replace(design.sequences[0], steps=tuple(steps))
    _, y = run(replace(design, sequences=(sequence,)))
    assert np.array_equal(y, run(adding())[1])
    endless = replace(sequence, steps=(*steps, Await("sums")))
    with pytest.raises(Deadlock, match="host waits for the end of sums"):
        run(replace(design, sequences=(endless,)))


def test_too_shallow_a_fifo() -> None:
    """A core that wants two objects at once of a fifo which holds one is refused before it runs."""
    design = adding()
    fifos = tuple(replace(each, depth=1) if each.name == "in0" else each for each in design.fifos)
    greedy = replace(design.workers[0], body=(Repeat(None, (Acquire("in0", 2), Release("in0", 2))),))
    with pytest.raises(ModelError, match="holds 2 of in0, which is 1 deep"):
        Array(replace(design, fifos=fifos, workers=(greedy, design.workers[1])), Adding())


def test_several_dispatches() -> None:
    """The array goes on where it stood: buffers of the cores keep what they hold."""
    design = adding()
    x = np.ones((4 * ROWS, WIDTH), np.int8)
    header, y = np.array([4, 1, 1, 0, 0, 0, 0, 0], np.int32), np.zeros((ROWS, WIDTH), np.int8)
    array = Array(design, Adding())
    for times in (1, 2, 3):
        array.run("add", {"headers": header.view(np.uint8), "x": x.view(np.uint8), "y": y.view(np.uint8)})
        assert (y == 4 * times).all()
