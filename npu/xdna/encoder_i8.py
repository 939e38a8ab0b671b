"""An encoder in 8 bits on this machine, with the arithmetic of the NPU's kernels to the last bit.

The sound in front of the convolutions is float32: Moonshine's first convolution, tanh and norm over all of a window,
and the log-mel features, for which there are no 8-bit kernels.
"""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from npu.weights import Array
from npu.xdna import matrices, oracle
from npu.xdna.float_encoder import gathered
from npu.xdna.oracle import Rows
from npu.xdna.quant import Layer, QuantisedEncoder
from npu.xdna.quant_parts import HEAD_SHIFT, Heads, Normalisation, Product

Fixed = NDArray[np.int16]


class Operators(Protocol):
    """What the kernels do, over whole matrices."""

    def layer_norm(self, x: Fixed, norm: Normalisation) -> Rows:
        """Rows [rows, width] normalised, in 8 bits."""

    def quantise(self, x: Fixed, gain: NDArray[np.int32]) -> Rows:
        """Rows [rows, width] times a gain, in 8 bits."""

    def product(self, rows: Rows, product: Product, residual: Fixed | None = None) -> Fixed:
        """Rows times a matrix, and what follows -> [rows, n]."""

    def rotate(self, x: Fixed, cosine: Fixed, sine: Fixed) -> Fixed:
        """Pairs at the beginning of rows [rows, width] turned by angles [rows, pairs]."""

    def rescale(self, x: Fixed, down: int) -> Fixed:
        """Divided by 2^down."""

    def attend(self, query: Rows, key: Rows, value: Rows, shift: int) -> Fixed:
        """One head's queries over its keys and values, the values' scales in 65,280ths -> 256ths [queries, width]."""


class Encoder8:
    """A quantised encoder over operators: those in NumPy, or the kernels."""

    def __init__(self, quantised: QuantisedEncoder, operators: Operators) -> None:
        self.quantised = quantised
        self.operators = operators

    def states(self, sound: Array) -> Rows:
        """sound: rows [n, channels] for the first convolution -> states in 8 bits, normalised, with their scales."""
        return self.encoded(self.frames(sound))

    def encoded(self, x: Fixed) -> Rows:
        """What the first layer sees [frames, width] -> the same."""
        for layer, bits in zip(self.quantised.layers, self.bits(), strict=True):
            x = self.layer(x, layer, bits)
        return self.operators.layer_norm(x, self.quantised.last)

    def bits(self) -> list[int]:
        """Fraction bits of what each layer sees."""
        return [self.quantised.frame_bits, *(layer.down.bits for layer in self.quantised.layers[:-1])]

    def frames(self, sound: Array) -> Fixed:
        """-> [frames, width], what the first layer sees."""
        quantised = self.quantised
        x = fixed(sound, quantised.sound_bits)
        for at, each in enumerate(quantised.convolutions):
            seen = gathered(x, each.taps, each.stride, quantised.padding)
            last = at == len(quantised.convolutions) - 1
            count = len(seen)
            positions = None if quantised.positions is None or not last else quantised.positions[:count]
            x = self.operators.product(self.operators.quantise(seen, each.gain), each.product, positions)
        return x

    def layer(self, x: Fixed, layer: Layer, bits: int) -> Fixed:
        """x [frames, width] of so many fraction bits -> what the next layer sees."""
        between = self.output(self.seen(*self.heads(x, layer), layer.heads), x, layer, bits)
        return self.down(self.hidden(between, layer), between, layer)

    def heads(self, x: Fixed, layer: Layer) -> tuple[Fixed, Fixed, Fixed]:
        """Query, key and value [heads, frames, head width] of a layer's input, turned by position."""
        rows = self.operators.layer_norm(x, layer.attention_norm)
        query, key, value = (
            self.apart(self.operators.product(rows, each)) for each in (layer.query, layer.key, layer.value)
        )
        return self.turned(query), self.turned(key), value

    def apart(self, x: NDArray[Any]) -> NDArray[Any]:
        """[frames, heads * d] -> [heads, frames, d]."""
        return np.ascontiguousarray(x.reshape(len(x), self.quantised.heads, -1).transpose(1, 0, 2))

    def turned(self, x: Fixed) -> Fixed:
        """Heads [heads, frames, d] turned by position, where the model does that."""
        cosine, sine = self.quantised.cosine, self.quantised.sine
        if cosine is None or sine is None:
            return x
        n = x.shape[1]
        return np.stack([self.operators.rotate(head, cosine[:n], sine[:n]) for head in x])

    def seen(self, query: Fixed, key: Fixed, value: Fixed, heads: Heads) -> Fixed:
        """What attention gives of [heads, frames, d] -> [frames, heads * d], in 256ths of the largest scale of a head."""
        gain = np.full(query.shape[2], 1 << oracle.GAIN_BITS, np.int32)
        found = []
        for q, k, v, factor in zip(query, key, value, heads.value, strict=True):
            rows = [self.operators.quantise(each, gain) for each in (q, k, v)]
            values, scale = rows[2]
            rows[2] = values, value_scales(scale, int(factor))
            found.append(self.operators.attend(rows[0], rows[1], rows[2], heads.shift))
        return np.concatenate(found, axis=1)

    def output(self, seen: Fixed, x: Fixed, layer: Layer, bits: int) -> Fixed:
        """The residual x plus the product of what was seen."""
        residual = self.operators.rescale(x, bits - layer.output.bits)
        return self.operators.product(self.operators.quantise(seen, layer.seen_gain), layer.output, residual)

    def hidden(self, between: Fixed, layer: Layer) -> Fixed:
        """The network's first product, with GELU."""
        return self.operators.product(self.operators.layer_norm(between, layer.network_norm), layer.up)

    def down(self, hidden: Fixed, between: Fixed, layer: Layer) -> Fixed:
        """The residual plus the network's second product."""
        residual = self.operators.rescale(between, layer.output.bits - layer.down.bits)
        return self.operators.product(
            self.operators.quantise(hidden, layer.hidden_gain), layer.down, residual
        )


class NumpyOperators:
    """The oracle's arithmetic over whole matrices."""

    def __init__(self) -> None:
        self._floats: WeakKeyDictionary[Product, NDArray[Any]] = WeakKeyDictionary()

    def layer_norm(self, x: Fixed, norm: Normalisation) -> Rows:
        return matrices.layer_norm(x, norm.gain, norm.offset, norm.epsilon)

    def quantise(self, x: Fixed, gain: NDArray[np.int32]) -> Rows:
        return matrices.quantise(x, gain)

    def product(self, rows: Rows, product: Product, residual: Fixed | None = None) -> Fixed:
        values = self._floats.get(product)
        if values is None:
            values = self._floats[product] = matrices.in_floats(product.values)
        sums = (rows[0].astype(values.dtype) @ values).astype(np.int64)
        return oracle.epilogue(
            sums, product.channel, rows[1], product.bias, product.channel_shift, product.token_shift,
            product.curve, residual,
        )  # fmt: skip

    def rotate(self, x: Fixed, cosine: Fixed, sine: Fixed) -> Fixed:
        return oracle.rope(x, cosine, sine)

    def rescale(self, x: Fixed, down: int) -> Fixed:
        return matrices.rescale(x, down)

    def attend(self, query: Rows, key: Rows, value: Rows, shift: int) -> Fixed:
        return matrices.attention(query, key, value, shift)


def value_scales(scale: NDArray[np.int32], factor: int) -> NDArray[np.int32]:
    """Scales of values as `attention_step_i8` takes them."""
    found = oracle.round_even(scale.astype(np.int64) * factor, HEAD_SHIFT)
    return np.minimum(found, oracle.VALUE_STEPS).astype(np.int32)


def fixed(x: NDArray[Any], bits: int) -> Fixed:
    """In 16 bits, so many of them after the point; what is too large for that saturates."""
    return oracle.saturate(np.round(x.astype(np.float64) * 2.0**bits), 16).astype(np.int16)


def in_float(rows: Rows, norm: Normalisation) -> Array:
    """Normalised rows as the float norm gives them."""
    values, scale = rows
    found = values * (scale[:, None] * 2.0**-oracle.NORM_BITS) * norm.smooth + norm.centre
    return np.asarray(found, np.float32)


def numpy_encoder(quantised: QuantisedEncoder) -> Encoder8:
    """The fast path."""
    return Encoder8(quantised, NumpyOperators())
