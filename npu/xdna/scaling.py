"""Scales as the kernels want them: integers and shifts, chosen so that nothing saturates and few bits are lost."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna.oracle import SCORE_BITS

_SUM_BITS = 14  # of the product of two 8-bit values, without its sign
_MANTISSA_BITS = 30  # of the largest scale
_MOST_SHIFT = 31
_SCALE_BITS = 24  # of scales of queries and keys, as of rows

Floats = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Requantiser:
    """How the epilogue brings sums to the unit of its output."""

    channel: NDArray[np.int32]  # [n]
    channel_shift: int
    token_shift: int  # of tokens' scales with the fraction bits it was made for


def requantiser(scale: Floats, depth: int, token_bits: int, unit: float) -> Requantiser:
    """scale [n]: of the weights' columns; depth: how many products are summed; unit: what 1 stands for in the output.

    ValueError where no shift fits: the unit is too coarse for these weights.
    """
    wanted = np.asarray(scale, np.float64) / unit
    exponent = _exponent(wanted)
    spare = _MANTISSA_BITS - _SUM_BITS - ceil(log2(depth))  # bits that sums can grow by
    spare = min(spare, _MOST_SHIFT - token_bits + exponent)
    token_shift = token_bits + spare - exponent
    if spare < 0 or token_shift < 0:
        raise ValueError(f"scales up to {wanted.max()} units cannot be applied in 32 bits")
    channel = np.round(wanted * 2.0 ** (_MANTISSA_BITS - exponent)).astype(np.int32)
    return Requantiser(channel, _MANTISSA_BITS - spare, token_shift)


@dataclass(frozen=True, eq=False)
class AttentionScales:
    """What `attention_step_i8` is given."""

    query: NDArray[np.int32]  # [queries]
    key: NDArray[np.int32]  # [keys]
    value: NDArray[np.int32]  # [keys]
    shift: int  # of scores times the query's scale
    unit: float  # what 1 stands for in the output


def attention_scales(query: Floats, key: Floats, value: Floats, width: int) -> AttentionScales:
    """query [q], key [k], value [k]: what 1 stands for in each row of theirs; width: of the head."""
    to_logarithms = 256 / np.log(2) / sqrt(width)  # 8 fraction bits
    keys, queries = np.asarray(key, np.float64), np.asarray(query, np.float64) * to_logarithms
    up, query_up = (_SCALE_BITS - _exponent(each) for each in (keys, queries))
    most = float(np.max(value)) or 1.0
    return AttentionScales(
        np.round(queries * 2.0**query_up).astype(np.int32),
        np.round(keys * 2.0**up).astype(np.int32),
        np.round(np.asarray(value, np.float64) / most * 255 * 256).astype(np.int32),
        up + query_up - SCORE_BITS,
        most / 256,
    )


def smoothing(largest: Floats, weights: Floats) -> Floats:
    """largest [k]: magnitudes that each input reaches, weights [k, n] -> [k]: what inputs are divided by, and rows of
    the weights multiplied, so that both share what is hard to say in 8 bits (SmoothQuant, arXiv 2211.10438, with 0.5).
    Folded into the gain of the norm before it costs nothing.
    """
    rows = np.abs(weights).max(axis=1)
    shared = np.sqrt(np.maximum(largest, 1e-6) / np.where(rows > 0, rows, 1))
    return np.asarray(np.where(rows > 0, shared, 1), np.float32)


def fraction_bits(x: Floats) -> int:
    """How many bits after the point 16-bit values can have, one bit left for what is larger than x."""
    return 14 - _exponent(np.abs(x))


def _exponent(values: Floats) -> int:
    """The least e with all values below 2^e."""
    most = float(np.max(values))
    return int(np.frexp(most)[1]) if most > 0 else 0
