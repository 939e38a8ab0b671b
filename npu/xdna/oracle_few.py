"""The oracle of products of few rows: rows in bf16 as integers of 16 bits, weights in 8 bits, sums of 32, then float."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.xdna.oracle import Bits, Floats, from_bf16, to_bf16
from npu.xdna.oracle_bf16 import product_of_parts, reciprocal_deviations, summed

_SMALLEST = -100  # the exponent of what is taken for zero
_WHOLE = np.float32(12582912)  # 1.5 * 2^23
_MOST = 32767


@dataclass(frozen=True)
class Rows:
    """Rows as the matrix unit takes them."""

    values: NDArray[np.int16]  # [rows, depth]
    unit: Floats  # [rows]: what 1 of them is

    def dense(self) -> Floats:
        """What they stand for."""
        return self.values * self.unit[:, None]


def plain_rows(x: Bits, bits: int) -> Rows:
    """x [rows, depth] times the power of two that brings a row's largest magnitude below 2^bits."""
    power = (x & 0x7F80).max(axis=1).astype(np.int32) >> 7  # of the largest magnitude
    factor = bits - 1 - np.maximum(power - 127, _SMALLEST)
    whole = np.round(np.ldexp(from_bf16(x), factor[:, None]))
    return Rows(whole.astype(np.int16), np.ldexp(np.float32(1), -factor))


def normal_rows(x: Bits, width: int, bits: int) -> Rows:
    """Rows less their mean, divided by their deviation, with `bits` fraction bits; width: of how many values, zeros behind.

    x [rows, a multiple of 8]. What is beyond 16 bits saturates.
    """
    values, share = from_bf16(x), np.float32(1 / width)
    mean = summed(values) * share
    scale = reciprocal_deviations(summed(values * values) * share - mean * mean) * np.float32(1 << bits)
    y = product_of_parts(values - mean[:, None], scale[:, None])
    whole = (y + _WHOLE).view(np.int32).astype(np.int64) - int(_WHOLE.view(np.int32))
    unit = np.full(len(x), 1 / (1 << bits), np.float32)
    return Rows(np.clip(whole, -_MOST, _MOST).astype(np.int16), unit)


def product_few(rows: Rows, values: NDArray[np.int8], scale: Floats, bias: Floats) -> Floats:
    """rows @ (values * scale) + bias in float32; values [depth, n], scale and bias [n]."""
    exact = rows.values.astype(np.float64) @ values.astype(np.float64)  # whole numbers below 2^53
    sums = exact.astype(np.int64).astype(np.int32).astype(np.float32)
    (high, low), (above, below) = _parts(sums), _parts(scale)
    unit = rows.unit[:, None]
    found: Floats = bias + high * unit * above + high * unit * below + low * unit * above
    return found


def _parts(x: Floats) -> tuple[Floats, Floats]:
    high = from_bf16(to_bf16(x))
    return high, from_bf16(to_bf16(x - high))
