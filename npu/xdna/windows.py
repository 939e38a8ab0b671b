"""Attention to the states of windows, whose keys and values are in 8 bits: half of what has to be read of them for every
token.

A tile of keys or values is of 64 states and one head. Made once for a window, they lie [block of 64 states][layer][head]
one after the other, keys before values, and so do their scales, each at the beginning of as much room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna.composer import Composer
from npu.xdna.composition import Counts, Lengths, Moves, Said, within
from npu.xdna.design import Pattern, Start
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.overlay import DEPTH, OBJECT, Bits, Operation, Words, columns
from npu.xdna.regions import LANE, Region, View, rows_of
from npu.xdna.streams import padded, streamed
from streaming.errors import ModelError

TILES = 2 * OBJECT  # values of the buffers, of two bytes, that a tile of keys and one of values take
STATES, SCALES = "states", "state_scales"  # buffers of the host's own
_MOST_BLOCKS = 128  # whose scales a core keeps
_PIECE = 512  # values that a transfer moves in its innermost loop

Array = NDArray[Any]


@dataclass(frozen=True)
class Crossed:
    """Where the tiles of one window's states go, of all layers."""

    tiles: Region  # [blocks of 64 states, layers * heads * 4096]
    scales: Region  # the same room: what is of keys and what of values in the first 8 bytes of 8,192
    layers: int
    heads: int

    def at(self, block: int, layer: int, head: int) -> int:
        """The value in either region where those of a block of states, a layer and a head begin."""
        return block * self.tiles.width + (layer * self.heads + head) * TILES

    def scales_of(self, work: Bits) -> NDArray[np.float32]:
        """[blocks, layers, heads, 2]: of keys and of values, out of the work buffer."""
        end = self.scales.offset + self.scales.rows * self.scales.width
        apart = work[self.scales.offset : end].reshape(-1, self.layers, self.heads, TILES)
        return np.ascontiguousarray(apart[..., :4]).view(np.float32)

    def tiles_of(self, work: Bits) -> NDArray[np.uint8]:
        """[blocks, layers, heads, 8192] bytes, out of the work buffer."""
        end = self.tiles.offset + self.tiles.rows * self.tiles.width
        return work[self.tiles.offset : end].view(np.uint8).reshape(-1, self.layers, self.heads, 2 * TILES)


@dataclass(frozen=True)
class Windows:
    """Tiles of several windows, in buffers that the host keeps: `states` and `state_scales`."""

    groups: int  # windows at most, a multiple of four up to 16
    blocks: int  # of 64 states of each, up to 128
    layers: int
    layer: int  # that is attended to

    def __post_init__(self) -> None:
        if self.groups % SIDE or not 0 < self.groups <= SIDE * SIDE or not 0 < self.blocks <= _MOST_BLOCKS:
            raise ModelError(
                f"{self.groups} windows of {64 * self.blocks} states are no multiple of 4 up to 16, or longer than "
                f"{64 * _MOST_BLOCKS}: change the groups of the decoder"
            )

    def sizes(self, heads: int) -> dict[str, int]:
        """Values of the two buffers, of two bytes."""
        each = self.groups * self.layers * heads
        return {STATES: self.blocks * each * TILES, SCALES: each * OBJECT}

    def tiles_of(self, states: Bits, heads: int) -> Bits:
        """[blocks, groups, layers, heads, 4096]: the buffer of tiles, to be written as `Crossed.tiles_of` is read."""
        return states.reshape(self.blocks, self.groups, self.layers, heads, TILES)

    def scales_of(self, scales: Bits, heads: int) -> Bits:
        """[groups, layers, heads, 2048]: the buffer of scales, to be written with what `laid_scales` gives."""
        return scales.reshape(self.groups, self.layers, heads, OBJECT)


def laid_scales(scales: NDArray[np.float32]) -> Bits:
    """scales [blocks, layers, heads, 2] of one window -> [layers, heads, 2048], as they come to cores."""
    blocks, layers, heads, _ = scales.shape
    flat = scales.transpose(1, 2, 0, 3).reshape(layers * heads, 2 * blocks)
    return np.stack([columns(row) for row in flat]).reshape(layers, heads, OBJECT)


class WindowsComposer(Composer):
    """Writes stages that make keys and values of windows in 8 bits, and those that attend to them."""

    def crossed(self, states: int, layers: int, heads: int) -> Crossed:
        """Room for the tiles of so many states, a multiple of 256; heads: a multiple of four."""
        tiles, scales = (self.input(states // TILE, layers * heads * TILES) for _ in range(2))
        return Crossed(tiles, scales, layers, heads)

    def crossing(
        self,
        name: str,
        states: View,
        key: tuple[Array, Array | None],
        value: tuple[Array, Array | None],
        to: Crossed,
        *,
        layer: int,
        rows: Callable[[Lengths], int],
    ) -> None:
        """Keys and values of a layer, states @ matrix + bias, in 8 bits; matrix [depth, heads * 64]; rows: states that
        count.
        """
        both = [self._weights(f"{name} {which}", states, *of) for which, of in enumerate((key, value))]
        steps = states.depth // DEPTH
        run = (steps + 1) * OBJECT  # tiles of a head, and what is added to its columns
        moves = Moves()

        def of_shim(i: int, m: int, first: int) -> Iterator[Start]:
            words: dict[Words, Said] = {Words.STEPS: steps, Words.ROWS: within(rows, m + i * TILE)}
            head = self._header(Operation.CROSSING, words)
            yield self._head(i, head)
            yield rows_of(i, states, m + i * TILE, times=2)
            for place in both:
                yield Start(f"B{i}", "constants", Pattern((run,), (1,), place + (first + i) * run))
            for region in (to.tiles, to.scales):
                at = region.offset + to.at(m // TILE, layer, first + i)
                yield Start(f"C{i}", region.argument, _apart(SIDE, region.width, TILES, at))

        for m in range(0, to.tiles.rows * TILE, SPAN):
            for first in range(0, to.heads, SIDE):
                moves.together(partial(of_shim, m=m, first=first))
        calls = Counter(keep_header=1, zero_f32=2, start_f32=2, narrow_window=2, window_scales_out=1)
        calls["gemm_bf16"] = 2 * steps
        self._add(name, moves, calls, to.tiles.rows // SIDE * (to.heads // SIDE))

    def windows(
        self,
        name: str,
        query: Region,
        memory: Windows,
        to: Region,
        *,
        heads: int,
        scale: float,
        states: Callable[[Lengths], Counts],
    ) -> None:
        """Attention of row j of the queries, as many as there are groups, to window j. All of the first
        256 rows of `to` are written, with zeros behind those of groups.

        heads: a multiple of four, of 64 columns each; scale: of scores; states: how many count of each window, up to 64
        numbers.
        """
        self._own |= memory.sizes(heads)
        turns = memory.groups // SIDE
        words: dict[Words, Said] = {
            Words.STEPS: memory.blocks,
            Words.SCALE: float(scale / np.log(2)),
            Words.TURNS: turns,
            Words.KEYS: _of_each(states),
        }
        head = self._header(Operation.WINDOWS, words)
        layer = memory.layers * heads  # tiles of all heads and layers
        moves = Moves()

        def of_shim(i: int, first: int) -> Iterator[Start]:
            yield self._head(i, head)
            yield rows_of(i, View(query.offset + first * LANE, query.width, SIDE * LANE), 0)
            at = memory.layer * heads + first + i
            yield Start(f"B{i}", SCALES, _apart(memory.groups, layer * OBJECT, OBJECT, at * OBJECT))
            tiles = memory.blocks * memory.groups
            yield Start(f"B{i}", STATES, _apart(tiles, layer * TILES, TILES, at * TILES))
            by_turns = Pattern(
                (SIDE, TILE, TILE), (to.width, SIDE * to.width, 1), to.offset + (first + i) * LANE
            )
            yield Start(f"C{i}", to.argument, by_turns)

        for first in range(0, heads, SIDE):
            moves.together(partial(of_shim, first=first))
        calls = Counter(keep_header=1, windows_start=1, keep_window_queries=2, windows_finish=1)
        calls["keep_window_scales"] = turns
        calls["windows_scores"] = calls["windows_values"] = memory.blocks * turns
        self._add(name, moves, calls, heads // SIDE)

    def _weights(self, name: str, states: View, matrix: Array, bias: Array | None) -> int:
        """Where they begin."""
        wide = padded(matrix, states.depth, -(-matrix.shape[1] // (SIDE * LANE)) * SIDE * LANE)
        return self._constants.place((name,), lambda: streamed(wide, bias))


@cache
def _of_each(states: Callable[[Lengths], Counts]) -> Callable[[Lengths], Counts]:
    """[64]: zeros behind."""

    def found(lengths: Lengths) -> Counts:
        counts = np.asarray(states(lengths), np.int64)
        return np.pad(counts, (0, TILE - len(counts)))

    return found


def _apart(times: int, step: int, count: int, at: int) -> Pattern:
    """So many values in one piece, several times, so far from each other."""
    return Pattern((times, count // _PIECE, _PIECE), (step, _PIECE, 1), at)
