"""One overlay for whole models in bf16: cores that do what a header says, so that nothing is loaded between layers.

What a core gets comes on two ways: tiles of A [64, 32], the same for all cores of a row, and tiles of B [32, 64], the
same for all cores of a column. Memory tiles bring both into the order of the matrix unit, and results [64, 64] back into
rows. A header is a tile of A whose first words say what to do and how often; `composer` writes headers and moves tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from types import MappingProxyType

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
    Pattern,
    Repeat,
    Sequence,
    Step,
    Word,
    Worker,
)
from npu.xdna.gemm import SIDE, SPAN, STACK, TILE, Ways, core, links, ways

NAME = "overlay_bf16"
DEPTH = 32  # columns of a tile of A, rows of one of B
OBJECT = TILE * DEPTH  # values of either
_R, _S, _T = 4, 8, 4  # rows, depth and columns of the matrix unit

A, B, C = (Block(Element.BF16, shape) for shape in ((TILE, DEPTH), (DEPTH, TILE), (TILE, TILE)))
A_ORDER = Pattern((TILE // _R, DEPTH // _S, _R, _S), (_R * DEPTH, _S, DEPTH, 1))  # [m/4][k/8][4][8]
B_ORDER = Pattern((DEPTH // _S, TILE // _T, _S, _T), (_S * TILE, _T, TILE, 1))  # [k/8][n/4][8][4]
C_ORDER = Pattern(
    (SPAN // _R, _R, TILE // _T, _T), (_R * TILE, _T, _R * _T, 1)
)  # from [m/4][n/4][4][4] to rows

_SUMS = Block(Element.F32, (TILE, TILE))
_KEPT = Block(Element.I32, (128,))
_STATISTICS = Block(Element.I32, (9 * TILE,))  # more than norms and attention keep
_TOTAL = Block(Element.F32, (2,))
_PAIR = Block(Element.BF16, (2, OBJECT))
_KEYS = Block(Element.BF16, (OBJECT,))
_LOCALS = {
    "sums": _SUMS, "kept": _KEPT, "statistics": _STATISTICS, "total": _TOTAL, "pair": _PAIR, "keys": _KEYS,
}  # fmt: skip

Bits = NDArray[np.uint16]


class Operation(IntEnum):
    """Word 0 of a header: what to do. The words after it are named in `Words`."""

    PRODUCT = 1  # rows of cores have rows of A, columns of cores columns of B
    SPREAD = 2  # all cores have the same 64 rows of A, and each its own columns of B
    NORM = 3
    GROUP_SUMS = 4  # of a norm of all rows together: what this core sees of them
    GROUP_OUT = 5  # and gives away
    GROUP_NORM = 6
    ATTENTION = 7
    TURN = 8  # rows by their position
    PASS = (
        9  # nothing: what comes for the others of a column passes, and something is given away where they do
    )
    LIFT = 10  # rows to no less than so far below the loudest of all cores, and to nothing behind those that count
    FEW = 11  # a product of at most 16 rows with weights in 8 bits: `few` lays out both
    CROSSING = 12  # a product's keys and values in 8 bits: columns of cores have a head each
    WINDOWS = 13  # attention of a query to each of several windows, every fourth for a row of cores


class Words(IntEnum):
    """The words of headers. Some mean different things to different operations."""

    OPERATION = 0
    STEPS = 1  # of depth; of 32 keys; of 256 columns; tiles of B that pass in a round
    OTHER = 2  # 1 where something is added to a product or multiplied with it
    GIVEN = 2  # results that are given away in a round
    MULTIPLIED, SHARE, ROUNDS = 3, 3, 3  # 1 or 0; one over the values that a mean is of, in float; rounds
    OWN_STEPS = 3  # of 32 keys that belong to the queries
    SCALE, ROWS, TILES = 4, 4, 4  # of attention, in float; rows that count in a group; tiles of a norm's rows
    WIDE = 4  # 1 where what narrowing takes away of a product is given away too
    FUNCTION = 5  # an `Activation` or a `Spectral` that follows a product, or 0
    GROUPS, BEGINS = 5, 5  # of keys, which have 32 in turn; 1 where a group of rows begins
    TURNS = 5  # windows of a row of cores
    QUERIES = 6
    HEARD = 6  # rows of logarithms whose loudest is sought
    BEFORE = 6  # tiles of weights of the rows of cores before, for 64 of depth
    SHARED = 7  # queries of a group
    ANEW = 7  # 1 where that search begins
    OWN = 7  # tiles of weights of one's own
    ALONE = 8  # 1 where a query sees its own key alone
    AFTER = 8  # tiles of weights of the rows of cores behind
    NORMAL = 9  # 1 where few rows are normalised, 0 where they are multiplied by a factor
    BITS = 10  # of fraction, or of the largest magnitude
    OF_MEAN = 11  # one over the values that a mean is of, in float
    KEYS = 64  # and on: of each query


class Activation(IntEnum):
    """What may follow a product."""

    GELU = 1
    SILU = 2
    TANH = 3


class Spectral(IntEnum):
    """What may follow a product on the way from samples to features."""

    SQUARE = 4
    LOGARITHM = 5  # as Whisper scales it, no lower than that of 1e-10


FOLLOWING: Mapping[Activation | Spectral, str] = MappingProxyType(
    {
        Activation.GELU: "gelu_f32",
        Activation.SILU: "activate_f32",
        Activation.TANH: "activate_f32",
        Spectral.SQUARE: "square_f32",
        Spectral.LOGARITHM: "logarithm_f32",
    }
)  # the kernels that do it


def header(words: Mapping[int, int | float | NDArray[np.int64]]) -> Bits:
    """[2048]: a tile that reaches the cores with these words at its beginning; an array is 64 words."""
    laid, values = np.zeros(OBJECT, np.uint16), np.zeros(OBJECT // 2, np.int32)
    for at, value in words.items():
        if isinstance(value, np.ndarray):
            values[at : at + TILE] = value
        else:
            values[at] = np.float32(value).view(np.int32) if isinstance(value, float) else value
    laid[A_ORDER.indices()] = values.view(np.uint16)
    return laid


def columns(values: NDArray[np.float32]) -> Bits:
    """[2048]: a tile of B that reaches the cores with these float words at its beginning."""
    laid, words = np.zeros(OBJECT, np.uint16), np.zeros(OBJECT // 2, np.float32)
    words[: len(values)] = values
    laid[B_ORDER.indices()] = words.view(np.uint16)
    return laid


def overlay(stacks: Mapping[str, int], sequences: tuple[Sequence, ...]) -> Design:
    """The design. stacks: what the kernels need, bytes by name."""
    kinds: dict[str, tuple[str, tuple[Block | None, ...]]] = {
        "keep_header": ("keep.cc", (A, _KEPT)),
        "keep_tile_bf16": ("keep.cc", (A, _PAIR, None)),
        "zero_f32": ("gemm_bf16.cc", (_SUMS,)),
        "gemm_bf16": ("gemm_bf16.cc", (A, B, _SUMS)),
        "start_f32": ("gemm_bf16.cc", (_SUMS, B)),
        "gelu_f32": ("gemm_bf16.cc", (_SUMS,)),
        "activate_f32": ("gemm_bf16.cc", (_SUMS, None)),
        "join_half_f32": ("gemm_bf16.cc", (B, _SUMS, None, None)),
        "narrow_bf16": ("gemm_bf16.cc", (_SUMS, C)),
        "narrow_rest_bf16": ("gemm_bf16.cc", (_SUMS, C)),
        "add_up_bf16": ("norm_bf16.cc", (A, _SUMS)),
        "row_statistics_f32": ("norm_bf16.cc", (_SUMS, _KEPT, _STATISTICS)),
        "group_add_f32": ("norm_bf16.cc", (_SUMS, _KEPT, _TOTAL)),
        "group_out_f32": ("norm_bf16.cc", (_TOTAL, C)),
        "group_statistics_f32": ("norm_bf16.cc", (A, _KEPT, _STATISTICS)),
        "normalise_bf16": ("norm_bf16.cc", (A, _STATISTICS, B, C, None)),
        "turn_rows_bf16": ("rope_bf16.cc", (A, _PAIR, C, None)),
        "attention_start_bf16": ("attention_bf16.cc", (_STATISTICS, _SUMS)),
        "keep_queries_bf16": ("attention_bf16.cc", (A, _KEPT, _PAIR, None)),
        "turn_keys_bf16": ("attention_bf16.cc", (B, _KEYS)),
        "attention_step_bf16": (
            "attention_bf16.cc",
            (_PAIR, _KEYS, B, _KEPT, C, _STATISTICS, _SUMS),
        ),
        "attention_finish_bf16": ("attention_bf16.cc", (_SUMS, _STATISTICS, C)),
        "few_start": ("few.cc", (_STATISTICS, _SUMS)),
        "few_sums": ("few.cc", (A, _STATISTICS)),
        "few_largest": ("few.cc", (A, _STATISTICS)),
        "few_rows": ("few.cc", (_KEPT, _STATISTICS)),
        "few_normal": ("few.cc", (A, _STATISTICS, _KEYS)),
        "few_plain": ("few.cc", (A, _STATISTICS, _KEYS)),
        "few_gemm": ("few.cc", (_KEYS, B, _KEPT, _STATISTICS, _SUMS)),
        "few_finish": ("few.cc", (B, _STATISTICS, _SUMS)),
        "square_f32": ("log_mel.cc", (_SUMS,)),
        "logarithm_f32": ("log_mel.cc", (_SUMS, _KEPT, _TOTAL)),
        "loudest_f32": ("log_mel.cc", (A, _TOTAL)),
        "lift_bf16": ("log_mel.cc", (A, _KEPT, _TOTAL, C, None)),
        "narrow_window": ("crossing.cc", (_SUMS, C, _KEPT, _STATISTICS, None)),
        "window_scales_out": ("crossing.cc", (_STATISTICS, C)),
        "windows_start": ("windows.cc", (_STATISTICS, _SUMS)),
        "keep_window_queries": ("windows.cc", (A, _KEPT, _PAIR, _STATISTICS, None, None)),
        "keep_window_scales": ("windows.cc", (B, _KEPT, _KEYS, _STATISTICS)),
        "windows_scores": ("windows.cc", (B, _KEYS, _KEPT, _PAIR, _STATISTICS, _SUMS, None)),
        "windows_values": ("windows.cc", (B, _KEYS, _KEPT, _PAIR, _STATISTICS, _SUMS, None)),
        "windows_finish": ("windows.cc", (_SUMS, _STATISTICS, C)),
    }
    functions = tuple(
        Function(name, source, blocks, stacks[name]) for name, (source, blocks) in kinds.items()
    )
    fifos = ways(Ways(A, A_ORDER, B, B_ORDER, Element.BF16, C_ORDER, a_depth=2, c_depth=1))
    workers = tuple(_Core(column, row).worker() for column in range(SIDE) for row in range(SIDE))
    return Design(NAME, fifos, links(), workers, functions, sequences)


class _Core(Core):
    """The program of one core."""

    def worker(self) -> Worker:
        bodies = {
            Operation.PRODUCT: self._product(),
            Operation.SPREAD: self._spread(),
            Operation.NORM: (
                call("zero_f32", "sums"),
                Repeat(_word(Words.TILES), self._passing(self._a, self._add_up())),
                call("row_statistics_f32", "sums", "kept", "statistics"),
                *self._normalised(),
            ),
            Operation.GROUP_SUMS: (
                call("zero_f32", "sums"),
                self._by_columns(lambda half: self._add_up()),
                call("group_add_f32", "sums", "kept", "total"),
            ),
            Operation.GROUP_OUT: self._passing(self._c, call("group_out_f32", "total", Held(self._c))),
            Operation.GROUP_NORM: (
                *self._passing(self._a, call("group_statistics_f32", Held(self._a), "kept", "statistics")),
                *self._normalised(),
            ),
            Operation.ATTENTION: self._attention(),
            Operation.CROSSING: self._crossing(),
            Operation.WINDOWS: self._windows(),
            Operation.PASS: (
                Repeat(
                    _word(Words.ROUNDS),
                    (
                        Repeat(_word(Words.STEPS), self._passing(self._b)),
                        Repeat(_word(Words.GIVEN), self._passing(self._c)),
                    ),
                ),
            ),
            Operation.LIFT: (
                *self._passing(self._a, call("loudest_f32", Held(self._a), "total")),
                self._by_columns(
                    lambda half: call("lift_bf16", Held(self._a), "kept", "total", Held(self._c), half),
                    self._c,
                ),
            ),
            Operation.TURN: (
                *(step for which in range(2) for step in self._passing(self._a, self._keep(which))),
                self._by_columns(
                    lambda half: call("turn_rows_bf16", Held(self._a), "pair", Held(self._c), half), self._c
                ),
            ),
            Operation.FEW: self._few(),
        }
        body = (
            *self._passing(self._a, call("keep_header", Held(self._a), "kept")),
            Choose(_word(Words.OPERATION), {int(operation): steps for operation, steps in bodies.items()}),
        )
        tile = core(self._column, self._row)
        return Worker(tile, (Repeat(None, body),), dict(_LOCALS), stack=STACK)

    def _product(self) -> tuple[Step, ...]:
        step = self._passing(self._a, *self._passing(self._b, self._multiply()))
        return self._closed(Repeat(_word(Words.STEPS), step), own_columns=False)

    def _spread(self) -> tuple[Step, ...]:
        step = self._passing(self._a, *self._each_row(self._b, self._multiply()))
        return self._closed(Repeat(_word(Words.STEPS), step), own_columns=True)

    def _few(self) -> tuple[Step, ...]:
        """Rows pass, and again as what weights are multiplied with: those of every row of cores come down the column."""

        def asked(normal: str, plain: str, *operands: str) -> tuple[Step, ...]:
            bodies = {at: (call(name, Held(self._a), *operands),) for at, name in enumerate((plain, normal))}
            return self._passing(self._a, Choose(_word(Words.NORMAL), bodies))

        gemm = call("few_gemm", "keys", Held(self._b), "kept", "statistics", "sums")
        half = (
            Repeat(_word(Words.BEFORE), self._passing(self._b)),
            Repeat(_word(Words.OWN), self._passing(self._b, gemm)),
            Repeat(_word(Words.AFTER), self._passing(self._b)),
        )
        finish = Repeat(_word(Words.OWN), (call("few_finish", Held(self._b), "statistics", "sums"),))
        return (
            call("few_start", "statistics", "sums"),
            Repeat(_word(Words.STEPS), asked("few_sums", "few_largest", "statistics")),
            call("few_rows", "kept", "statistics"),
            Repeat(
                _word(Words.STEPS),
                (*asked("few_normal", "few_plain", "statistics", "keys"), Repeat(2, half)),
            ),
            *self._each_row(self._b, finish),
            *self._ended(),
        )

    def _closed(self, summed: Step, own_columns: bool) -> tuple[Step, ...]:
        """Sums, and what follows them."""
        start = call("start_f32", "sums", Held(self._b))
        return (
            call("zero_f32", "sums"),
            summed,
            *(self._each_row(self._b, start) if own_columns else self._passing(self._b, start)),
            *self._ended(),
        )

    def _ended(self) -> tuple[Step, ...]:
        """What follows a product. Every row's half of what is joined comes down the column."""
        more = {"activate_f32": (_word(Words.FUNCTION),), "logarithm_f32": ("kept", "total")}
        following = {
            int(function): (call(kernel, "sums", *more.get(kernel, ())),)
            for function, kernel in FOLLOWING.items()
        }
        halves: list[Step] = []
        for row in range(SIDE):
            for which in range(2):
                join = call("join_half_f32", Held(self._b), "sums", which, _word(Words.MULTIPLIED))
                halves += self._passing(self._b, *((join,) if row == self._row else ()))
        return (
            Choose(_word(Words.FUNCTION), following),
            Choose(_word(Words.OTHER), {1: tuple(halves)}),
            *self._passing(self._c, call("narrow_bf16", "sums", Held(self._c))),
            Choose(
                _word(Words.WIDE),
                {1: self._passing(self._c, call("narrow_rest_bf16", "sums", Held(self._c)))},
            ),
        )

    def _normalised(self) -> tuple[Step, ...]:
        """Rows pass once more."""

        def own(half: int) -> Step:
            return call("normalise_bf16", Held(self._a), "statistics", Held(self._b), Held(self._c), half)

        return (self._by_columns(own, self._c, self._b),)

    def _attention(self) -> tuple[Step, ...]:
        step = (
            *self._passing(self._b, call("turn_keys_bf16", Held(self._b), "keys")),
            *self._passing(
                self._b,
                call(
                    "attention_step_bf16",
                    "pair", "keys", Held(self._b), "kept", Held(self._c), "statistics", "sums",
                ),
            ),
        )  # fmt: skip
        return (
            *self._queries(lambda which: call("keep_queries_bf16", Held(self._a), "kept", "pair", which)),
            *self._passing(
                self._c,
                call("attention_start_bf16", "statistics", "sums"),
                Repeat(_word(Words.STEPS), step),
                Repeat(_word(Words.OWN_STEPS), step),
                call("attention_finish_bf16", "sums", "statistics", Held(self._c)),
            ),
        )

    def _crossing(self) -> tuple[Step, ...]:
        """The same rows come twice: for keys, and for values."""
        step = self._passing(self._a, *self._passing(self._b, self._multiply()))
        made: list[Step] = []
        for which in range(2):
            made += [
                call("zero_f32", "sums"),
                Repeat(_word(Words.STEPS), step),
                *self._passing(self._b, call("start_f32", "sums", Held(self._b))),
                call("narrow_window", "sums", Held(self._c), "kept", "statistics", which),
            ]
        scales = call("window_scales_out", "statistics", Held(self._c))
        return (*self._passing(self._c, *made), *self._passing(self._c, scales))

    def _windows(self) -> tuple[Step, ...]:
        """Tiles of every row of cores come down the column, window by window."""

        def keep(which: int) -> Step:
            return call("keep_window_queries", Held(self._a), "kept", "pair", "statistics", which, self._row)

        def attend(kernel: str) -> Step:
            return call(kernel, Held(self._b), "keys", "kept", "pair", "statistics", "sums", self._row)

        tiles: list[Step] = []
        for row in range(SIDE):
            for kernel in ("windows_scores", "windows_values"):
                tiles += self._passing(self._b, *((attend(kernel),) if row == self._row else ()))
        scales = call("keep_window_scales", Held(self._b), "kept", "keys", "statistics")
        return (
            call("windows_start", "statistics", "sums"),
            *self._queries(keep),
            Repeat(_word(Words.TURNS), self._each_row(self._b, scales)),
            Repeat(_word(Words.STEPS), (Repeat(_word(Words.TURNS), tuple(tiles)),)),
            *self._passing(self._c, call("windows_finish", "sums", "statistics", Held(self._c))),
        )

    # what these are made of

    def _queries(self, keep: Callable[[int], Step]) -> tuple[Step, ...]:
        """Both halves of four heads pass, of which each column of cores has one."""
        found: list[Step] = []
        for head in range(SIDE):
            for which in range(2):
                found += self._passing(self._a, *((keep(which),) if head == self._column else ()))
        return tuple(found)

    def _multiply(self) -> Step:
        return call("gemm_bf16", Held(self._a), Held(self._b), "sums")

    def _add_up(self) -> Step:
        return call("add_up_bf16", Held(self._a), "sums")

    def _keep(self, which: int) -> Step:
        return call("keep_tile_bf16", Held(self._a), "pair", which)

    def _by_columns(self, own: Callable[[int], Step], *held: str) -> Step:
        """Tiles of 256 columns pass, again and again; 64 of them are this core's, as two tiles, for which it holds more."""
        steps: list[Step] = []
        for column in range(SIDE):
            inner: tuple[Step, ...] = ()
            for half in range(2):
                inner += self._passing(self._a, *((own(half),) if column == self._column else ()))
            if column == self._column:
                for fifo in held:
                    inner = self._passing(fifo, *inner)
            steps += inner
        return Repeat(_word(Words.STEPS), tuple(steps))


def _word(at: Words) -> Word:
    return Word("kept", int(at))
