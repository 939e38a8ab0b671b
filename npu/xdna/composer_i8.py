"""Models as sequences for the overlay in 8 bits: where its tiles lie, what the shims move, what headers say.

Matrices lie in the work buffer as tiles of 64 rows and 64 bytes, those of 64 rows one after the other, so that whatever
moves is in pieces of 4,096 bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from npu.xdna.composition import (
    ITERATIONS,
    Composition,
    Constants,
    Lengths,
    Moves,
    Said,
    Values,
    whole_spans,
    within,
)
from npu.xdna.curves import CURVE
from npu.xdna.design import Pattern, Start
from npu.xdna.gemm import IN, SIDE, SPAN, TILE
from npu.xdna.oracle import ANGLE_BITS
from npu.xdna.overlay_i8 import HALF, OBJECT, ROUND, Bytes, Operation, Words, columns, header
from npu.xdna.quant_parts import Heads, Normalisation, Product

PARTS = 3  # queries, keys, values
_PER_GROUP = PARTS + 1  # tiles of four heads' queries, keys, scales and values, of one of them
_BIAS, _SHIFTS, _CURVE = TILE, 2 * TILE, 2 * TILE + 4  # words of a product's columns


@dataclass(frozen=True)
class Tiles:
    """A matrix in the work buffer."""

    offset: int  # its first byte
    rows: int  # a multiple of 256
    count: int  # tiles of 64 rows, those with scales included

    def at(self, row: int, tile: int = 0) -> int:
        """The first byte of a tile of 64 rows from `row` on."""
        return self.offset + (row // TILE * self.count + tile) * OBJECT

    @property
    def size(self) -> int:
        """Bytes."""
        return self.rows // TILE * self.count * OBJECT

    def of(self, memory: Bytes) -> NDArray[np.uint8]:
        """Its tiles in the work buffer, a view: [rows / 64, tiles, 64, 64]."""
        whole = memory[self.offset : self.offset + self.size]
        return whole.reshape(self.rows // TILE, self.count, TILE, TILE)


class Composer8(Composition):
    """Writes the stages of a model for windows of some number of rows, and lays out its memory.

    A stage has headers of its own, which hold scales that calibration finds: where they lie is the same for all
    models of an architecture.
    """

    def __init__(self, constants: Constants) -> None:
        super().__init__(constants, IN, header, Words.OPERATION)

    # memory

    def wide(self, rows: int, columns: int) -> Tiles:
        """Room for values of 16 bits, rows and columns up to whole spans: a tile has 32 columns."""
        return self._room(rows, whole_spans(columns) // HALF)

    def narrow(self, rows: int, columns: int) -> Tiles:
        """Room for rows in 8 bits and their scales: a tile of those, then tiles of 64 columns."""
        return self._room(rows, 1 + whole_spans(columns) // TILE)

    def heads(self, rows: int, heads: int) -> Tiles:
        """Room for queries, keys and values in 8 bits; heads: a multiple of four."""
        return self._room(rows, _PER_GROUP * heads)

    def _room(self, rows: int, count: int) -> Tiles:
        found = Tiles(self._work, whole_spans(rows), count)
        self._work += found.size
        return found

    # stages

    def product(
        self,
        name: str,
        x: Tiles,
        matrices: Sequence[Product],
        to: Tiles,
        other: Tiles | None = None,
        down: int = 0,
    ) -> None:
        """Rows x in 8 bits times matrices side by side, each of which fills whole tiles but the last; other / 2^down is
        added.
        """
        steps = -(-matrices[0].values.shape[0] // TILE)
        activated = matrices[0].curve is not None
        words = {
            Words.STEPS: steps, Words.OTHER: int(other is not None), Words.DOWN: down, Words.ACTIVATED: int(activated),
        }  # fmt: skip
        head = self._header(Operation.PRODUCT, words, name)
        place = self._constants.place((name,), lambda: _streamed(matrices))
        run = (steps + 1) * OBJECT
        moves = Moves()

        def of_shim(i: int, m: int, n: int) -> Iterator[Start]:
            yield self._head(i, head)
            yield Start(f"A{i}", "work", Pattern((run,), (1,), x.at(m + i * TILE)))
            yield Start(f"B{i}", "constants", Pattern((run,), (1,), place + (n * SIDE + i) * run))
            first = n * ROUND + 2 * i
            if other is not None:
                yield Start(f"B{i}", "work", _of_column(other, m, first, 2))
            yield Start(f"C{i}", "work", _of_column(to, m, first, 2))

        for m in range(0, to.rows, SPAN):
            for n in range(to.count // ROUND):
                moves.together(partial(of_shim, m=m, n=n))
        calls = Counter(
            keep_header=1, zero_i32=1, keep_row_scales=1, gemm_i8=steps, settle_i32=1, narrow_i16=2
        )
        calls["add_half_i16"], calls["activate_i16"] = 2 * words[Words.OTHER], words[Words.ACTIVATED]
        self._add(name, moves, calls, to.rows // SPAN * (to.count // ROUND))

    def norm(self, name: str, x: Tiles, norm: Normalisation, to: Tiles) -> None:
        """Every row of x for itself, to 8 bits."""
        words = {Words.FACTOR: len(norm.gain), Words.EPSILON: norm.epsilon}
        self._narrowed(name, Operation.NORM, words, x, norm.gain, norm.offset, to)

    def quantise(self, name: str, x: Tiles, gain: Values, to: Tiles) -> None:
        """Every row of x times gains, to 8 bits."""
        self._narrowed(name, Operation.QUANTISE, {}, x, gain, np.zeros_like(gain), to)

    def _narrowed(
        self,
        name: str,
        operation: Operation,
        words: Mapping[Words, int],
        x: Tiles,
        gain: Values,
        offset: Values,
        to: Tiles,
    ) -> None:
        rounds, normal = x.count // ROUND, operation is Operation.NORM
        head = self._header(operation, {Words.STEPS: rounds, Words.TILES: x.count, **words}, name)
        place = self._constants.place((name,), lambda: _gains(gain, offset, rounds))
        moves = Moves()

        def of_shim(i: int, m: int) -> Iterator[Start]:
            yield self._head(i, head)
            whole = Pattern((x.count * OBJECT,), (1,), x.at(m + i * TILE))
            yield Start(f"A{i}", "work", whole, 2 + normal)
            yield Start(f"B{i}", "constants", Pattern((rounds * OBJECT,), (1,), place), 2)
            if i == 0:
                yield Start(f"C{i}", "work", _of_column(to, m, 0, 1))
            yield Start(f"C{i}", "work", _of_column(to, m, 1 + i, rounds, SIDE))

        for m in range(0, x.rows, SPAN):
            moves.together(partial(of_shim, m=m))
        calls = Counter(keep_header=1, begin_rows=1, scale_rows=1, scales_out=1)
        if normal:
            calls += Counter(
                add_up_i16=x.count, describe_rows=1, largest_normal_i16=x.count, quantise_normal_i8=2 * rounds
            )
        else:
            calls += Counter(largest_i16=x.count, quantise_i8=2 * rounds)
        self._add(name, moves, calls, x.rows // SPAN)

    def quantise_heads(
        self, name: str, qkv: Tiles, heads: Heads, turns: tuple[Values, Values] | None, to: Tiles
    ) -> None:
        """Queries, keys and values to 8 bits; of four heads at a time, in this order. turns: cosines and sines [at
        least as many rows, pairs] by which queries and keys are turned.
        """
        groups = qkv.count // (PARTS * ROUND)
        head = self._header(Operation.HEADS, {Words.STEPS: groups, Words.TURNED: int(turns is not None)})
        factors = np.zeros(groups * SIDE, np.int32)
        factors[: len(heads.value)] = heads.value
        by_column = np.ascontiguousarray(factors.reshape(groups, SIDE).T).reshape(-1, 1)
        place = self._constants.place((name,), lambda: columns(by_column))
        turned = self._constants.place(
            ("turns", qkv.rows, turns is None), lambda: _turns(turns, qkv.rows)
        )  # fmt: skip
        moves = Moves()

        def of_shim(i: int, m: int) -> Iterator[Start]:
            row = m + i * TILE
            yield self._head(i, head)
            yield Start(f"A{i}", "constants", Pattern((2 * OBJECT,), (1,), turned + row // TILE * 2 * OBJECT))
            yield Start(f"A{i}", "work", Pattern((qkv.count * OBJECT,), (1,), qkv.at(row)))
            size = groups * OBJECT
            yield Start(f"B{i}", "constants", Pattern((size,), (1,), place + i * size))
            yield Start(f"C{i}", "work", _of_column(to, m, i * groups * _PER_GROUP, groups * _PER_GROUP))

        for m in range(0, qkv.rows, SPAN):
            moves.together(partial(of_shim, m=m))
        of_head = {"keep_head_i16": 6, "scale_head": 3, "narrow_head_i8": 3, "scales_out": 1}
        calls = Counter({kernel: n * groups for kernel, n in of_head.items()})
        calls += Counter(keep_header=1, keep_tile_i8=2)
        self._add(name, moves, calls, qkv.rows // SPAN)

    def attention(
        self, name: str, heads: Tiles, shift: int, to: Tiles, count: Callable[[Lengths], int],
        causal: bool = False,
    ) -> None:  # fmt: skip
        """Every head of queries over its keys and values, which come of as many rows."""
        groups, steps = heads.count // (SIDE * _PER_GROUP), heads.rows // TILE
        shared: dict[Words, Said] = {
            Words.STEPS: steps, Words.KEYS: count, Words.CAUSAL: int(causal),
            Words.SHIFT: shift,
        }  # fmt: skip
        moves = Moves()

        def of_shim(i: int, m: int, group: int) -> Iterator[Start]:
            row = m + i * TILE
            words = {**shared, Words.FIRST: row, Words.QUERIES: within(count, row)}
            yield self._head(i, self._header(Operation.ATTENTION, words, name))
            of_heads = (groups * _PER_GROUP * OBJECT, 2 * OBJECT, 1)  # queries of each, and their scales
            pattern = Pattern((SIDE, 2, OBJECT), of_heads, heads.at(row, group * _PER_GROUP))
            yield Start(f"A{i}", "work", pattern)
            own = (i * groups + group) * _PER_GROUP + 1  # keys, scales, values
            for step in range(0, steps, ITERATIONS):
                pattern = Pattern((PARTS * OBJECT,), (1,), heads.at(step * TILE, own))
                times = min(ITERATIONS, steps - step)
                yield Start(f"B{i}", "work", pattern, times, heads.count * OBJECT)
            yield Start(f"C{i}", "work", _of_column(to, m, group * ROUND + 2 * i, 2))

        for m in range(0, to.rows, SPAN):
            for group in range(groups):
                moves.together(partial(of_shim, m=m, group=group))
        calls = Counter(keep_header=1, keep_tile_i8=1, keep_row_scales=1)
        calls += Counter(attention_start_i8=1, attention_finish_i8=2)
        calls += Counter(turn_keys_i8=steps, keep_key_scales=steps, attention_step_i8=steps)
        self._add(name, moves, calls, to.rows // SPAN * groups)


def lay_wide(x: NDArray[np.int16], to: NDArray[np.uint8]) -> None:
    """Values [rows, columns] into tiles [rows / 64, tiles, 64, 64] bytes, zeros behind them."""
    groups, count = to.shape[:2]
    whole = np.zeros((groups * TILE, count * HALF), np.int16)
    whole[: len(x), : x.shape[1]] = x
    to[:] = whole.view(np.uint8).reshape(groups, TILE, count, TILE).swapaxes(1, 2)


def read_wide(tiles: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.int16]:
    """Tiles [rows / 64, tiles, 64, 64] bytes -> values [rows, columns]."""
    whole = np.ascontiguousarray(tiles.swapaxes(1, 2)).view(np.int16)
    return whole.reshape(-1, tiles.shape[1] * HALF)[:rows, :columns]


def read_narrow(
    tiles: NDArray[np.uint8], rows: int, columns: int
) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Tiles of scales and of values -> values [rows, columns] and the scale of each row."""
    values = tiles[:, 1:].swapaxes(1, 2).reshape(-1, (tiles.shape[1] - 1) * TILE).view(np.int8)
    return values[:rows, :columns], read_scales(tiles[:, 0])[:rows]


def read_scales(tiles: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Tiles [n, 64, 64] -> the scales [n * 64] at the beginning of what a core wrote there."""
    blocks = tiles[:, :4].reshape(-1, 4, 8, 8).swapaxes(1, 2)  # of four rows and 8 bytes
    return np.ascontiguousarray(blocks).reshape(-1).view(np.int32)


def _of_column(to: Tiles, row: int, tile: int, tiles: int, apart: int = 1) -> Pattern:
    """What a column of cores makes: 256 rows, so many tiles."""
    strides = (apart * OBJECT, to.count * OBJECT, 1)
    return Pattern((tiles, SIDE, OBJECT), strides, to.at(row, tile))


def _streamed(matrices: Sequence[Product]) -> Bytes:
    """[n / 64][depth / 64 + 1][4096]: for 64 columns the tiles of B in their order, then what belongs to the columns."""
    found = [_of_product(each) for each in matrices]
    laid = np.concatenate(found)
    missing = -len(laid) % SIDE
    return np.concatenate([laid, np.zeros((missing, *laid.shape[1:]), np.uint8)])


def _of_product(product: Product) -> Bytes:
    depth, n = product.values.shape
    deep, wide = -depth % TILE, -n % TILE
    values = np.pad(product.values, ((0, deep), (0, wide))).view(np.uint8)
    steps, tiles = (depth + deep) // TILE, (n + wide) // TILE
    b = values.reshape(steps, TILE, tiles, TILE).transpose(2, 0, 1, 3).reshape(tiles, steps, OBJECT)
    words = np.zeros((tiles, _CURVE + (CURVE + 1) // 2), np.int32)
    words[:, :TILE] = np.pad(product.channel, (0, wide)).reshape(-1, TILE)
    words[:, _BIAS : _BIAS + TILE] = np.pad(product.bias, (0, wide)).reshape(-1, TILE)
    words[:, _SHIFTS : _SHIFTS + 2] = product.channel_shift, product.token_shift
    if product.curve is not None:
        words.view(np.int16)[:, 2 * _CURVE : 2 * _CURVE + CURVE] = product.curve
    return np.concatenate([b, columns(words)[:, None]], axis=1)


def _gains(gain: Values, offset: Values, rounds: int) -> Bytes:
    """[rounds][4096]: of 256 columns each, tile by tile."""
    words = np.zeros((2, rounds * SPAN), np.int32)
    words[0, : len(gain)], words[1, : len(offset)] = gain, offset
    return columns(words.reshape(2, rounds, ROUND, HALF).transpose(1, 2, 0, 3).reshape(rounds, -1))


def _turns(turns: tuple[Values, Values] | None, rows: int) -> Bytes:
    """Angles' cosines and sines -> [rows / 64][2][64][64] bytes: cosines of values, sines with a minus before those of
    even ones.
    """
    both = np.zeros((2, rows, HALF), np.int16)
    if turns is not None:
        cosine, sine = (np.repeat(each[:rows], 2, axis=1) for each in turns)
        sine[:, ::2] *= -1
        both[0] = 1 << ANGLE_BITS
        both[0, : len(cosine), : cosine.shape[1]], both[1, : len(sine), : sine.shape[1]] = cosine, sine
    tiles = both.reshape(2, rows // TILE, TILE, HALF).swapaxes(0, 1)
    return np.ascontiguousarray(tiles).view(np.uint8)
