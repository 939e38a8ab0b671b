"""An encoder in 8 bits as the NPU's kernels take it: weights, scales, shifts and curves, chosen once.

Weights have a scale for each output channel and activations one for each frame, found as they come. What must be known
before is calibrated on recordings: the fraction bits of 16-bit values, with room for twice of what was seen, and how
inputs are smoothed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.backends import reference as fp32
from npu.weights import Array, Dense, EncoderLayer
from npu.xdna.float_encoder import FloatEncoder, Seen, as_matrix, through
from npu.xdna.quant_parts import (
    Heads,
    Normalisation,
    Product,
    Wanted,
    activation_bits,
    angles,
    bits_for,
    coarser,
    heads_of,
    in_fixed,
    norm_and_products,
    normalisation,
    peak,
    rows_and_product,
    to_logarithms,
)
from npu.xdna.scaling import fraction_bits
from streaming.errors import ModelError

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Convolved:
    """A convolution as a product of gathered rows: rows in 8 bits after a gain, then the product with GELU."""

    gain: NDArray[np.int32]  # [taps * channels], 12 fraction bits
    product: Product
    taps: int
    stride: int


@dataclass(frozen=True, eq=False)
class Layer:
    """One encoder layer."""

    attention_norm: Normalisation
    query: Product  # with log2(e) / sqrt(head width) in it
    key: Product
    value: Product
    heads: Heads
    seen_gain: NDArray[np.int32]  # [width]: of what attention gives, before it is in 8 bits
    output: Product  # with the residual
    network_norm: Normalisation
    up: Product
    hidden_gain: NDArray[np.int32]  # [hidden]
    down: Product  # with the residual


@dataclass(frozen=True, eq=False)
class QuantisedEncoder:
    """Everything behind the sound, see `float_encoder`."""

    heads: int
    padding: int  # rows of zeros at either end of what a convolution sees
    sound_bits: int  # fraction bits of what the first convolution sees
    convolutions: tuple[Convolved, ...]
    positions: NDArray[np.int16] | None  # [most frames, width], in the last convolution's unit
    cosine: NDArray[np.int16] | None  # [most frames, pairs], 14 fraction bits: of rotary embedding
    sine: NDArray[np.int16] | None
    layers: tuple[Layer, ...]
    last: Normalisation

    @property
    def frame_bits(self) -> int:
        """Fraction bits of what the first layer sees, whatever computes the convolutions before it."""
        return self.convolutions[-1].product.bits if self.convolutions else self.sound_bits


def quantise(
    encoder: FloatEncoder, windows: list[Array], most_frames: int, progress: Progress
) -> QuantisedEncoder:
    """windows: what the encoder's graph takes, of recordings to calibrate on. ModelError where a scale does not fit.

    `progress` gets a line for each slow step.
    """
    try:
        return _quantise(encoder, windows, most_frames, progress)
    except ValueError as error:
        raise ModelError(f"{encoder.name} cannot be quantised: {error}") from error


def _quantise(
    encoder: FloatEncoder, windows: list[Array], most_frames: int, progress: Progress
) -> QuantisedEncoder:
    progress(f"Quantising the convolutions of {encoder.name}")
    rows = [encoder.sound(each) for each in windows]
    sound_bits = bits = fraction_bits(np.concatenate(rows))
    convolutions = []
    for each in encoder.convolutions:
        rows = [encoder.gathered(x, each) for x in rows]
        matrix, seen = Dense(as_matrix(each), each.bias), np.concatenate(rows)
        to_bits = activation_bits(fp32.linear(seen, matrix))
        steps = np.full(seen.shape[1], 2.0**-bits)
        gain, product = rows_and_product(seen, steps, matrix, to_bits, gelu=True)
        convolutions.append(Convolved(gain, product, each.kernel.shape[2], each.stride))
        bits, rows = product.bits, [fp32.gelu(fp32.linear(x, matrix)) for x in rows]
    frames, positions = [encoder.placed(x) for x in rows], None
    if encoder.positions is not None:
        positions = in_fixed(encoder.positions[:most_frames], bits)
    layers: list[Layer] = []
    for layer, seen_of in through(encoder, frames):
        progress(f"Quantising layer {len(layers) + 1} of {encoder.count}")
        layers.append(_layer(encoder, layer, seen_of, bits))
        bits, frames = layers[-1].down.bits, [each.after for each in seen_of]
    progress("Quantising what the decoder sees")
    states = np.concatenate([fp32.norm(x, encoder.last) for x in frames])
    attentions = [encoder.cross(i) for i in range(encoder.crosses)]
    matrices = [each.dense() for attention in attentions for each in (attention.key, attention.value)]
    last = normalisation(encoder.last, states, bits, matrices)
    cosine, sine = angles(encoder.frequencies, most_frames)
    return QuantisedEncoder(
        encoder.heads, encoder.padding, sound_bits, tuple(convolutions), positions, cosine, sine, tuple(layers), last,
    )  # fmt: skip


def _layer(encoder: FloatEncoder, layer: EncoderLayer, seen_of: list[Seen], bits: int) -> Layer:
    """bits: fraction bits of what it sees."""

    def all_of(name: str) -> Array:
        return np.concatenate([getattr(each, name) for each in seen_of])

    attention, heads, value = layer.attention, encoder.heads, all_of("value")
    factor = to_logarithms(attention.query.shape[1] // heads)
    turned = [max(peak(each.heads[i]) for each in seen_of) for i in (0, 1)]
    largest = [max(each, peak(all_of(name))) for each, name in zip(turned, ("query", "key"), strict=True)]
    attention_norm, (query, key, values) = norm_and_products(
        layer.attention_norm, all_of("normal"), bits,
        [
            Wanted(attention.query, bits_for(largest[0] * factor), factor),
            Wanted(attention.key, bits_for(largest[1])),
            Wanted(attention.value, bits_for(peak(value))),
        ],
    )  # fmt: skip
    to_heads = heads_of(value, heads, query, key, values)
    seen, hidden = all_of("seen"), all_of("hidden")
    units = np.repeat(to_heads.unit, seen.shape[1] // heads)
    seen_gain, output = rows_and_product(seen, units, attention.output, coarser(bits, [all_of("between")]))
    up_bits = activation_bits(all_of("up"))
    network_norm, (up,) = norm_and_products(
        layer.network_norm, all_of("normal_between"), output.bits, [Wanted(layer.up, up_bits, gelu=True)]
    )
    steps = np.full(hidden.shape[1], 2.0**-up_bits)
    hidden_gain, down = rows_and_product(hidden, steps, layer.down, coarser(output.bits, [all_of("after")]))
    return Layer(
        attention_norm, query, key, values, to_heads, seen_gain, output, network_norm, up, hidden_gain, down
    )
