"""Attention to the states of windows, whose keys and values are in 8 bits: half of what has to be read of them for every
token.

A tile of keys or values is of 64 states and one head. Made once for a window, they lie [layer][head][block of 64
states], keys before values, and so do their scales, each at the beginning of as much room; those of several windows lie
[layer][head][window][block].
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
from npu.xdna.composition import ITERATIONS, Counts, Lengths, Moves, Said, within
from npu.xdna.design import Pattern, Start
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.overlay import B_ORDER, DEPTH, OBJECT, Bits, Operation, Words, columns
from npu.xdna.regions import LANE, Region, View, rows_of
from npu.xdna.streams import padded, streamed
from streaming.errors import ModelError

TILES = 2 * OBJECT  # values of the buffers, of two bytes, that a tile of keys and one of values take
STATES, SCALES = "states", "state_scales"  # buffers of the host's own
_MOST_BLOCKS = ITERATIONS  # of one transfer; a core keeps the scales of twice as many
_PIECE = 512  # values that a transfer moves in its innermost loop

Array = NDArray[Any]


@dataclass(frozen=True)
class Crossed:
    """Where the tiles of one window's states go, of all layers."""

    tiles: Region  # [layers * heads, blocks of 64 states * 4096]
    scales: Region  # the same room: what is of keys and what of values in the first 8 bytes of 8,192
    layers: int
    heads: int

    @property
    def blocks(self) -> int:
        """Of 64 states."""
        return self.tiles.width // TILES

    def at(self, block: int, layer: int, head: int) -> int:
        """Values of either region before those of a block of states, a layer and a head."""
        return ((layer * self.heads + head) * self.blocks + block) * TILES

    def tiles_of(self, region: Bits) -> Bits:
        """The region of tiles -> [layers, heads, blocks, 4096], a view."""
        return region.reshape(self.layers, self.heads, self.blocks, TILES)

    def scales_of(self, region: Bits) -> NDArray[np.float32]:
        """The region of scales -> [layers, heads, blocks, 2]."""
        return np.ascontiguousarray(self.tiles_of(region)[..., :4]).view(np.float32)


@dataclass(frozen=True)
class Room:
    """For windows, in buffers that the host keeps: `states` and `state_scales`."""

    groups: int  # windows, a multiple of four up to 16
    blocks: int  # of 64 states of each, up to 64
    layers: int
    heads: int  # a multiple of four

    def __post_init__(self) -> None:
        if self.groups % SIDE or not 0 < self.groups <= SIDE * SIDE or not 0 < self.blocks <= _MOST_BLOCKS:
            raise ModelError(
                f"{self.groups} windows of {TILE * self.blocks} states are no multiple of 4 up to 16, or longer than"
                f" {TILE * _MOST_BLOCKS}: change the groups of the decoder"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Values of the two buffers, of two bytes."""
        each = self.layers * self.heads * self.groups
        return {STATES: each * self.blocks * TILES, SCALES: each * OBJECT}

    def tiles_of(self, states: Bits) -> Bits:
        """The buffer of tiles -> [layers, heads, groups, blocks, 4096], a view."""
        return states.reshape(self.layers, self.heads, self.groups, self.blocks, TILES)

    def scales_of(self, scales: Bits) -> Bits:
        """The buffer of scales -> [layers, heads, groups, 2048], a view: of each group what `laid_scales` gives."""
        return scales.reshape(self.layers, self.heads, self.groups, OBJECT)


@dataclass(frozen=True)
class Windows:
    """Those that a stage attends to."""

    room: Room
    groups: int  # the first ones, a multiple of four
    blocks: int  # their first ones
    layer: int


def laid_scales(scales: NDArray[np.float32]) -> Bits:
    """scales [layers, heads, blocks, 2] of one window -> [layers, heads, 2048], as they come to cores."""
    layers, heads, blocks, _ = scales.shape
    flat = scales.reshape(layers * heads, 2 * blocks)
    return np.stack([columns(row) for row in flat]).reshape(layers, heads, OBJECT)


def keys_of(tiles: Bits, scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """tiles [blocks, 4096] of a head, with the scales of their keys [blocks] -> keys [blocks * 64, 64]."""
    reached = np.ascontiguousarray(tiles[:, B_ORDER.indices()]).view(np.int8)
    eights = reached.reshape(
        -1, TILE // 8, TILE // 8, 8, 8
    )  # [blocks][width][keys], width and keys by eights
    keys = eights.transpose(0, 2, 4, 1, 3).reshape(-1, TILE, TILE) * scales[:, None, None]
    return np.asarray(keys.reshape(-1, TILE), np.float32)


class WindowsComposer(Composer):
    """Writes stages that make keys and values of windows in 8 bits, and those that attend to them."""

    def crossed(self, states: int, layers: int, heads: int) -> Crossed:
        """Room for the tiles of so many states, a multiple of 256; heads: a multiple of four."""
        tiles, scales = (self.input(layers * heads, states // TILE * TILES) for _ in range(2))
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
                yield Start(f"C{i}", region.argument, _apart(SIDE, TILES, TILES, at))

        for m in range(0, to.blocks * TILE, SPAN):
            for first in range(0, to.heads, SIDE):
                moves.together(partial(of_shim, m=m, first=first))
        calls = Counter(keep_header=1, zero_f32=2, start_f32=2, narrow_window=2, window_scales_out=1)
        calls["gemm_bf16"] = 2 * steps
        self._add(name, moves, calls, to.blocks // SIDE * (to.heads // SIDE))

    def windows(
        self,
        name: str,
        query: Region,
        windows: Windows,
        to: Region,
        *,
        scale: float,
        states: Callable[[Lengths], Counts],
    ) -> None:
        """Attention of row j of the queries, as many as there are groups, to window j. All of the first
        256 rows of `to` are written, with zeros behind those of groups.

        scale: of scores; states: how many count of each window, up to 64 numbers.
        """
        room = windows.room
        self._own |= room.sizes
        turns = windows.groups // SIDE
        words: dict[Words, Said] = {
            Words.STEPS: windows.blocks,
            Words.SCALE: float(scale / np.log(2)),
            Words.TURNS: turns,
            Words.KEYS: _of_each(states),
        }
        head = self._header(Operation.WINDOWS, words)
        moves = Moves()

        def of_shim(i: int, first: int) -> Iterator[Start]:
            yield self._head(i, head)
            yield rows_of(i, View(query.offset + first * LANE, query.width, SIDE * LANE), 0)
            at = (windows.layer * room.heads + first + i) * room.groups  # windows before, of all heads
            yield Start(f"B{i}", SCALES, _apart(windows.groups, OBJECT, OBJECT, at * OBJECT))
            each = room.blocks * TILES
            yield Start(
                f"B{i}", STATES, _apart(windows.groups, each, TILES, at * each), windows.blocks, TILES
            )
            by_turns = Pattern(
                (SIDE, TILE, TILE), (to.width, SIDE * to.width, 1), to.offset + (first + i) * LANE
            )
            yield Start(f"C{i}", to.argument, by_turns)

        for first in range(0, room.heads, SIDE):
            moves.together(partial(of_shim, first=first))
        calls = Counter(keep_header=1, windows_start=1, keep_window_queries=2, windows_finish=1)
        calls["keep_window_scales"] = turns
        calls["windows_scores"] = calls["windows_values"] = windows.blocks * turns
        self._add(name, moves, calls, room.heads // SIDE)

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
