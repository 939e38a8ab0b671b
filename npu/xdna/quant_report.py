"""How close an encoder in 8 bits is to float32 on recordings: operator by operator, layer by layer, and as a whole.

Each operator is given what float32 gives it, and each layer too, so that a figure is that of its own error; the states
and the decoder's keys and values are those at the end of the whole encoder in 8 bits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.backends import reference as fp32
from npu.weights import Array, EncoderLayer
from npu.xdna.encoder_i8 import Encoder8, fixed, in_float
from npu.xdna.float_encoder import FloatEncoder, Seen, in_bf16, see
from npu.xdna.quant import Layer

OPERATOR_GOAL, END_GOAL = 0.999, 0.99
OPERATORS = ("norm", "query", "key", "value", "attention", "output", "network", "down", "layer")
_SOUND, _STATES, _CROSS = "sound", "states", "cross"


class Cosine:
    """Of all values that were compared."""

    def __init__(self) -> None:
        self._products = np.zeros(3)

    def compare(self, found: NDArray[Any], expected: NDArray[Any]) -> None:
        """Adds values [...] and what they should be."""
        x, y = (each.astype(np.float64).ravel() for each in (found, expected))
        self._products += x @ y, x @ x, y @ y

    @property
    def value(self) -> float:
        """1 where all is zero, as it should be."""
        both, found, expected = self._products
        return float(both / sqrt(found * expected)) if found * expected > 0 else float(found == expected)


@dataclass(frozen=True)
class Closeness:
    """Cosines."""

    layers: tuple[Mapping[str, float], ...]  # of each operator, see OPERATORS
    sound: float  # of what the first layer sees
    states: float
    cross: float  # of the decoder's keys and values, all together
    seconds: float  # of what was compared

    @property
    def lowest(self) -> tuple[float, int, str]:
        """The lowest cosine of an operator, its layer, counted from 0, and its name."""
        return min((value, at, name) for at, layer in enumerate(self.layers) for name, value in layer.items())


def closeness(
    encoder: FloatEncoder, in_eight: Encoder8, windows: Sequence[Array], seconds: float
) -> Closeness:
    """windows: what the encoder's graph takes, of so many seconds."""
    cosines: dict[tuple[int, str], Cosine] = defaultdict(Cosine)
    for window in windows:
        for (at, name), found, expected in _compared(encoder, in_eight, window):
            cosines[at, name].compare(found, expected)
    layers = tuple({name: cosines[at, name].value for name in OPERATORS} for at in range(encoder.count))
    sound, states, cross = (cosines[-1, name].value for name in (_SOUND, _STATES, _CROSS))
    return Closeness(layers, sound, states, cross, seconds)


_Compared = tuple[tuple[int, str], NDArray[Any], NDArray[Any]]


def _compared(encoder: FloatEncoder, in_eight: Encoder8, window: Array) -> Iterator[_Compared]:
    """What was compared, found and expected; the layer -1 is the whole."""
    sound = encoder.sound(window, in_bf16)
    x = encoder.frames(window)
    yield (-1, _SOUND), in_eight.frames(sound), x
    for at, (layer, bits) in enumerate(zip(in_eight.quantised.layers, in_eight.bits(), strict=True)):
        plain = encoder.layer(at)
        seen = see(encoder, plain, x)
        for name, found, expected in _of_layer(in_eight, layer, bits, plain, seen):
            yield (at, name), found, expected
        x = seen.after
    rows = in_eight.states(sound)
    states = fp32.norm(x, encoder.last)
    yield (-1, _STATES), in_float(rows, in_eight.quantised.last), states
    for at, cross in enumerate(in_eight.quantised.crosses):
        attention = encoder.cross(at)
        parts = zip((cross.key, cross.value), (attention.key, attention.value), strict=True)
        for (product, plain_product), found in zip(parts, in_eight.cross(rows, cross), strict=True):
            yield (-1, _CROSS), found * 2.0**-product.bits, fp32.linear(states, plain_product)


def _of_layer(
    in_eight: Encoder8, layer: Layer, bits: int, plain: EncoderLayer, seen: Seen
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    operators, x = in_eight.operators, fixed(seen.x, bits)
    rows = operators.layer_norm(x, layer.attention_norm)
    yield "norm", in_float(rows, layer.attention_norm), seen.normal
    for name, product in (("query", layer.query), ("key", layer.key), ("value", layer.value)):
        yield name, operators.product(rows, product), getattr(seen, name)
    width = seen.heads[0].shape[2]
    products, factors = (layer.query, layer.key, layer.value), (log2(np.e) / sqrt(width), 1, 1)
    heads = [
        fixed(each * factor, product.bits)
        for each, factor, product in zip(seen.heads, factors, products, strict=True)
    ]
    unit = np.repeat(layer.heads.unit, width)
    yield "attention", in_eight.seen(heads[0], heads[1], heads[2], layer.heads) * unit, seen.seen
    given = fixed(seen.seen / unit, 0)
    yield (
        "output",
        in_eight.output(given, np.zeros_like(x), layer, bits),
        fp32.linear(seen.seen, plain.attention.output),
    )
    between = fixed(seen.between, layer.output.bits)
    yield "network", in_eight.hidden(between, layer), seen.hidden
    hidden = fixed(seen.hidden, layer.up.bits)
    yield "down", in_eight.down(hidden, np.zeros_like(between), layer), seen.down
    yield "layer", in_eight.layer(x, layer, bits), seen.after
