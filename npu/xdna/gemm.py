"""The product of two 8-bit matrices on the whole array: 256 x 256 of it at a time, one dispatch for all of it.

Core (column, row) computes 64 x 64. Rows of A come in through the shim of the column of their number and go to all
cores of one row; columns of B go to all cores of one column; what the cores of a column have is joined and leaves
through its shim. Memory tiles bring tiles into the order of the matrix unit and back, so that no core does.

Both DMA channels into a core are taken by A and B, so the header of an operation comes the way of A: a tile whose first
word says how many steps of 64 the depth has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.xdna.design import (
    Acquire,
    Await,
    Block,
    Call,
    Design,
    Element,
    Fifo,
    Function,
    Held,
    Link,
    Pattern,
    Release,
    Repeat,
    Sequence,
    Start,
    Step,
    Tile,
    Word,
    Worker,
    whole,
)
from npu.xdna.target import NPU1

TILE = 64  # rows, columns and depth of what a core does at a time
SIDE = 4  # rows and columns of cores
SPAN = SIDE * TILE  # rows and columns of what the array does at a time
STACK = 0xD00  # bytes reserved on each core, as in mlir-aie's whole_array: what compilers spill is not known before
_R, _S, _T = 4, 8, 8  # rows, depth and columns of the matrix unit

IN = Block(Element.I8, (TILE, TILE))  # what comes to a core at a time
_OUT = Block(Element.I32, (TILE, TILE))

A_ORDER = Pattern((TILE // _R, TILE // _S, _R, _S), (_R * TILE, _S, TILE, 1))  # [m/4][k/8][4][8]
B_ORDER = Pattern((TILE // _S, TILE // _T, _S, _T), (_S * TILE, _T, TILE, 1))  # [k/8][n/8][8][8]
C_ORDER = Pattern(
    (SPAN // _R, _R, TILE // _T, _T), (_R * TILE, _T, _R * _T, 1)
)  # from [m/4][n/8][4][8] to rows

_LIVE = NPU1.queued // 2  # spans under way: each has two transfers of A


@dataclass(frozen=True)
class Shape:
    """A product [m, k] x [k, n]."""

    m: int  # a multiple of 256
    k: int  # a multiple of 64
    n: int  # a multiple of 256

    def __post_init__(self) -> None:
        if self.m % SPAN or self.n % SPAN or self.k % TILE or min(self.m, self.k, self.n) < 1:
            raise ValueError(f"{self.m} x {self.k} x {self.n} is not made of whole tiles: pad it with zeros")

    @property
    def name(self) -> str:
        """Of its sequence."""
        return f"gemm_{self.m}x{self.k}x{self.n}"


def header(shape: Shape) -> NDArray[np.uint8]:
    """[4096] bytes: the argument `header` of its sequence."""
    words = np.zeros(IN.bytes // 4, np.int32)
    words[0] = shape.k // TILE
    return words.view(np.uint8)


def gemm(stacks: Mapping[str, int], shapes: tuple[Shape, ...]) -> Design:
    """The overlay, and a sequence for each shape with the arguments header, a, b and c, all of them row by row.

    stacks: what the kernels need, bytes by name.
    """
    functions = (
        Function("zero_i32", "gemm_i8.cc", (_OUT,), stacks["zero_i32"]),
        Function("gemm_i8", "gemm_i8.cc", (IN, IN, _OUT), stacks["gemm_i8"]),
    )
    workers = tuple(_worker(column, row) for column in range(SIDE) for row in range(SIDE))
    return Design(
        "gemm_i8",
        ways(Ways(IN, A_ORDER, IN, B_ORDER, Element.I32, C_ORDER)),
        links(),
        workers,
        functions,
        tuple(map(_sequence, shapes)),
    )


def core(column: int, row: int) -> Tile:
    """Of 4 x 4."""
    return Tile(column, row + 2)


@dataclass(frozen=True)
class Ways:
    """What comes to a core at a time and what leaves it, and how memory tiles order it."""

    a: Block
    a_order: Pattern
    b: Block
    b_order: Pattern
    result: Element  # of [64, 64]
    c_order: Pattern  # of the results of a column
    a_depth: int = 3  # a core holds the header and a tile, and the next comes in
    c_depth: int = 2


def ways(of: Ways) -> tuple[Fifo, ...]:
    """Rows in by A0.. and a0.., columns by B0.. and b0.., results out by c0_0.. and C0.."""
    part, joined = Block(of.result, (TILE, TILE)), Block(of.result, (SPAN, TILE))
    fifos = []
    for i in range(SIDE):
        shim, memory = Tile(i, 0), Tile(i, 1)
        row = tuple(core(column, i) for column in range(SIDE))
        column = tuple(core(i, row) for row in range(SIDE))
        fifos += [
            Fifo(f"A{i}", shim, (memory,), of.a),
            Fifo(f"a{i}", memory, row, of.a, of.a_depth, of.a_order),
            Fifo(f"B{i}", shim, (memory,), of.b),
            Fifo(f"b{i}", memory, column, of.b, sent=of.b_order),
            Fifo(f"C{i}", memory, (shim,), joined, sent=of.c_order),
            *(Fifo(f"c{i}_{at}", tile, (memory,), part, of.c_depth) for at, tile in enumerate(column)),
        ]
    return tuple(fifos)


def links() -> tuple[Link, ...]:
    """What memory tiles pass on, and what they join."""
    found: list[Link] = []
    for i in range(SIDE):
        parts = tuple(f"c{i}_{row}" for row in range(SIDE))
        offsets = tuple(row * _OUT.count for row in range(SIDE))
        found += [
            Link((f"A{i}",), (f"a{i}",)),
            Link((f"B{i}",), (f"b{i}",)),
            Link(parts, (f"C{i}",), offsets),
        ]
    return tuple(found)


def _worker(column: int, row: int) -> Worker:
    a, b, c = f"a{row}", f"b{column}", f"c{column}_{row}"
    step: tuple[Step, ...] = (
        Acquire(a),
        Acquire(b),
        Call("gemm_i8", (Held(a, 1), Held(b), Held(c))),
        Release(b),
        Release(a),  # the oldest: the header, then the tile before
    )
    body = (
        Acquire(a),
        Acquire(c),
        Call("zero_i32", (Held(c),)),
        Repeat(Word(a, 0), step),
        Release(a),
        Release(c),
    )
    return Worker(core(column, row), (Repeat(None, body),), stack=STACK)


def _sequence(shape: Shape) -> Sequence:
    arguments = {
        "header": IN,
        "a": Block(Element.I8, (shape.m, shape.k)),
        "b": Block(Element.I8, (shape.k, shape.n)),
        "c": Block(Element.I32, (shape.m, shape.n)),
    }
    steps: list[Start | Await] = []
    spans = [(m, n) for m in range(0, shape.m, SPAN) for n in range(0, shape.n, SPAN)]
    for at, (m, n) in enumerate(spans):
        for i in range(SIDE):
            steps += _span(shape, m + i * TILE, n + i * TILE, m, i)
        if (at + 1) % _LIVE == 0 or at + 1 == len(spans):
            steps += [Await(f"{kind}{i}") for kind in "CAB" for i in range(SIDE)]
    return Sequence(shape.name, arguments, tuple(steps))


def _span(shape: Shape, row: int, column: int, first_row: int, i: int) -> list[Start]:
    """What shim i moves for 256 x 256 of the product: rows of A from `row`, columns of B and C from `column`."""
    depth = shape.k // TILE
    a = Pattern((depth, TILE, TILE), (TILE, shape.k, 1), row * shape.k)
    b = Pattern((depth, TILE, TILE), (TILE * shape.n, shape.n, 1), column)
    c = Pattern((SPAN, TILE), (shape.n, 1), first_row * shape.n + column)
    return [
        Start(f"A{i}", "header", whole(IN)),
        Start(f"A{i}", "a", a),
        Start(f"B{i}", "b", b),
        Start(f"C{i}", "c", c),
    ]
