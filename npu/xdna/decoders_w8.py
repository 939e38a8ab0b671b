"""Decoders with weights in 8 bits as stages of the overlay, for a token each of up to 16 decodings.

Rows are decodings. Weights have a scale for each column, and so have keys and values of the windows for 64 states of a
head, while what goes from one stage to the next is in bf16 and the tokens' own keys and values are as in `decoders`. A
norm's gain and offset are part of the matrices behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.weights import Matrix, Norm
from npu.xdna.composition import Constants, Lengths
from npu.xdna.decoders import Layer, Memory, Parts, queries_of
from npu.xdna.few import ROUND, FewComposer
from npu.xdna.gemm import SPAN, TILE
from npu.xdna.lanes import bias_of, in_lanes, own
from npu.xdna.overlay import OBJECT, Activation
from npu.xdna.regions import LANE, Region
from npu.xdna.windows import Crossed, Room, Windows, WindowsComposer

Array = NDArray[Any]


class ComposerW8(FewComposer, WindowsComposer):
    """Of both kinds of stages."""


@dataclass(frozen=True)
class Size:
    """What a pass is for."""

    groups: int  # decodings, a multiple of four
    past: int  # steps of 32 tokens, of each
    blocks: int  # of 64 states, of each window

    def room(self, decoder: Parts) -> Room:
        """For the windows of a decoder."""
        return Room(self.groups, self.blocks, decoder.layers, decoder.each // LANE)


@dataclass(frozen=True, eq=False)
class PassW8:
    """A token of each decoding through all layers. Lengths: `queries`; `past` and `states`, how many of either each
    row sees; `past groups`.
    """

    composer: ComposerW8
    size: Size
    into: Region  # where the host writes embedded tokens; the pass leaves it alone, so that it can be tried again
    turns: Region  # and the turns of their positions
    fresh: tuple[Region, ...]  # a layer: queries, keys and values of the rows
    queries: Mapping[int, Region]  # an aligned layer: what asked for states
    logits: tuple[Region, Region]  # in two parts

    @property
    def name(self) -> str:
        """Of its sequence."""
        return f"pass_w8_{self.size.groups}_{self.size.past}_{self.size.blocks}"


@dataclass(frozen=True, eq=False)
class CrossingW8:
    """Keys and values of a window's states, for all layers."""

    composer: WindowsComposer
    spans: int
    states: Region  # where the host writes them
    to: Crossed

    @property
    def name(self) -> str:
        """Of its sequence."""
        return f"crossing_w8_{self.spans}"


def passes_w8(decoder: Parts, constants: Constants, most: Size, sizes: Iterable[Size]) -> list[PassW8]:
    """Layer by layer, so that no more of the weights is in memory. most: what the host's buffers have room for."""
    composing = [_Composing(decoder, constants, most, size) for size in sizes]
    for i in range(decoder.layers):
        layer = Layer.of(decoder, decoder.layer(i))
        for each in composing:
            each.layer(i, layer)
    head = decoder.head.dense()
    return [each.ended(head) for each in composing]


def crossings_w8(decoder: Parts, constants: Constants, spans: Iterable[int], behind: int) -> list[CrossingW8]:
    """For so many spans of 256 states. behind: values of the work buffer that they leave alone: tiles in 8 bits where
    passes read 64 rows and write 16 could be no numbers.
    """
    found, heads = [], decoder.each // LANE

    def laned(matrix: Matrix) -> tuple[Array, Array]:
        """With heads in lanes, and what is added."""
        both = (matrix.dense(), bias_of(matrix)[None])
        laid, bias = (in_lanes(each, decoder.heads, heads) for each in both)
        return laid, bias[0]

    for n in spans:
        composer = WindowsComposer(constants)
        composer.input(1, behind)
        states = composer.region(n * SPAN, decoder.width)
        to = composer.crossed(n * SPAN, decoder.layers, heads)
        composer.unit("crossing")
        for i in range(decoder.layers):
            cross = decoder.layer(i).cross
            composer.crossing(
                f"layer {i} crossing", own(states, decoder.width), laned(cross.key), laned(cross.value), to,
                layer=i, rows=_frames,
            )  # fmt: skip
        found.append(CrossingW8(composer, n, states, to))
    return found


class _Composing:
    """A pass in the making."""

    def __init__(self, decoder: Parts, constants: Constants, most: Size, size: Size) -> None:
        composer = self._composer = ComposerW8(constants, few=True)
        self._decoder, self._size, self._room = decoder, size, most.room(decoder)
        hidden = decoder.layer(0).down.shape[0]
        self._into, self._x = (composer.few_region(decoder.width) for _ in range(2))
        self._turns = composer.input(2, OBJECT)
        self._fresh: list[Region] = []
        # attention reads 64 rows of these, within what comes behind them
        self._asked = {i: composer.few_region(decoder.each) for i in decoder.aligned}
        self._query, self._found = composer.few_region(decoder.each), composer.region(TILE, decoder.each)
        self._hidden, self._gate = (composer.few_region(hidden) for _ in range(2))
        self._past = Memory(composer, decoder, "past", size.groups * size.past)

    def layer(self, i: int, of: Layer) -> None:
        """The next."""
        composer, decoder, x, each = self._composer, self._decoder, self._x, self._decoder.each
        layer, name, heads = of.layer, f"decoder layer {i} ", decoder.each // LANE
        before = x if i else self._into
        composer.unit(name + "self-attention")
        fresh = composer.region(TILE, -(-3 * each // ROUND) * ROUND)  # of which attention reads 64 rows
        self._fresh.append(fresh)
        self._product(
            name + "queries, keys, values", before, of.projections, fresh, norm=layer.attention_norm
        )
        if decoder.frequencies is not None:
            composer.turn(name + "rotation", fresh, 2 * each // LANE, self._turns)
        composer.attention(
            name + "attention", fresh, self._past.seen(i), self._found, heads=heads, scale=decoder.scale,
            queries=queries_of, own=(fresh.part(each), fresh.part(2 * each)), alone=1,
        )  # fmt: skip
        self._product(name + "output", self._found, of.output, x, other=before)
        composer.unit(name + "cross-attention")
        query = self._asked.get(i, self._query)
        self._product(name + "cross query", x, of.query, query, norm=layer.cross_norm)
        windows = Windows(self._room, self._size.groups, self._size.blocks, i)
        composer.windows(
            name + "cross-attention", query, windows, self._found, scale=decoder.scale, states=_states
        )
        self._product(name + "cross output", self._found, of.cross_output, x, other=x)
        composer.unit(name + "network")
        self._up(name, layer.network_norm, of.up)
        self._product(name + "down", self._hidden, of.down, x, other=x)

    def ended(self, head: Array) -> PassW8:
        """With its last product [width, vocabulary]."""
        composer, decoder = self._composer, self._decoder
        high, low = (composer.few_region(decoder.vocabulary) for _ in range(2))
        composer.unit("head")
        self._product("head", self._x, (head, None), high, norm=decoder.last, rest=low)
        return PassW8(
            composer, self._size, self._into, self._turns, tuple(self._fresh), self._asked, (high, low)
        )

    def _up(self, name: str, norm: Norm, up: tuple[Array, Array | None]) -> None:
        x, hidden, gate = self._x, self._hidden, self._gate
        if not self._decoder.gated:
            self._product(name + "up", x, up, hidden, norm=norm, function=Activation.GELU)
            return
        matrix, bias = up
        halves: list[Array | None] = [None, None] if bias is None else list(np.split(bias, 2))
        first, second = np.split(matrix, 2, axis=1)
        self._product(name + "gate", x, (second, halves[1]), gate, norm=norm, function=Activation.SILU)
        self._product(name + "up", x, (first, halves[0]), hidden, norm=norm, other=gate, multiplied=True)

    def _product(
        self, name: str, x: Region, weights: tuple[Array, Array | None], to: Region, **kinds: Any
    ) -> None:
        matrix, bias = weights
        self._composer.few(name, x, matrix, to, bias=bias, **kinds)


def _frames(lengths: Lengths) -> int:
    return int(lengths["frames"])


def _states(lengths: Lengths) -> NDArray[np.int64]:
    return np.asarray(lengths["states"], np.int64)
