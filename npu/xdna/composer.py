"""Models as sequences for the overlay in bf16: where its matrices lie, what the shims move, what headers say.

Activations lie in the work buffer row by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna.composition import (
    Composition,
    Constants,
    Counts,
    Lengths,
    Moves,
    Said,
    whole_spans,
    within,
)
from npu.xdna.design import Pattern, Start
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.oracle import to_bf16
from npu.xdna.overlay import DEPTH, FOLLOWING, OBJECT, A, Activation, Operation, Spectral, Words, header
from npu.xdna.regions import LANE, Region, View, apart, column_of, columns_of, keys_of, rows_of
from npu.xdna.streams import gains_of, padded, spread, streamed, turns
from npu.xdna.target import NPU1

WIDE = SIDE * SPAN  # columns that all cores do at a time

Array = NDArray[Any]


@dataclass(frozen=True)
class Seen:
    """Keys and values that queries see, of which groups have 32 rows in turn."""

    key: Region
    value: Region  # as wide
    keys: Callable[[Lengths], int | Counts]  # of every query's group, or of each
    groups: Said = 1
    shared: Said = TILE  # queries of a group


@dataclass(frozen=True)
class _Passed:
    """What passes a core for which there are no rows."""

    tiles: int  # of B, in a round
    given: int = 1  # results that it gives away in a round
    rounds: int = 1


class Composer(Composition):
    """Writes the stages of a model for windows of some number of rows, and lays out its memory."""

    def __init__(self, constants: Constants, few: bool = False) -> None:
        """few: only the first 64 rows of anything count, so that three of four rows of cores have nothing to do."""
        self._few = few
        super().__init__(constants, A, header, Words.OPERATION)

    # memory

    def region(self, rows: int, width: int, more_rows: int = 0) -> Region:
        """Room for a result: rows and columns up to whole spans, and rows behind them that may be read."""
        found = Region(self._work, whole_spans(rows), whole_spans(width))
        self._work += (found.rows + more_rows) * found.width
        return found

    def input(self, rows: int, width: int) -> Region:
        """Room for what the host writes, exactly so wide."""
        found = Region(self._work, rows, width)
        self._work += rows * width + (rows * width & 1)
        return found

    def constant(self, key: str, matrix: Array) -> Region:
        """A matrix that never changes, up to whole spans."""
        rows, width = (whole_spans(n) for n in matrix.shape)
        place = self._constants.place((key, rows), lambda: to_bf16(padded(matrix, rows, width)))
        return Region(place, rows, width, "constants")

    def memory(self, name: str, rows: int, width: int) -> Region:
        """A buffer of its own that the host keeps; there is one, even for no rows."""
        self._own[name] = max(rows, DEPTH) * width
        return Region(0, rows, width, name)

    # stages

    def product(
        self,
        name: str,
        a: View,
        matrix: Array,
        to: Region,
        *,
        bias: Array | None = None,
        function: Activation | Spectral | None = None,
        other: Region | None = None,
        multiplied: bool = False,
        rest: Region | None = None,
        heard: Callable[[Lengths], int] | None = None,
    ) -> None:
        """function(a @ matrix + bias), plus or times `other`; matrix [depth, n], zeros up to whole spans.

        `other` is as wide as the result, and so is `rest`: what narrowing took away, if it is asked for. heard: rows
        of logarithms of which every core keeps the loudest.
        """
        words = _of_product(a, function, other, multiplied, rest)
        width = whole_spans(matrix.shape[1])
        place = self._constants.place((name,), lambda: streamed(padded(matrix, a.depth, width), bias))
        passed = _Passed(a.depth // DEPTH + 1 + (2 * SIDE if other else 0), 2 if rest else 1)
        run = (a.depth // DEPTH + 1) * OBJECT  # tiles of a column of cores, and what belongs to its columns
        moves = Moves()

        def of_shim(i: int, m: int, n: int) -> Iterator[Start]:
            row = m + i * TILE
            said = words if heard is None else words | _sought(heard, row)
            head = self._header(Operation.PRODUCT, said)
            yield from self._led(i, head, passed, rows_of(i, a, row))
            at = place + (n // TILE + i) * run
            yield Start(f"B{i}", "constants", Pattern((run,), (1,), at))
            if other is not None:
                at = other.offset + m * other.width + n + i * TILE
                yield Start(f"B{i}", other.argument, Pattern((SPAN, TILE), (other.width, 1), at))
            yield from (column_of(i, each, m, n + i * TILE) for each in (to, rest) if each is not None)

        for m in range(0, to.rows, SPAN):
            for n in range(0, width, SPAN):
                moves.together(partial(of_shim, m=m, n=n))
        spans = to.rows // SPAN * (width // SPAN)
        self._add(name, moves, _calls_of_product(words), spans)

    def spread(
        self,
        name: str,
        a: View,
        matrix: Array,
        to: Region,
        *,
        bias: Array | None = None,
        function: Activation | None = None,
        other: Region | None = None,
        multiplied: bool = False,
        rest: Region | None = None,
    ) -> None:
        """A product of 64 rows, of which every core has other columns: 1,024 of them at a time.

        It moves a fourth of the rows that `product` moves, and is awaited a fourth as often. The results are as wide
        as whole spans of 1,024.
        """
        words = _of_product(a, function, other, multiplied, rest)
        head = self._header(Operation.SPREAD, words)
        width = -(-matrix.shape[1] // WIDE) * WIDE
        place = self._constants.place((name,), lambda: spread(streamed(padded(matrix, a.depth, width), bias)))
        run = (a.depth // DEPTH + 1) * SIDE * OBJECT
        moves = Moves()

        def of_shim(i: int, n: int) -> Iterator[Start]:
            yield self._head(i, head)
            yield rows_of(i, a, 0)
            yield Start(f"B{i}", "constants", Pattern((run,), (1,), place + (n // SPAN + i) * run))
            at = n + i * SPAN
            if other is not None:
                yield Start(f"B{i}", other.argument, apart(other, at))
            yield from (Start(f"C{i}", "work", apart(each, at)) for each in (to, rest) if each is not None)

        for n in range(0, width, WIDE):
            moves.together(partial(of_shim, n=n))
        self._add(name, moves, _calls_of_product(words), width // WIDE)

    def norm(self, name: str, x: Region, gain: Array, offset: Array | None, to: Region) -> None:
        """Every row for itself; of as many columns as there are gains."""
        tiles = x.width // DEPTH
        words = {Words.STEPS: x.width // SPAN, Words.SHARE: 1 / len(gain), Words.TILES: tiles}
        head = self._header(Operation.NORM, words)
        passed = _Passed(1, 1, x.width // SPAN)
        moves = Moves()

        def of_shim(i: int, m: int) -> Iterator[Start]:
            yield from self._led(i, head, passed, rows_of(i, x.view(), m + i * TILE, times=2))
            yield from self._normalised(name, i, x, gain, offset, to, m)

        for m in range(0, to.rows, SPAN):
            moves.together(partial(of_shim, m=m))
        calls = Counter(keep_header=1, zero_f32=1, add_up_bf16=tiles, row_statistics_f32=1)
        calls["normalise_bf16"] = tiles // SIDE
        self._add(name, moves, calls, to.rows // SPAN)

    def group_norm(
        self,
        name: str,
        x: Region,
        gain: Array,
        offset: Array,
        to: Region,
        rows: Callable[[Lengths], int],
    ) -> None:
        """All rows that count together; rows: how many they are."""
        partials = self._partials()
        rounds, spans = x.width // SPAN, range(0, x.rows, SPAN)
        moves = Moves()

        def summed(i: int, m: int) -> Iterator[Start]:
            counted = within(rows, m + i * TILE)
            words: dict[Words, Said] = {Words.STEPS: rounds, Words.ROWS: counted, Words.BEGINS: int(m == 0)}
            yield self._head(i, self._header(Operation.GROUP_SUMS, words))
            yield rows_of(i, x.view(), m + i * TILE)

        def share(lengths: Lengths) -> float:
            return 1 / (rows(lengths) * len(gain))

        head = self._header(
            Operation.GROUP_NORM,
            {Words.STEPS: rounds, Words.SHARE: share},
        )

        def normalised(i: int, m: int) -> Iterator[Start]:
            yield self._head(i, head)
            yield Start(f"A{i}", "work", of_all(partials))
            yield rows_of(i, x.view(), m + i * TILE)
            yield from self._normalised(name, i, x, gain, offset, to, m)

        for m in spans:
            moves.together(partial(summed, m=m))
        moves.settle()
        moves.together(partial(self._given_away, partials))
        moves.settle()
        for m in spans:
            moves.together(partial(normalised, m=m))
        calls = Counter(keep_header=2, zero_f32=1, add_up_bf16=2 * rounds, group_add_f32=1)
        calls += Counter(group_statistics_f32=1, normalise_bf16=2 * rounds)
        total = Counter({kernel: n * len(spans) for kernel, n in calls.items()})
        self._add(name, moves, total + Counter(keep_header=1, group_out_f32=1), 1)

    def turn(self, name: str, x: Region, heads: int, angles: Array | Region) -> None:
        """Turns heads in place by their rows' angles [rows, pairs]: interleaved pairs at the beginning of each.

        Where the host writes `turns` of 64 rows into a region, every 64 rows are turned by them.
        """
        head = self._header(Operation.TURN, {Words.STEPS: heads // SIDE})
        rounds = heads // SIDE
        passed = _Passed(0, 1, rounds)
        if isinstance(angles, Region):
            argument, place, step = angles.argument, angles.offset, 0
        else:
            whole = partial(turns, angles, x.rows)
            argument, place, step = (
                "constants",
                self._constants.place(("turns", x.rows), whole),
                2 * OBJECT,
            )
        moves = Moves()

        def of_shim(i: int, m: int) -> Iterator[Start]:
            row = m + i * TILE
            tiles = Pattern((2 * OBJECT,), (1,), place + row // TILE * step)
            rows = rows_of(i, x.view(width=heads * LANE), row)
            yield from self._led(i, head, passed, Start(f"A{i}", argument, tiles), rows)
            yield columns_of(i, x, m, rounds)

        for m in range(0, x.rows, SPAN):
            moves.together(partial(of_shim, m=m))
        calls = Counter(keep_header=1, keep_tile_bf16=2, turn_rows_bf16=2 * rounds)
        self._add(name, moves, calls, x.rows // SPAN)

    def attention(
        self,
        name: str,
        query: Region,
        seen: Seen,
        to: Region,
        *,
        heads: int,
        scale: float,
        queries: Callable[[Lengths], int],
        own: tuple[Region, Region] | None = None,
        alone: Said = 0,
    ) -> None:
        """Every head of 64 columns of queries over keys and values; scale: of scores; heads: a multiple of four.

        own: keys and values of the first 64 queries, which see them after the others: those up to their own, or that
        `alone`.
        """
        shared: dict[Words, Said] = {
            Words.STEPS: seen.key.rows // DEPTH,
            Words.OWN_STEPS: TILE // DEPTH if own else 0,
            Words.SCALE: float(scale / np.log(2)),
            Words.GROUPS: seen.groups,
            Words.SHARED: seen.shared,
            Words.ALONE: alone,
            Words.KEYS: _of_each(seen.keys),
        }
        steps = seen.key.rows // DEPTH + (TILE // DEPTH if own else 0)
        passed = _Passed(2 * steps)
        moves = Moves()

        def of_shim(i: int, m: int, first: int) -> Iterator[Start]:
            row = m + i * TILE
            words = {**shared, Words.QUERIES: within(queries, row)}
            head = self._header(Operation.ATTENTION, words)
            lanes = View(query.offset + first * LANE, query.width, SIDE * LANE)
            yield from self._led(i, head, passed, rows_of(i, lanes, row))
            yield from islice(keys(i, first), NPU1.queued)
            yield column_of(i, to, m, (first + i) * LANE)

        def keys(i: int, first: int) -> Iterator[Start]:
            yield from keys_of(i, seen.key, seen.value, first + i)
            if own is not None:
                key, value = (replace(each, rows=TILE) for each in own)
                yield from keys_of(i, key, value, first + i)

        def further(i: int, first: int, at: int) -> Iterator[Start]:
            return islice(keys(i, first), at, at + NPU1.queued)

        for m in range(0, query.rows, SPAN):
            for first in range(0, heads, SIDE):
                moves.together(partial(of_shim, m=m, first=first))
                for at in range(NPU1.queued, len(list(keys(0, first))), NPU1.queued):
                    moves.together(partial(further, first=first, at=at))
        calls = Counter(keep_header=1, keep_queries_bf16=2, attention_start_bf16=1, attention_finish_bf16=1)
        calls["turn_keys_bf16"] = calls["attention_step_bf16"] = steps
        self._add(name, moves, calls, query.rows // SPAN * (heads // SIDE))

    # what these are made of

    def _led(self, i: int, head: int, passed: _Passed, *rows: Start) -> Iterator[Start]:
        """A header and its rows, or nothing but one that lets pass what comes for others."""
        if self._few and i:
            words = {Words.STEPS: passed.tiles, Words.GIVEN: passed.given, Words.ROUNDS: passed.rounds}
            yield self._head(i, self._header(Operation.PASS, words))
        else:
            yield self._head(i, head)
            yield from rows

    def _partials(self) -> Region:
        """Room for what cores give away of a group: 64 x 64 each, of which little is used."""
        return self.region(SPAN, SPAN)

    def _given_away(self, partials: Region, i: int) -> Iterator[Start]:
        """That of a column of cores."""
        yield self._head(i, self._header(Operation.GROUP_OUT, {}))
        yield Start(f"C{i}", "work", Pattern((SPAN * TILE,), (1,), partials.offset + i * SPAN * TILE))

    def _normalised(
        self, name: str, i: int, x: Region, gain: Array, offset: Array | None, to: Region, m: int
    ) -> list[Start]:
        """Gains of the columns of cores i, and their result."""
        rounds = x.width // SPAN
        place = self._constants.place((name, i), lambda: gains_of(gain, offset, i, rounds))
        gains = Start(f"B{i}", "constants", Pattern((rounds * OBJECT,), (1,), place))
        return [gains, columns_of(i, to, m, rounds)]


def of_all(partials: Region) -> Pattern:
    """A tile of A with the beginning of what each core gave away."""
    return Pattern((SIDE * SIDE, OBJECT // SIDE**2), (TILE * TILE, 1), partials.offset)


@cache
def _of_each(keys: Callable[[Lengths], int | Counts]) -> Callable[[Lengths], Counts]:
    """[64]: of each query."""
    return lambda lengths: np.broadcast_to(np.asarray(keys(lengths), np.int64), TILE)


def _of_product(
    a: View,
    function: Activation | Spectral | None,
    other: Region | None,
    multiplied: bool,
    rest: Region | None,
) -> dict[Words, Said]:
    """Words of its header."""
    return {
        Words.STEPS: a.depth // DEPTH,
        Words.FUNCTION: int(function or 0),
        Words.OTHER: int(other is not None),
        Words.MULTIPLIED: int(multiplied),
        Words.WIDE: int(rest is not None),
    }


def _sought(rows: Callable[[Lengths], int], first: int) -> dict[Words, Said]:
    """Words of logarithms of 64 rows from the first on."""
    return {Words.HEARD: within(rows, first), Words.ANEW: int(first < SPAN)}


def _calls_of_product(words: Mapping[Words, Said]) -> Counter[str]:
    """Of one span."""
    calls = Counter(keep_header=1, zero_f32=1, start_f32=1, narrow_bf16=1)
    for function, kernel in FOLLOWING.items():
        calls[kernel] += int(words[Words.FUNCTION] == function)
    for kernel, times, word in (
        ("gemm_bf16", 1, Words.STEPS),
        ("join_half_f32", 2, Words.OTHER),
        ("narrow_rest_bf16", 1, Words.WIDE),
    ):
        said = words[word]
        assert isinstance(said, int)
        calls[kernel] = times * said
    return calls
