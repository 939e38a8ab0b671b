"""Curves of activations: the numbers by which the kernels make GELU and SiLU out of products alone.

Both are x where it is above zero, less a hump, |x| times what is left of a probability. Its sixteenth root is so nearly a
line that a polynomial of degree 4 follows it, and four squarings bring it back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.weights import Array
from npu.xdna import oracle

CURVE = 6  # numbers: what |x| is multiplied by, and the shift after it, so that it is at most 1; then four factors
_DEGREE, _ROOT = 4, 16
_LIMITS = (5, 6, 8, 10, 12)  # beyond one of them nothing is left of the hump
_POINTS, _ROUNDS = 1000, 40
_SIXTEEN = 1 << 15

Function = Callable[[Array], Array]


def curve_of(function: Function, bits: int) -> NDArray[np.int16]:
    """[6]: a function like GELU of values with so many fraction bits, of which a curve reads 10 at most."""
    return _laid(*_fitted(function), bits)


@cache
def _fitted(function: Function) -> tuple[int, tuple[int, ...]]:
    """The limit, of some, with which the whole function is nearest, and the factors."""
    tried = {limit: _factors(function, limit) for limit in _LIMITS}
    fitting = {limit: found for limit, found in tried.items() if np.abs(found).max() < _SIXTEEN}
    limit = min(fitting, key=lambda each: _distance(function, each, fitting[each]))
    return limit, tuple(int(each) for each in fitting[limit])


def _factors(function: Function, limit: int) -> NDArray[Any]:
    """[4], the highest first: fitted to the largest error of the hump, again and again where it is largest."""
    s = np.arange(1, _POINTS + 1) / _POINTS
    x = s * limit
    left = np.maximum(-2 * function(-x.astype(np.float32)).astype(np.float64) / x, 1e-30)
    root = left ** (1 / _ROOT)
    powers = np.stack([s**degree for degree in range(_DEGREE, 0, -1)], axis=1)
    steep = x * left / root + 1e-4  # what an error of the root makes of the hump
    weight: NDArray[Any] = steep.copy()
    factors: NDArray[Any] = np.zeros(_DEGREE)
    for _ in range(_ROUNDS):
        factors = np.linalg.lstsq(powers * weight[:, None], (root - 1) * weight, rcond=None)[0]
        error = np.abs(powers @ factors - (root - 1)) * steep
        weight *= np.sqrt(1e-3 + error / error.max())
    return np.round(factors * (1 << oracle.PART_BITS))


def _distance(function: Function, limit: int, factors: NDArray[Any]) -> float:
    """How far off the curve is at most, of all that 16 bits with 10 fraction bits can say."""
    unit = 1 << oracle.ACTIVATION_BITS
    x = np.arange(-_SIXTEEN, _SIXTEEN)
    found = oracle.activated(x, _laid(limit, factors, oracle.ACTIVATION_BITS))
    return float(np.abs(found / unit - function((x / unit).astype(np.float32))).max())


def _laid(limit: int, factors: Sequence[int] | NDArray[Any], bits: int) -> NDArray[np.int16]:
    by, shift = 2.0 ** (oracle.PART_BITS - bits) / limit, oracle.PART_BITS
    while shift and by * 2.0**shift >= _SIXTEEN:
        shift -= 1
    return np.array([-min(round(by * 2.0**shift), _SIXTEEN), shift, *factors], np.int16)
