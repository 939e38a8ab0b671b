"""Decoders as stages of the overlay: Moonshine's and Whisper's, in bf16, for 64 rows at a time.

Rows are tokens of one decoding, or one token each of several. What was before lies in a buffer that the host keeps, and
so do keys and values of the windows: 32 rows of each decoding or window in turn, and every layer's keys and values side
by side in a row. Heads take 64 columns, and there are four at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.architecture import Architecture
from npu.weights import Attention, DecoderLayer, Matrix, Norm, Weights
from npu.whisper_weights import WhisperWeights
from npu.xdna.composer import WIDE, Composer, Seen
from npu.xdna.composition import Constants, Counts, Lengths
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.lanes import bias_of, in_lanes, own, projections
from npu.xdna.overlay import DEPTH, OBJECT, Activation
from npu.xdna.programs import WORD
from npu.xdna.regions import LANE, Region, View
from npu.xdna.target import NPU1, Kind

Array = NDArray[Any]

# Values of a row in one buffer: a shim's step from 32 rows to the next has so many bits, of words.
WIDEST = (1 << NPU1.limits[Kind.SHIM].fields.step_bits) * WORD // (2 * DEPTH)

_MOST_PRODUCTS = WIDE // SPAN - 1  # spans that a product of its own takes, rather than one more of all cores


@dataclass(frozen=True, eq=False)
class Parts:
    """What stages are made of."""

    layers: int
    layer: Callable[[int], DecoderLayer]
    last: Norm
    head: Matrix
    heads: int
    gated: bool  # the network: its second half by SiLU times its first
    frequencies: Array | None  # [pairs] radians a position, where queries and keys are turned
    aligned: Mapping[int, tuple[int, ...]]  # layer -> heads that follow the speech
    embedded: Callable[[Sequence[int], Sequence[int]], Array]  # tokens and their positions -> [k, width]
    widest: int = WIDEST  # values of a row of keys and values in one buffer, at most

    @classmethod
    def moonshine(cls, weights: Weights, architecture: Architecture) -> Parts:
        """Moonshine's."""
        embedding = weights.embedding

        def embedded(tokens: Sequence[int], positions: Sequence[int]) -> Array:
            return (embedding.values[list(tokens)].astype(np.float32) - embedding.zero) * embedding.scale

        return cls(
            len(weights.decoder), weights.decoder.__getitem__, weights.decoder_norm, weights.head,
            architecture.heads, True, weights.frequencies, architecture.aligned, embedded,
        )  # fmt: skip

    @classmethod
    def whisper(cls, weights: WhisperWeights, architecture: Architecture) -> Parts:
        """A Whisper checkpoint's."""
        embedding, places = weights.embedding(), weights.decoder_positions()

        def embedded(tokens: Sequence[int], positions: Sequence[int]) -> Array:
            return np.asarray(embedding[list(tokens)] + places[list(positions)])

        last = weights.norm("model.decoder.layer_norm")
        return cls(
            weights.sizes.decoder_layers, weights.decoder_layer, last, weights.head(),
            architecture.heads, False, None, architecture.aligned, embedded,
        )  # fmt: skip

    @property
    def width(self) -> int:
        """Of a row."""
        return self.head.shape[0]

    @property
    def vocabulary(self) -> int:
        """Logits of a row."""
        return self.head.shape[1]

    @property
    def each(self) -> int:
        """Columns of all queries, or keys, or values of a layer."""
        return -(-self.heads // SIDE) * SIDE * LANE

    @property
    def memory(self) -> int:
        """Values of a row of keys and values of all layers."""
        return self.layers * 2 * self.each

    def buffers(self, kind: str) -> dict[str, slice]:
        """Columns of such a row, by the name of the buffer that holds them: of whole layers, about as many in each.

        kind: "past" or "states"; what fits one buffer is in that of this name.
        """
        of_layer = 2 * self.each
        count = -(-self.layers // (self.widest // of_layer))
        columns = -(-self.layers // count) * of_layer
        starts = range(0, self.memory, columns)
        return {
            f"{kind}{at or ''}": slice(start, min(start + columns, self.memory))
            for at, start in enumerate(starts)
        }

    @property
    def head_width(self) -> int:
        """Of a head's queries, keys and values."""
        return self.width // self.heads

    @property
    def scale(self) -> float:
        """Of scores."""
        return float(self.head_width**-0.5)


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass of 64 rows through all layers. Lengths: `queries`; `past` and `states`, how many rows of either each
    query sees; `past groups`, `past shared`, `state groups`, `state shared`; `alone`.
    """

    composer: Composer
    past: int  # steps of 32 rows, of all decodings
    states: int  # steps of 32 rows, of all windows
    into: Region  # where the host writes embedded tokens; the pass leaves it alone, so that it can be tried again
    turns: Region  # and the turns of their positions
    fresh: tuple[Region, ...]  # a layer: queries, keys and values of the rows
    queries: Mapping[int, Region]  # an aligned layer: what asked for states
    logits: tuple[Region, Region]  # in two parts

    @property
    def name(self) -> str:
        """Of its sequence."""
        return f"pass_{self.past}_{self.states}"


@dataclass(frozen=True, eq=False)
class Crossing:
    """Keys and values of states, for all layers."""

    composer: Composer
    spans: int
    states: Region  # where the host writes them
    out: Region

    @property
    def name(self) -> str:
        """Of its sequence."""
        return f"crossing_{self.spans}"


def passes(decoder: Parts, constants: Constants, sizes: Iterable[tuple[int, int]]) -> list[Pass]:
    """For so many steps of the past and of states; layer by layer, so that no more of the weights is in memory."""
    hidden = decoder.layer(0).down.shape[0]
    composing = [_Composing(decoder, hidden, constants, steps) for steps in sizes]
    for i in range(decoder.layers):
        layer = Layer.of(decoder, decoder.layer(i))
        for each in composing:
            each.layer(i, layer)
    head = decoder.head.dense()
    return [each.ended(head) for each in composing]


def crossings(decoder: Parts, constants: Constants, spans: Iterable[int]) -> list[Crossing]:
    """For so many spans of 256 states."""
    matrix, bias = _crossing(decoder)
    found = []
    for n in spans:
        composer = Composer(constants)
        states = composer.region(n * SPAN, decoder.width)
        out = composer.region(n * SPAN, decoder.memory)
        composer.unit("crossing")
        composer.product("crossing", own(states, decoder.width), matrix, out, bias=bias)
        found.append(Crossing(composer, n, states, out))
    return found


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer's matrices with heads in lanes, each with what is added to it."""

    layer: DecoderLayer
    projections: tuple[Array, Array]
    output: tuple[Array, Array | None]
    query: tuple[Array, Array]
    cross_output: tuple[Array, Array | None]
    up: tuple[Array, Array | None]
    down: tuple[Array, Array | None]

    @classmethod
    def of(cls, decoder: Parts, layer: DecoderLayer) -> Layer:
        heads, lanes = decoder.heads, decoder.each // LANE
        query = layer.cross.query
        return cls(
            layer,
            projections(layer.attention, heads, lanes),
            _gathered(layer.attention, heads, lanes),
            (in_lanes(query.dense(), heads, lanes), in_lanes(bias_of(query)[None], heads, lanes)[0]),
            _gathered(layer.cross, heads, lanes),
            (layer.up.dense(), layer.up.bias),
            (layer.down.dense(), layer.down.bias),
        )


class Memory:
    """Keys and values of all layers, in buffers that the host keeps."""

    def __init__(self, composer: Composer, decoder: Parts, kind: str, steps: int) -> None:
        """kind: "past" or "states"; steps: of 32 rows."""
        self._kind = kind
        self._each = decoder.each
        self._buffers = [
            composer.memory(name, steps * DEPTH, columns.stop - columns.start)
            for name, columns in decoder.buffers(kind).items()
        ]

    def seen(self, i: int) -> Seen:
        """A layer's."""
        buffer, column = divmod(i * 2 * self._each, self._buffers[0].width)
        part = self._buffers[buffer].part(column)
        return Seen(part, part.part(self._each), *_LENGTHS[self._kind])


class _Composing:
    """A pass in the making."""

    def __init__(self, decoder: Parts, hidden: int, constants: Constants, steps: tuple[int, int]) -> None:
        past, states = steps
        composer = self._composer = Composer(constants, few=True)
        self._decoder, self._steps = decoder, steps
        self._into, self._x, self._h = (composer.region(TILE, decoder.width) for _ in range(3))
        self._turns = composer.input(2, OBJECT)
        self._fresh: list[Region] = []
        self._asked: dict[int, Region] = {}
        self._query, self._found = (composer.region(TILE, decoder.each) for _ in range(2))
        self._hidden, self._gate = (composer.region(TILE, hidden) for _ in range(2))
        self._past = Memory(composer, decoder, "past", past)
        self._states = Memory(composer, decoder, "states", states)

    def layer(self, i: int, of: Layer) -> None:
        """The next."""
        composer, decoder, x, h = self._composer, self._decoder, self._x, self._h
        layer, name, each = of.layer, f"decoder layer {i} ", decoder.each
        before = x if i else self._into
        normal = own(h, decoder.width)
        composer.unit(name + "self-attention")
        fresh = composer.region(TILE, 3 * each)
        self._fresh.append(fresh)
        composer.norm(
            name + "attention norm", before, layer.attention_norm.gain, layer.attention_norm.offset, h
        )
        self._product(name + "queries, keys, values", normal, of.projections, fresh)
        if decoder.frequencies is not None:
            composer.turn(name + "rotation", fresh, 2 * each // LANE, self._turns)
        composer.attention(
            name + "attention", fresh, self._past.seen(i), self._found, heads=each // LANE,
            scale=decoder.scale, queries=queries_of, own=(fresh.part(each), fresh.part(2 * each)), alone=_alone,
        )  # fmt: skip
        self._product(name + "output", self._found.view(), of.output, x, other=before)
        composer.unit(name + "cross-attention")
        if i in decoder.aligned:
            self._asked[i] = composer.region(TILE, each)
        query = self._asked.get(i, self._query)
        composer.norm(name + "cross norm", x, layer.cross_norm.gain, layer.cross_norm.offset, h)
        self._product(name + "cross query", normal, of.query, query)
        composer.attention(
            name + "cross-attention", query, self._states.seen(i), self._found, heads=each // LANE,
            scale=decoder.scale, queries=queries_of,
        )  # fmt: skip
        self._product(name + "cross output", self._found.view(), of.cross_output, x, other=x)
        composer.unit(name + "network")
        composer.norm(name + "network norm", x, layer.network_norm.gain, layer.network_norm.offset, h)
        self._up(name, normal, of.up)
        depth = of.down[0].shape[0]
        self._product(name + "down", own(self._hidden, depth), of.down, x, other=x)

    def ended(self, head: Array) -> Pass:
        """With its last product [width, vocabulary]."""
        composer, last = self._composer, self._decoder.last
        high, low = (composer.input(TILE, -(-head.shape[1] // WIDE) * WIDE) for _ in range(2))
        composer.unit("head")
        composer.norm("decoder's last norm", self._x, last.gain, last.offset, self._h)
        composer.spread("head", own(self._h, self._decoder.width), head, high, rest=low)
        return Pass(
            composer, *self._steps, self._into, self._turns, tuple(self._fresh), self._asked, (high, low)
        )

    def _up(self, name: str, x: View, up: tuple[Array, Array | None]) -> None:
        if not self._decoder.gated:
            self._product(name + "up", x, up, self._hidden, function=Activation.GELU)
            return
        matrix, bias = up
        hidden, gate = np.split(matrix, 2, axis=1)
        biases: list[Array | None] = [None, None] if bias is None else list(np.split(bias, 2))
        self._product(name + "gate", x, (gate, biases[1]), self._gate, function=Activation.SILU)
        self._product(name + "up", x, (hidden, biases[0]), self._hidden, other=self._gate, multiplied=True)

    def _product(
        self, name: str, a: View, weights: tuple[Array, Array | None], to: Region, **kinds: Any
    ) -> None:
        """By all cores at once as far as columns suffice, and by columns of cores where few are left."""
        (matrix, bias), other = weights, kinds.pop("other", None)
        for few, columns in _parts(matrix.shape[1]):
            compose = self._composer.spread if few else self._composer.product
            compose(
                f"{name} from {columns.start}", a, matrix[:, columns], to.part(columns.start),
                bias=None if bias is None else bias[columns],
                other=None if other is None else other.part(columns.start), **kinds,
            )  # fmt: skip


def _parts(n: int) -> Iterator[tuple[bool, slice]]:
    """Columns by 1,024, and what is left, by 256 where that is less."""
    whole, left = divmod(n, WIDE)
    if left > _MOST_PRODUCTS * SPAN:
        whole, left = whole + 1, 0
    if whole:
        yield True, slice(0, min(n, whole * WIDE))
    if left:
        yield False, slice(whole * WIDE, n)


def _gathered(attention: Attention, heads: int, lanes: int) -> tuple[Array, Array | None]:
    """[lanes * 64, width], and what is added."""
    output = attention.output
    return in_lanes(output.dense().T, heads, lanes).T, output.bias


def _crossing(decoder: Parts) -> tuple[Array, Array]:
    """[width, keys and values of all layers], and what is added."""
    heads, lanes = decoder.heads, decoder.each // LANE
    matrices, biases = [], []
    for i in range(decoder.layers):
        cross = decoder.layer(i).cross
        for part in (cross.key, cross.value):
            matrices.append(in_lanes(part.dense(), heads, lanes))
            biases.append(in_lanes(bias_of(part)[None], heads, lanes)[0])
    return np.concatenate(matrices, axis=1), np.concatenate(biases)


def queries_of(lengths: Lengths) -> int:
    """How many rows count."""
    return int(lengths["queries"])


def _alone(lengths: Lengths) -> int:
    return int(lengths["alone"])


def _of(kind: str) -> tuple[Callable[[Lengths], Counts], Callable[[Lengths], int], Callable[[Lengths], int]]:
    """Keys of each query, groups, and queries of a group."""
    return (
        lambda lengths: np.asarray(lengths[kind], np.int64),
        lambda lengths: int(lengths[f"{kind} groups"]),
        lambda lengths: int(lengths[f"{kind} shared"]),
    )


_LENGTHS = {kind: _of(kind) for kind in ("past", "states")}
