"""An encoder in 8 bits as the NPU's kernels take it: weights, scales, shifts and tables, chosen once.

Weights have a scale for each output channel and activations one for each frame, found as they come. What must be known
before is calibrated on recordings: the fraction bits of 16-bit values, with room for twice of what was seen, and how
inputs are smoothed. Nothing that folds into a matrix costs anything on the array, so each matrix is made for inputs

  - divided by a factor of each column, which norms and `quantise_i8` apply as their gain (`scaling.smoothing`), and
  - behind a norm, centred: its offset moves each column's mean to zero, and the bias takes that back.

Gains are rounded first and matrices made for what they became, so that rounding them loses nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from math import log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.backends import reference as fp32
from npu.layers import EPSILON, STEPS, quantised_by_column
from npu.weights import Array, EncoderLayer, Matrix, Norm
from npu.xdna import oracle
from npu.xdna.float_encoder import FloatEncoder, Seen, as_matrix, through
from npu.xdna.scaling import fraction_bits, requantiser, smoothing
from streaming.errors import ModelError

HEAD_SHIFT = 20  # fraction bits of what the scales of values are multiplied by
_LARGEST_GAIN = 4.0  # of those that 12 fraction bits hold, below 8
_LARGEST_OFFSET = 7.5
_TRIED = 10  # numbers of fraction bits
_ROOM = (
    1.25  # how much larger what goes into GELU, and the scale of a head's values, may get than what was seen
)
_LEAST_SHIFT = 13  # of scores, which are 44 bits before it
_MOST_SHIFT = 31

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Normalisation:
    """What `layer_norm_i8` is given beside its rows."""

    gain: NDArray[np.int32]  # [width], 12 fraction bits
    offset: NDArray[np.int32]  # [width], 12 fraction bits
    epsilon: int  # squared units of the rows

    smooth: NDArray[np.float32]  # [width]: what comes out, times this and plus `centre`, is the float norm's
    centre: NDArray[np.float32]  # [width]


@dataclass(frozen=True, eq=False)
class Product:
    """A matrix in 8 bits, and what `epilogue_i16` is given."""

    values: NDArray[np.int8]  # [k, n]
    channel: NDArray[np.int32]  # [n]
    bias: NDArray[np.int32]  # [n], in the unit of the output
    channel_shift: int
    token_shift: int
    bits: int  # fraction bits of the output
    table: NDArray[np.int16] | None = None  # [257]: the activation


@dataclass(frozen=True, eq=False)
class Convolved:
    """A convolution as a product of gathered rows: `quantise_i8` with a gain, then the product with GELU."""

    gain: NDArray[np.int32]  # [taps * channels], 12 fraction bits
    product: Product
    taps: int
    stride: int


@dataclass(frozen=True, eq=False)
class Heads:
    """How the scales of rows become those of `attention_step`. Those of queries and keys are used as they are."""

    shifts: tuple[int, int]  # of queries and keys
    value: NDArray[
        np.int32
    ]  # [heads]: times the scale of a value, / 2^20, is that in 65,280ths of the largest
    unit: NDArray[np.float64]  # [heads]: what 1 stands for in what attention gives


@dataclass(frozen=True, eq=False)
class Layer:
    """One encoder layer."""

    attention_norm: Normalisation
    query: Product  # with log2(e) / sqrt(head width) in it
    key: Product
    value: Product
    heads: Heads
    seen_gain: NDArray[np.int32]  # [width]: of what attention gives, for `quantise_i8`
    output: Product  # with the residual
    network_norm: Normalisation
    up: Product
    hidden_gain: NDArray[np.int32]  # [hidden]
    down: Product  # with the residual


@dataclass(frozen=True, eq=False)
class Cross:
    """What a decoder layer makes of the encoder's states."""

    key: Product
    value: Product


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
    crosses: tuple[Cross, ...]


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
        matrix, seen = as_matrix(each), np.concatenate(rows)
        before = seen @ matrix + (0 if each.bias is None else each.bias)
        gain, product = _rows_and_product(
            seen, np.full(len(matrix), 2.0**-bits), matrix, each.bias, _activation_bits(before), gelu=True
        )
        convolutions.append(Convolved(gain, product, each.kernel.shape[2], each.stride))
        bits, rows = (
            product.bits,
            [fp32.gelu(x @ matrix + (0 if each.bias is None else each.bias)) for x in rows],
        )
    frames, positions = [encoder.placed(x) for x in rows], None
    if encoder.positions is not None:
        positions = _fixed(encoder.positions[:most_frames], bits)
    layers: list[Layer] = []
    for layer, seen_of in through(encoder, frames):
        progress(f"Quantising layer {len(layers) + 1} of {encoder.count}")
        layers.append(_layer(encoder, layer, seen_of, bits))
        bits, frames = layers[-1].down.bits, [each.after for each in seen_of]
    progress("Quantising what the decoder sees")
    states = np.concatenate([fp32.norm(x, encoder.last) for x in frames])
    attentions = [encoder.cross(i) for i in range(encoder.crosses)]
    matrices = [each for attention in attentions for each in (attention.key, attention.value)]
    last, products = _norm_and_products(
        encoder.last, states, bits, [(each, 1.0, _peak(fp32.linear(states, each))) for each in matrices]
    )
    cosine = sine = None
    if encoder.frequencies is not None:
        angle = np.arange(most_frames)[:, None] * encoder.frequencies
        cosine, sine = (_fixed(f(angle), oracle.ANGLE_BITS) for f in (np.cos, np.sin))
    return QuantisedEncoder(
        encoder.heads, encoder.padding, sound_bits, tuple(convolutions), positions, cosine, sine, tuple(layers), last,
        tuple(Cross(*pair) for pair in zip(products[::2], products[1::2], strict=True)),
    )  # fmt: skip


def _layer(encoder: FloatEncoder, layer: EncoderLayer, seen_of: list[Seen], bits: int) -> Layer:
    """bits: fraction bits of what it sees."""

    def all_of(name: str) -> Array:
        return np.concatenate([getattr(each, name) for each in seen_of])

    attention, heads = layer.attention, encoder.heads
    width = attention.query.shape[1] // heads
    to_logarithms = log2(np.e) / sqrt(width)
    turned = [max(_peak(each.heads[i]) for each in seen_of) for i in (0, 1)]
    query_peak, key_peak = (
        max(peak, _peak(all_of(name))) for peak, name in zip(turned, ("query", "key"), strict=True)
    )
    value = all_of("value")
    attention_norm, (query, key, values) = _norm_and_products(
        layer.attention_norm, all_of("normal"), bits,
        [
            (attention.query, to_logarithms, query_peak * to_logarithms),
            (attention.key, 1.0, key_peak),
            (attention.value, 1.0, _peak(value)),
        ],
    )  # fmt: skip
    largest = (
        np.abs(value).reshape(len(value), heads, width).max(axis=(0, 2)) * _ROOM / STEPS
    )  # a head's scale
    token = 2.0 ** -(oracle.PLAIN_BITS + values.bits)
    factor = np.round(oracle.VALUE_STEPS * 2.0**HEAD_SHIFT * token / np.where(largest > 0, largest, 1))
    scores = 2 * oracle.PLAIN_BITS + query.bits + key.bits - 8  # of 8 fraction bits
    key_shift = max(_LEAST_SHIFT, scores - _MOST_SHIFT)
    if not 0 <= scores - key_shift <= _MOST_SHIFT or key_shift > _MOST_SHIFT:
        raise ValueError(f"scores of {scores} fraction bits")
    unit = oracle.VALUE_STEPS * 2.0**HEAD_SHIFT * token / factor / 256
    to_heads = Heads((scores - key_shift, key_shift), factor.astype(np.int32), unit)
    seen, between = all_of("seen"), all_of("between")
    seen_gain, output = _rows_and_product(
        seen,
        np.repeat(unit, width),
        attention.output.dense(),
        attention.output.bias,
        _coarser(bits, [between]),
    )
    up_bits = _activation_bits(all_of("up"))
    network_norm, (up,) = _norm_and_products(
        layer.network_norm, all_of("normal_between"), output.bits, [(layer.up, 1.0, None)], up_bits
    )
    hidden, after = all_of("hidden"), all_of("after")
    hidden_gain, down = _rows_and_product(
        hidden, np.full(hidden.shape[1], 2.0**-up_bits), layer.down.dense(), layer.down.bias,
        _coarser(output.bits, [after]),
    )  # fmt: skip
    return Layer(
        attention_norm, query, key, values, to_heads, seen_gain, output, network_norm, up, hidden_gain, down
    )


def _norm_and_products(
    norm: Norm, normal: Array, bits: int, wanted: list[tuple[Matrix, float, float | None]], up_bits: int = 0
) -> tuple[Normalisation, list[Product]]:
    """A norm, and the products of what comes out of it.

    normal [rows, width]: what comes out in float; bits: of what goes in; wanted: a matrix, a factor of its output, and
    the largest of that, or None where GELU follows and the output has `up_bits`.
    """
    matrices = [each.dense() * np.float32(factor) for each, factor, _ in wanted]
    offset = np.zeros(len(norm.gain)) if norm.offset is None else norm.offset.astype(np.float64)
    centre = normal.mean(axis=0, dtype=np.float64)
    smooth = smoothing(np.abs(normal - centre).max(axis=0), np.concatenate(matrices, axis=1)).astype(
        np.float64
    )
    gain, start = norm.gain / smooth, (offset - centre) / smooth
    factor = min(_LARGEST_GAIN / np.abs(gain).max(), _LARGEST_OFFSET / max(float(np.abs(start).max()), 1e-9))
    one = 1 << oracle.GAIN_BITS
    fixed = np.round(gain * factor * one)
    fixed = np.where((fixed == 0) & (norm.gain != 0), np.copysign(1, norm.gain), fixed)
    smooth = np.where(fixed != 0, norm.gain * one / np.where(fixed != 0, fixed, 1), smooth / factor)
    start = np.round((offset - centre) / smooth * one)
    centre = offset - start / one * smooth  # what was taken off, exactly
    products = []
    for (matrix, by, peak), dense in zip(wanted, matrices, strict=True):
        bias = centre @ dense + (0 if matrix.bias is None else matrix.bias.astype(np.float64) * by)
        to_bits = up_bits if peak is None else fraction_bits(np.array([peak]))
        products.append(_product(dense * smooth[:, None], bias, oracle.NORM_BITS, to_bits, gelu=peak is None))
    found = Normalisation(
        fixed.astype(np.int32), start.astype(np.int32), round(EPSILON * 4.0**bits),
        smooth.astype(np.float32), centre.astype(np.float32),
    )  # fmt: skip
    return found, products


def _rows_and_product(
    x: Array, steps: Array, matrix: Array, bias: Array | None, to_bits: int, gelu: bool = False
) -> tuple[NDArray[np.int32], Product]:
    """The gain of `quantise_i8`, and the product behind it.

    x [rows, k]: what goes in; steps [k]: what 1 stands for in each of its columns; to_bits: fraction bits of the
    output. What the matrix loses by rounding is made good, on average, by the bias.
    """
    smooth = smoothing(np.abs(x).max(axis=0), matrix).astype(np.float64)
    wanted = steps / smooth
    largest = int(np.floor(log2(_LARGEST_GAIN / wanted.max())))
    for bits in range(largest, largest - _TRIED, -1):
        gain = np.maximum(np.round(wanted * 2.0 ** (bits + oracle.GAIN_BITS)), 1)
        rows = (
            steps * 2.0 ** (bits + oracle.GAIN_BITS) / gain
        )  # what the rows of the matrix are multiplied by
        dense = np.asarray(matrix * rows[:, None], np.float32)
        lost = (x.mean(axis=0, dtype=np.float64) / rows) @ (dense - quantised_by_column(dense).dense())
        start = lost + (0 if bias is None else bias)
        with contextlib.suppress(
            ValueError
        ):  # the scale of a frame has too many fraction bits for this output
            return gain.astype(np.int32), _product(dense, start, oracle.PLAIN_BITS + bits, to_bits, gelu)
    raise ValueError(f"no gain suits inputs up to {_peak(x)} and an output of {to_bits} fraction bits")


def _product(
    matrix: NDArray[Any], bias: NDArray[Any], token_bits: int, to_bits: int, gelu: bool = False
) -> Product:
    weights = quantised_by_column(np.asarray(matrix, np.float32))
    scales = requantiser(weights.scale, len(matrix), token_bits, 2.0**-to_bits)
    table = _gelu_table(to_bits) if gelu else None
    return Product(
        weights.values, scales.channel, np.round(bias * 2.0**to_bits).astype(np.int32), scales.channel_shift,
        scales.token_shift, to_bits, table,
    )  # fmt: skip


def _gelu_table(bits: int) -> NDArray[np.int16]:
    """GELU of values with fewer fraction bits than the kernel's 10 say: that of 2^n x, divided by 2^n, which beyond the
    table is still x.
    """
    by = 2.0 ** (oracle.ACTIVATION_BITS - bits)
    return oracle.activation_table(lambda x: fp32.gelu((x * by).astype(np.float32)) / by)


def _activation_bits(before: Array) -> int:
    """Fraction bits of what GELU is asked for: its table's, fewer where values are too large for those. What saturates
    below is 0 after it all the same.
    """
    return min(oracle.ACTIVATION_BITS, fraction_bits(np.maximum(before, 0) * _ROOM / 2))


def _coarser(bits: int, frames: list[Array]) -> int:
    """Fraction bits of frames to which others with so many are added: those can be shifted down, and never up."""
    return min(bits, *(fraction_bits(each) for each in frames))


def _peak(x: Array) -> float:
    return float(np.abs(x).max())


def _fixed(x: NDArray[Any], bits: int) -> NDArray[np.int16]:
    return np.round(x * 2.0**bits).astype(np.int16)
