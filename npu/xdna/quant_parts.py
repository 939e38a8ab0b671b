"""What encoders in 8 bits are made of: norms, products and scales of heads, as the kernels take them.

Nothing that folds into a matrix costs anything on the array, so each matrix is made for inputs

  - divided by a factor of each column, which norms and `quantise_i8` apply as their gain (`scaling.smoothing`), and
  - behind a norm, centred: its offset moves each column's mean to zero, and the bias takes that back.

Gains are rounded first and matrices made for what they became, so that rounding them loses nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.backends import reference as fp32
from npu.layers import EPSILON, STEPS, quantised_by_column
from npu.weights import Array, Matrix, Norm
from npu.xdna import oracle
from npu.xdna.curves import curve_of
from npu.xdna.scaling import fraction_bits, requantiser, smoothing

HEAD_SHIFT = 20  # fraction bits of what the scales of values are multiplied by
_LARGEST_GAIN = 4.0  # of those that 12 fraction bits hold, below 8
_LARGEST_OFFSET = 7.5
_QUIET = 0.2  # of the largest input: no other is expected to stay below it
_TRIED = 10  # numbers of fraction bits
_ROOM = 1.25  # how much larger what goes into an activation, and the scale of a head's values, may get than was seen
_MOST_SHIFT = 46  # of scores, which have no more bits


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
    curve: NDArray[np.int16] | None = None  # [6]: the activation


@dataclass(frozen=True, eq=False)
class Heads:
    """How the scales of rows become those of `attention_step`. Those of queries and keys are used as they are."""

    shift: int  # of scores
    value: NDArray[
        np.int32
    ]  # [heads]: times the scale of a value, / 2^20, is that in 65,280ths of the largest
    unit: NDArray[np.float64]  # [heads]: what 1 stands for in what attention gives


@dataclass(frozen=True, eq=False)
class Wanted:
    """A product behind a norm."""

    matrix: Matrix
    bits: int  # fraction bits of the output
    factor: float = 1.0  # of the output
    gelu: bool = False


def norm_and_products(
    norm: Norm, normal: Array, bits: int, wanted: Sequence[Wanted]
) -> tuple[Normalisation, list[Product]]:
    """A norm, and the products of what comes out of it.

    normal [rows, width]: what comes out in float; bits: of what goes in.
    """
    matrices = [each.matrix.dense() * np.float32(each.factor) for each in wanted]
    found = normalisation(norm, normal, bits, matrices)
    products = []
    for each, dense in zip(wanted, matrices, strict=True):
        own = each.matrix.bias
        bias = found.centre @ dense + (0 if own is None else own.astype(np.float64) * each.factor)
        dense = dense * found.smooth[:, None]
        products.append(product_of(dense, bias, oracle.NORM_BITS, each.bits, each.gelu))
    return found, products


def normalisation(norm: Norm, normal: Array, bits: int, matrices: Sequence[Array]) -> Normalisation:
    """A norm, for the products of what comes out of it with matrices [width, n].

    normal [rows, width]: what comes out in float; bits: of what goes in.
    """
    offset = np.zeros(len(norm.gain)) if norm.offset is None else norm.offset.astype(np.float64)
    centre = normal.mean(axis=0, dtype=np.float64)
    smooth = smoothed(np.abs(normal - centre).max(axis=0), np.concatenate(matrices, axis=1))
    gain, start = norm.gain / smooth, (offset - centre) / smooth
    factor = min(_LARGEST_GAIN / np.abs(gain).max(), _LARGEST_OFFSET / max(float(np.abs(start).max()), 1e-9))
    one = 1 << oracle.GAIN_BITS
    rounded = np.round(gain * factor * one)
    rounded = np.where((rounded == 0) & (norm.gain != 0), np.copysign(1, norm.gain), rounded)
    smooth = np.where(rounded != 0, norm.gain * one / np.where(rounded != 0, rounded, 1), smooth / factor)
    start = np.round((offset - centre) / smooth * one)
    centre = offset - start / one * smooth  # what was taken off, exactly
    return Normalisation(
        rounded.astype(np.int32), start.astype(np.int32), round(EPSILON * 4.0**bits),
        smooth.astype(np.float32), centre.astype(np.float32),
    )  # fmt: skip


def rows_and_product(
    x: Array, steps: NDArray[Any], matrix: Matrix, to_bits: int, gelu: bool = False
) -> tuple[NDArray[np.int32], Product]:
    """The gain of `quantise_i8`, and the product behind it.

    x [rows, k]: what goes in; steps [k]: what 1 stands for in each of its columns; to_bits: fraction bits of the
    output. What the matrix loses by rounding is made good, on average, by the bias. ValueError where no gain fits.
    """
    plain, one = matrix.dense(), float(1 << oracle.GAIN_BITS)
    wanted = steps / smoothed(np.abs(x).max(axis=0), plain)
    largest = int(np.floor(log2(_LARGEST_GAIN / wanted.max())))
    for bits in range(largest, largest - _TRIED, -1):
        gain = np.maximum(np.round(wanted * 2.0**bits * one), 1)
        rows = steps * 2.0**bits * one / gain  # what the rows of the matrix are multiplied by
        dense = np.asarray(plain * rows[:, None], np.float32)
        lost = (x.mean(axis=0, dtype=np.float64) / rows) @ (dense - quantised_by_column(dense).dense())
        bias = lost + (0 if matrix.bias is None else matrix.bias)
        with contextlib.suppress(ValueError):  # a frame's scale has too many fraction bits for this output
            return gain.astype(np.int32), product_of(dense, bias, oracle.PLAIN_BITS + bits, to_bits, gelu)
    raise ValueError(f"no gain suits inputs up to {peak(x)} and an output of {to_bits} fraction bits")


def to_logarithms(width: int) -> float:
    """What queries of heads of this width are multiplied by, so that scores are binary logarithms."""
    return log2(np.e) / sqrt(width)


def heads_of(value: Array, heads: int, query: Product, key: Product, values: Product) -> Heads:
    """value [frames, heads * d]: in float; the products of all three. ValueError where scores have too many bits."""
    largest = np.abs(value).reshape(len(value), heads, -1).max(axis=(0, 2)) * _ROOM / STEPS  # a head's scale
    token = 2.0 ** -(oracle.PLAIN_BITS + values.bits)
    factor = np.round(oracle.VALUE_STEPS * 2.0**HEAD_SHIFT * token / np.where(largest > 0, largest, 1))
    scores = 2 * oracle.PLAIN_BITS + query.bits + key.bits - 8  # of 8 fraction bits
    shift = scores - oracle.SCORE_BITS
    if not 0 <= shift <= _MOST_SHIFT:
        raise ValueError(f"scores of {scores} fraction bits")
    unit = oracle.VALUE_STEPS * 2.0**HEAD_SHIFT * token / factor / 256
    return Heads(shift, factor.astype(np.int32), unit)


def product_of(
    matrix: NDArray[Any], bias: NDArray[Any], token_bits: int, to_bits: int, gelu: bool = False
) -> Product:
    weights = quantised_by_column(np.asarray(matrix, np.float32))
    scales = requantiser(weights.scale, len(matrix), token_bits, 2.0**-to_bits)
    curve = curve_of(fp32.gelu, to_bits) if gelu else None
    return Product(
        weights.values, scales.channel, np.round(bias * 2.0**to_bits).astype(np.int32), scales.channel_shift,
        scales.token_shift, to_bits, curve,
    )  # fmt: skip


def smoothed(largest: Array, matrix: Array) -> NDArray[np.float64]:
    """largest [k]: magnitudes that inputs reached in the calibration; those that kept quiet may yet be loud."""
    return smoothing(np.maximum(largest, _QUIET * largest.max()), matrix).astype(np.float64)


def activation_bits(before: Array) -> int:
    """Fraction bits of what GELU is asked for: its curve's, fewer where values are too large for those. What saturates
    below is 0 after it all the same.
    """
    return min(oracle.ACTIVATION_BITS, fraction_bits(np.maximum(before, 0) * _ROOM / 2))


def coarser(bits: int, frames: list[Array]) -> int:
    """Fraction bits of frames to which others with so many are added: those can be shifted down, and never up."""
    return min(bits, *(fraction_bits(each) for each in frames))


def peak(x: Array) -> float:
    return float(np.abs(x).max())


def in_fixed(x: NDArray[Any], bits: int) -> NDArray[np.int16]:
    return np.round(x * 2.0**bits).astype(np.int16)


def bits_for(largest: float) -> int:
    """Fraction bits of 16-bit values up to this, and room for twice as much."""
    return fraction_bits(np.array([largest]))


def angles(
    frequencies: Array | None, count: int
) -> tuple[NDArray[np.int16] | None, NDArray[np.int16] | None]:
    """Cosines and sines of rotary embedding [count, pairs], where there is any."""
    if frequencies is None:
        return None, None
    angle = np.arange(count)[:, None] * frequencies
    return in_fixed(np.cos(angle), oracle.ANGLE_BITS), in_fixed(np.sin(angle), oracle.ANGLE_BITS)
