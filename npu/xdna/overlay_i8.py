"""The overlay in 8 bits: products, norms, heads and attention that a header chooses among, for layers of transformers.

Every object is 4,096 bytes. A tile of 64 rows has 64 columns in 8 bits or 32 in 16 bits, and comes and goes in blocks of
four rows and 8 bytes, so that what leaves a core as a result comes back as A in the same order. Rows in 8 bits have
scales of their own, made on the array where the rows are narrowed: a tile that travels before them, 64 scales at its
beginning. The residual stream has 16 bits. `composer_i8` writes headers and moves tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from npu.xdna.core import Core, call
from npu.xdna.design import (
    Block,
    Choose,
    Design,
    Element,
    Function,
    Held,
    Repeat,
    Sequence,
    Step,
    Word,
    Worker,
)
from npu.xdna.gemm import A_ORDER, B_ORDER, C_ORDER, IN, SIDE, STACK, TILE, Ways, core, links, ways

OBJECT = IN.bytes  # bytes of whatever comes to a core or leaves it
ROUND = 2 * SIDE  # tiles in 16 bits of 256 columns
HALF = TILE // 2  # columns of a tile in 16 bits

_SUMS = Block(Element.I32, (TILE, TILE))
_KEPT = Block(Element.I32, (128,))
_STATISTICS = Block(Element.I32, (8, TILE))
_TILES = Block(Element.I8, (3, OBJECT))  # two of turns; or queries, and room for scores and weights
_LOCALS = {
    "sums": _SUMS, "kept": _KEPT, "statistics": _STATISTICS, "tiles": _TILES, "keys": IN,
}  # fmt: skip

Bytes = NDArray[np.uint8]
Counts = NDArray[np.int64]  # no word of these headers is 64 of them


class Operation(IntEnum):
    """Word 0 of a header: what to do. The words after it are named in `Words`."""

    PRODUCT = 1  # rows of cores have rows of A, columns of cores columns of B
    NORM = 2
    QUANTISE = 3
    HEADS = 4  # queries, keys and values on their way to attention
    ATTENTION = 5


class Words(IntEnum):
    """The words of headers. Some mean different things to different operations."""

    OPERATION = 0
    STEPS = 1  # of depth; of 256 columns; of four heads; of 64 keys
    OTHER, FACTOR, KEYS, TURNED = (
        2,
        2,
        2,
        2,
    )  # 1 where a residual is added; columns of a norm; how many; 1 or 0
    DOWN, EPSILON, CAUSAL = 3, 3, 3  # what a residual is shifted by; in squared units of x; 1 or 0
    ACTIVATED, TILES, SHIFT = 4, 4, 4  # 1 or 0; of rows of a norm; of scores
    FIRST = 6  # number of the first query
    QUERIES = 7


def header(words: Mapping[int, int | float | Counts]) -> Bytes:
    """[4096]: a tile that reaches the cores with these words at its beginning."""
    laid, values = np.zeros(OBJECT, np.uint8), np.zeros(OBJECT // 4, np.int32)
    for at, value in words.items():
        values[at] = value
    laid[A_ORDER.indices()] = values.view(np.uint8)
    return laid


def columns(values: NDArray[np.int32]) -> Bytes:
    """[n, up to 1024] -> [n, 4096]: tiles of B that reach the cores with these words at their beginning."""
    laid, words = np.zeros((len(values), OBJECT), np.uint8), np.zeros((len(values), OBJECT // 4), np.int32)
    words[:, : values.shape[1]] = values
    laid[:, B_ORDER.indices()] = words.view(np.uint8)
    return laid


def overlay(stacks: Mapping[str, int], sequences: tuple[Sequence, ...]) -> Design:
    """The design. stacks: what the kernels need, bytes by name."""
    kinds: dict[str, tuple[str, tuple[Block | None, ...]]] = {
        "keep_header": ("keep.cc", (IN, _KEPT)),
        "keep_tile_i8": ("keep.cc", (IN, _TILES, None)),
        "keep_row_scales": ("scales.cc", (IN, _STATISTICS)),
        "keep_key_scales": ("scales.cc", (IN, _STATISTICS)),
        "scales_out": ("scales.cc", (_STATISTICS, IN)),
        "zero_i32": ("gemm_i8.cc", (_SUMS,)),
        "gemm_i8": ("gemm_i8.cc", (IN, IN, _SUMS)),
        "settle_i32": ("epilogue.cc", (_SUMS, IN, _STATISTICS)),
        "activate_i16": ("epilogue.cc", (_SUMS, IN)),
        "narrow_i16": ("epilogue.cc", (_SUMS, IN, None)),
        "add_half_i16": ("epilogue.cc", (IN, IN, None)),
        "begin_rows": ("norm.cc", (_SUMS, _STATISTICS)),
        "add_up_i16": ("norm.cc", (IN, _SUMS)),
        "describe_rows": ("norm.cc", (_SUMS, _KEPT, _STATISTICS)),
        "largest_i16": ("norm.cc", (IN, IN, _KEPT, _STATISTICS, _SUMS, None)),
        "largest_normal_i16": ("norm.cc", (IN, IN, _KEPT, _STATISTICS, _SUMS, None)),
        "scale_rows": ("norm.cc", (_SUMS, _STATISTICS, None)),
        "quantise_i8": ("norm.cc", (IN, IN, _KEPT, _STATISTICS, IN, None, None)),
        "quantise_normal_i8": ("norm.cc", (IN, IN, _KEPT, _STATISTICS, IN, None, None)),
        "keep_head_i16": ("heads.cc", (IN, _TILES, _SUMS, None, None)),
        "scale_head": ("heads.cc", (_SUMS, IN, _STATISTICS, None)),
        "narrow_head_i8": ("heads.cc", (_SUMS, _STATISTICS, IN)),
        "attention_start_i8": ("attention.cc", (_STATISTICS, _SUMS)),
        "turn_keys_i8": ("attention.cc", (IN, IN)),
        "attention_step_i8": ("attention.cc", (_TILES, IN, IN, _KEPT, _STATISTICS, _SUMS)),
        "attention_finish_i8": ("attention.cc", (_SUMS, _STATISTICS, IN, None)),
    }
    functions = tuple(
        Function(name, source, blocks, stacks[name]) for name, (source, blocks) in kinds.items()
    )
    fifos = ways(Ways(IN, A_ORDER, IN, B_ORDER, Element.I8, C_ORDER, a_depth=2))
    workers = tuple(_Core(column, row).worker() for column in range(SIDE) for row in range(SIDE))
    return Design("overlay_i8", fifos, links(), workers, functions, sequences)


class _Core(Core):
    """The program of one core."""

    def worker(self) -> Worker:
        bodies = {
            Operation.PRODUCT: self._product(),
            Operation.NORM: (
                call("begin_rows", "sums", "statistics"),
                Repeat(_word(Words.TILES), self._passing(self._a, call("add_up_i16", Held(self._a), "sums"))),
                call("describe_rows", "sums", "kept", "statistics"),
                *self._quantised(normal=True),
            ),
            Operation.QUANTISE: (
                call("begin_rows", "sums", "statistics"),
                *self._quantised(normal=False),
            ),
            Operation.HEADS: self._heads(),
            Operation.ATTENTION: self._attention(),
        }
        body = (
            *self._passing(self._a, call("keep_header", Held(self._a), "kept")),
            Choose(_word(Words.OPERATION), {int(operation): steps for operation, steps in bodies.items()}),
        )
        tile = core(self._column, self._row)
        return Worker(tile, (Repeat(None, body),), dict(_LOCALS), stack=STACK)

    def _product(self) -> tuple[Step, ...]:
        multiply = call("gemm_i8", Held(self._a), Held(self._b), "sums")
        halves: list[Step] = []
        for half in range(2):
            join = call("add_half_i16", Held(self._b), Held(self._c), _word(Words.DOWN))
            halves += self._passing(
                self._c,
                call("narrow_i16", "sums", Held(self._c), half),
                Choose(_word(Words.OTHER), {1: self._each_row(self._b, join)}),
            )
        return (
            call("zero_i32", "sums"),
            *self._passing(self._a, call("keep_row_scales", Held(self._a), "statistics")),
            Repeat(_word(Words.STEPS), self._passing(self._a, *self._passing(self._b, multiply))),
            *self._passing(
                self._b,
                call("settle_i32", "sums", Held(self._b), "statistics"),
                Choose(_word(Words.ACTIVATED), {1: (call("activate_i16", "sums", Held(self._b)),)}),
            ),
            *halves,
        )

    def _quantised(self, normal: bool) -> tuple[Step, ...]:
        """Rows pass to find their largest values, and once more to be narrowed. One column of cores sends the scales."""

        def largest(at: int) -> Step:
            name = "largest_normal_i16" if normal else "largest_i16"
            return call(name, Held(self._a), Held(self._b), "kept", "statistics", "sums", at)

        def own(at: int) -> tuple[Step, ...]:
            if at // 2 != self._column:
                return ()
            operands = (Held(self._a), Held(self._b), "kept", "statistics", Held(self._c), at % 2, at)
            return (call("quantise_normal_i8" if normal else "quantise_i8", *operands),)

        def narrowed(at: int) -> tuple[Step, ...]:
            """Two tiles make one."""
            pair = (*self._passing(self._a, *own(at)), *self._passing(self._a, *own(at + 1)))
            return self._passing(self._c, *pair) if at // 2 == self._column else pair

        return (
            self._rounds(lambda at: self._passing(self._a, largest(at)), range(ROUND)),
            call("scale_rows", "sums", "statistics", int(normal)),
            *(self._scales_out() if self._column == 0 else ()),
            self._rounds(narrowed, range(0, ROUND, 2)),
        )

    def _rounds(self, tiles: Callable[[int], tuple[Step, ...]], at: range) -> Step:
        """Of 256 columns, again and again, with their gains."""
        inner = tuple(step for each in at for step in tiles(each))
        return Repeat(_word(Words.STEPS), self._passing(self._b, *inner))

    def _heads(self) -> tuple[Step, ...]:
        """Queries of four heads, one for each column of cores, then keys, then values."""
        steps: list[Step] = []
        for part in range(3):
            turn: Word | int = _word(Words.TURNED) if part < 2 else 0
            for column in range(SIDE):
                for half in range(2):
                    keep = call("keep_head_i16", Held(self._a), "tiles", "sums", half, turn)
                    steps += self._passing(self._a, *((keep,) if column == self._column else ()))
            steps += [
                call("scale_head", "sums", Held(self._b), "statistics", part),
                *(self._scales_out() if part == 2 else ()),
                *self._passing(self._c, call("narrow_head_i8", "sums", "statistics", Held(self._c))),
            ]
        turns = (step for which in range(2) for step in self._passing(self._a, self._keep(which)))
        return (*turns, Repeat(_word(Words.STEPS), self._passing(self._b, *steps)))

    def _attention(self) -> tuple[Step, ...]:
        queries: list[Step] = []
        for column in range(SIDE):  # each has a head of its own
            own = column == self._column
            scales = call("keep_row_scales", Held(self._a), "statistics")
            for kept in (self._keep(0), scales):
                queries += self._passing(self._a, *((kept,) if own else ()))
        step = (
            *self._passing(self._b, call("turn_keys_i8", Held(self._b), "keys")),
            *self._passing(self._b, call("keep_key_scales", Held(self._b), "statistics")),
            *self._passing(
                self._b,
                call(
                    "attention_step_i8",
                    "tiles", "keys", Held(self._b), "kept", "statistics", "sums",
                ),
            ),
        )  # fmt: skip
        finished: list[Step] = []
        for half in range(2):
            finish = call("attention_finish_i8", "sums", "statistics", Held(self._c), half)
            finished += self._passing(self._c, finish)
        return (
            *queries,
            call("attention_start_i8", "statistics", "sums"),
            Repeat(_word(Words.STEPS), step),
            *finished,
        )

    def _keep(self, which: int) -> Step:
        return call("keep_tile_i8", Held(self._a), "tiles", which)

    def _scales_out(self) -> tuple[Step, ...]:
        return self._passing(self._c, call("scales_out", "statistics", Held(self._c)))


def _word(at: Words) -> Word:
    return Word("kept", int(at))
