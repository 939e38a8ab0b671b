"""A linear layer on the whole array: the product of `gemm`, and its epilogue in the same pass.

A header comes before the rows of a tile and says how they are scaled; what belongs to the columns comes after the last
of B, and the residual, where there is one, after that. Sums never leave the core: 16-bit values do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna.design import (
    Acquire,
    Await,
    Block,
    Call,
    Choose,
    Design,
    Element,
    Function,
    Held,
    Local,
    Pattern,
    Release,
    Repeat,
    Sequence,
    Start,
    Step,
    Word,
    Worker,
)
from npu.xdna.gemm import (
    A_ORDER,
    B_ORDER,
    C_ORDER,
    IN,
    SIDE,
    SPAN,
    STACK,
    TILE,
    Shape,
    Ways,
    core,
    links,
    ways,
)
from npu.xdna.scaling import Requantiser

_SUMS, _OUT = Block(Element.I32, (TILE, TILE)), Block(Element.I16, (TILE, TILE))
_WAYS = Ways(IN, A_ORDER, IN, B_ORDER, Element.I16, C_ORDER)
_KEPT, _TABLE = Block(Element.I32, (128,)), Block(Element.I16, (257,))
_TOKENS, _GIVEN = (
    8,
    2 * TILE,
)  # words: where a header's scales begin, and where columns say whether a residual follows

_T, _WORDS = 8, 8  # columns of the matrix unit, and the bytes that a memory tile moves together

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Layer:
    """A linear layer over so many rows."""

    shape: Shape
    residual: bool = False

    @property
    def name(self) -> str:
        """Of its sequence."""
        shape = self.shape
        return f"linear_{shape.m}x{shape.k}x{shape.n}{'_residual' if self.residual else ''}"


def headers(layer: Layer, token: NDArray[Any], scales: Requantiser, activation: bool) -> Bytes:
    """The argument `headers`; token [m]: the scales of rows."""
    words = np.zeros((layer.shape.m // TILE, IN.bytes // 4), np.int32)
    words[:, :4] = layer.shape.k // TILE, scales.channel_shift, scales.token_shift, activation
    words[:, _TOKENS : _TOKENS + TILE] = token.reshape(-1, TILE)
    return _before(A_ORDER, words)


def columns(layer: Layer, scales: Requantiser, bias: NDArray[Any]) -> Bytes:
    """The argument `columns`; bias [n]: in units of the output."""
    words = np.zeros((layer.shape.n // TILE, IN.bytes // 4), np.int32)
    words[:, :TILE], words[:, TILE:_GIVEN] = scales.channel.reshape(-1, TILE), bias.reshape(-1, TILE)
    words[:, _GIVEN] = layer.residual
    return _before(B_ORDER, words)


def _before(order: Pattern, words: NDArray[np.int32]) -> Bytes:
    """[tiles, 1024] words laid so that a memory tile which reads in this order sends them as they are here."""
    laid = np.zeros((len(words), IN.bytes), np.uint8)
    laid[:, order.indices()] = words.view(np.uint8)
    return laid.ravel()


def linear(stacks: Mapping[str, int], layers: tuple[Layer, ...], table: NDArray[np.int16]) -> Design:
    """The overlay, and a sequence for each layer with the arguments headers, columns, a, b, residual and c.

    stacks: what the kernels need, bytes by name; table [257]: of the activation.
    """
    functions = (
        Function("zero_i32", "gemm_i8.cc", (_SUMS,), stacks["zero_i32"]),
        Function("gemm_i8", "gemm_i8.cc", (IN, IN, _SUMS), stacks["gemm_i8"]),
        Function("keep_header", "keep.cc", (IN, _KEPT), stacks["keep_header"]),
        Function(
            "epilogue_packed",
            "epilogue.cc",
            (_SUMS, _KEPT, IN, _TABLE, _OUT),
            stacks["epilogue_packed"],
        ),
        Function("add_half", "epilogue.cc", (IN, _OUT, None), stacks["add_half"]),
    )
    workers = tuple(_worker(column, row, table) for column in range(SIDE) for row in range(SIDE))
    return Design("linear_i8", ways(_WAYS), links(), workers, functions, tuple(map(_sequence, layers)))


def _worker(column: int, row: int, table: NDArray[np.int16]) -> Worker:
    a, b, c = f"a{row}", f"b{column}", f"c{column}_{row}"
    step: tuple[Step, ...] = (
        Acquire(a),
        Acquire(b),
        Call("gemm_i8", (Held(a, 1), Held(b), Local("sums"))),
        Release(b),
        Release(a),
    )
    halves: list[Step] = []  # of all rows of cores: what comes down a column comes to each
    for at in range(SIDE):
        for which in range(2):
            own = (Call("add_half", (Held(b, 1), Held(c), which)),) if at == row else ()
            halves += [Acquire(b), *own, Release(b)]
    body = (
        Acquire(a),
        Call("keep_header", (Held(a), Local("header"))),
        Call("zero_i32", (Local("sums"),)),
        Repeat(Word(a, 0), step),
        Release(a),
        Acquire(b),
        Acquire(c),
        Call("epilogue_packed", (Local("sums"), Local("header"), Held(b), Local("table"), Held(c))),
        Choose(Word(b, _GIVEN), {1: tuple(halves)}),
        Release(b),
        Release(c),
    )
    return Worker(
        core(column, row),
        (Repeat(None, body),),
        {"sums": _SUMS, "header": _KEPT},
        {"table": (_TABLE, table.tobytes())},
        STACK,
    )


def _sequence(layer: Layer) -> Sequence:
    shape = layer.shape
    arguments = {
        "headers": Block(Element.I8, (shape.m // TILE, IN.bytes)),
        "columns": Block(Element.I8, (shape.n // TILE, IN.bytes)),
        "a": Block(Element.I8, (shape.m, shape.k)),
        "b": Block(Element.I8, (shape.k, shape.n)),
        "residual": Block(Element.I8, (shape.m, shape.n * 2)),  # 16-bit values, which come the way of B
        "c": Block(Element.I16, (shape.m, shape.n)),
    }
    steps: list[Start | Await] = []
    spans = [(m, n) for m in range(0, shape.m, SPAN) for n in range(0, shape.n, SPAN)]
    for m, n in spans:
        for i in range(SIDE):
            steps += _span(layer, m, n, i)
        if layer.residual:  # the queues are short: it waits until the weights have passed
            steps += [Await(f"B{i}") for i in range(SIDE)]
            steps += [
                _residual(shape, m + at * TILE, n + i * TILE, f"B{i}")
                for at in range(SIDE)
                for i in range(SIDE)
            ]
        steps += [Await(f"{kind}{i}") for kind in "CAB" for i in range(SIDE)]
    return Sequence(layer.name, arguments, tuple(steps))


def _span(layer: Layer, m: int, n: int, i: int) -> list[Start]:
    """What shim i moves for 256 x 256 of the output."""
    shape, row, column = layer.shape, m + i * TILE, n + i * TILE
    tile, depth = Pattern((IN.bytes,), (1,)), shape.k // TILE
    a = Pattern((depth, TILE, TILE), (TILE, shape.k, 1), row * shape.k)
    b = Pattern((depth, TILE, TILE), (TILE * shape.n, shape.n, 1), column)
    c = Pattern((SPAN, TILE), (shape.n, 1), m * shape.n + column)
    return [
        Start(f"A{i}", "headers", replace(tile, offset=row // TILE * IN.bytes)),
        Start(f"A{i}", "a", a),
        Start(f"B{i}", "b", b),
        Start(f"B{i}", "columns", replace(tile, offset=column // TILE * IN.bytes)),
        Start(f"C{i}", "c", c),
    ]


def _residual(shape: Shape, row: int, column: int, fifo: str) -> Start:
    """64 x 64 of 16-bit values, as two tiles of bytes which the order of B turns into [m/4][n/8][4][8] values: every
    other 8 bytes of a row, then those between.
    """
    line = Pattern((2, _T, _WORDS), (_WORDS, 2 * _WORDS, 1), 2 * (row * shape.n + column))
    return Start(fifo, "residual", line, repeat=TILE, step=2 * shape.n)
