"""The oracle of attention to windows in 8 bits: the same float32 operations in the same order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npu.xdna.oracle import Floats, blocked
from npu.xdna.oracle_bf16 import product_of_parts, reciprocal_bf16

Narrow = NDArray[np.int8]

_LARGEST = np.float32(127)  # what the largest magnitude of a tile becomes
_LEAST = np.float32(1e-18)  # whose reciprocal is a number


def narrowed_tile(sums: Floats, rows: int) -> tuple[Narrow, np.float32]:
    """sums [64, 64] in float, of which the first rows count -> [64, 64] in 8 bits, zeros behind them, and their scale."""
    counted = sums.copy()
    counted[max(rows, 0) :] = 0
    most = np.maximum(np.abs(counted).max(), _LEAST)[None]
    factor = product_of_parts(reciprocal_bf16(most), _LARGEST)
    values = np.rint(product_of_parts(counted, factor)).astype(np.int8)
    return values, product_of_parts(most, np.float32(1) / _LARGEST)[0]


def laid_tile(keys: Narrow, values: Narrow) -> NDArray[np.uint8]:
    """keys, values [64, 64] -> [8192]: in the order in which they reach a core that attends to them."""
    both = [blocked(each, 8, 8).ravel() for each in (keys.T, values)]
    return np.concatenate(both).view(np.uint8)
