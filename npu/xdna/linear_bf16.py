"""A linear layer in bf16 on the whole array: sums in float, the epilogue in the same pass, bf16 out.

As `linear`, with tiles of half the depth, so that they have as many bytes, and no scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
    whole,
)
from npu.xdna.gemm import SIDE, SPAN, STACK, TILE, Ways, core, links, ways
from npu.xdna.linear import Layer
from npu.xdna.target import NPU1

DEPTH = TILE // 2
_R, _S, _T = 4, 8, 4  # rows, depth and columns of the matrix unit
_A, _B = Block(Element.BF16, (TILE, DEPTH)), Block(Element.BF16, (DEPTH, TILE))
_SUMS, _OUT = Block(Element.F32, (TILE, TILE)), Block(Element.BF16, (TILE, TILE))
_TABLE = Block(Element.F32, (257,))
_WAYS = Ways(
    _A,
    Pattern((TILE // _R, DEPTH // _S, _R, _S), (_R * DEPTH, _S, DEPTH, 1)),  # [m/4][k/8][4][8]
    _B,
    Pattern((DEPTH // _S, TILE // _T, _S, _T), (_S * TILE, _T, TILE, 1)),  # [k/8][n/4][8][4]
    Element.BF16,
    Pattern((SPAN // _R, _R, TILE // _T, _T), (_R * TILE, _T, _R * _T, 1)),  # from [m/4][n/4][4][4] to rows
)
_ACTIVATION, _GIVEN = TILE, TILE + 1  # words of the columns

Bits = NDArray[np.uint16]


def header(layer: Layer) -> Bits:
    """The argument `header`: one tile that says how deep the product is."""
    words = np.zeros(_A.bytes // 4, np.int32)
    words[0] = layer.shape.k // DEPTH
    return words.view(np.uint16)


def columns(layer: Layer, bias: NDArray[Any], activation: bool) -> Bits:
    """The argument `columns`; bias [n]."""
    tiles = np.zeros((layer.shape.n // TILE, _B.bytes // 4), np.float32)
    tiles[:, :TILE] = np.asarray(bias, np.float32).reshape(-1, TILE)
    tiles.view(np.int32)[:, [_ACTIVATION, _GIVEN]] = activation, layer.residual
    laid = np.zeros((len(tiles), _B.count), np.uint16)
    laid[:, _WAYS.b_order.indices()] = tiles.view(np.uint16)
    return laid.ravel()


def linear_bf16(stacks: Mapping[str, int], layers: tuple[Layer, ...], table: NDArray[np.float32]) -> Design:
    """The overlay, and a sequence for each layer with the arguments header, columns, a, b, residual and c.

    stacks: what the kernels need, bytes by name; table [257]: of the activation.
    """
    source = "gemm_bf16.cc"
    functions = (
        Function("zero_f32", source, (_SUMS,), stacks["zero_f32"]),
        Function("gemm_bf16", source, (_A, _B, _SUMS), stacks["gemm_bf16"]),
        Function("start_f32", source, (_SUMS, _B, _TABLE), stacks["start_f32"]),
        Function("add_half_f32", source, (_B, _SUMS, None), stacks["add_half_f32"]),
        Function("narrow_bf16", source, (_SUMS, _OUT), stacks["narrow_bf16"]),
    )
    workers = tuple(_worker(column, row, table) for column in range(SIDE) for row in range(SIDE))
    return Design("linear_bf16", ways(_WAYS), links(), workers, functions, tuple(map(_sequence, layers)))


def _worker(column: int, row: int, table: NDArray[np.float32]) -> Worker:
    a, b, c = f"a{row}", f"b{column}", f"c{column}_{row}"
    step: tuple[Step, ...] = (
        Acquire(a),
        Acquire(b),
        Call("gemm_bf16", (Held(a, 1), Held(b), Local("sums"))),
        Release(b),
        Release(a),  # the oldest: the header, then the tile before
    )
    halves: list[Step] = []  # of all rows of cores: what comes down a column comes to each
    for at in range(SIDE):
        for which in range(2):
            own = (Call("add_half_f32", (Held(b, 1), Local("sums"), which)),) if at == row else ()
            halves += [Acquire(b), *own, Release(b)]
    body = (
        Acquire(a),
        Call("zero_f32", (Local("sums"),)),
        Repeat(Word(a, 0), step),
        Release(a),
        Acquire(b),
        Call("start_f32", (Local("sums"), Held(b), Local("table"))),
        Choose(Word(b, _GIVEN), {1: tuple(halves)}),
        Release(b),
        Acquire(c),
        Call("narrow_bf16", (Local("sums"), Held(c))),
        Release(c),
    )
    tables = {"table": (_TABLE, np.asarray(table, np.float32).tobytes())}
    return Worker(core(column, row), (Repeat(None, body),), {"sums": _SUMS}, tables, STACK)


def _sequence(layer: Layer) -> Sequence:
    shape = layer.shape
    arguments = {
        "header": _A,
        "columns": Block(Element.BF16, (shape.n // TILE, _B.count)),
        "a": Block(Element.BF16, (shape.m, shape.k)),
        "b": Block(Element.BF16, (shape.k, shape.n)),
        "residual": Block(Element.BF16, (shape.m, shape.n)),
        "c": Block(Element.BF16, (shape.m, shape.n)),
    }
    steps: list[Start | Await] = []
    spans = [(m, n) for m in range(0, shape.m, SPAN) for n in range(0, shape.n, SPAN)]
    live = NPU1.limits[NPU1.kind(0)].descriptors // len(_span(layer, 0, 0, 0))  # spans under way
    for at, (m, n) in enumerate(spans):
        for i in range(SIDE):
            steps += _span(layer, m, n, i)
        if (at + 1) % live == 0 or at + 1 == len(spans):
            steps += [Await(f"{kind}{i}") for kind in "CAB" for i in range(SIDE)]
    return Sequence(layer.name, arguments, tuple(steps))


def _span(layer: Layer, m: int, n: int, i: int) -> list[Start]:
    """What shim i moves for 256 x 256 of the output."""
    shape, row, column = layer.shape, m + i * TILE, n + i * TILE
    depth = shape.k // DEPTH
    out = Pattern((SPAN, TILE), (shape.n, 1), m * shape.n + column)
    steps = [
        Start(f"A{i}", "header", whole(_A)),
        Start(f"A{i}", "a", Pattern((depth, TILE, DEPTH), (DEPTH, shape.k, 1), row * shape.k)),
        Start(f"B{i}", "b", Pattern((depth, DEPTH, TILE), (DEPTH * shape.n, shape.n, 1), column)),
        Start(f"B{i}", "columns", replace(whole(_B), offset=column // TILE * _B.count)),
        Start(f"C{i}", "c", out),
    ]
    return [*steps, Start(f"B{i}", "residual", out)] if layer.residual else steps
