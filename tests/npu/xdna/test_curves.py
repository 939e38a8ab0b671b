"""Curves by which the kernels make activations."""

from __future__ import annotations

import numpy as np
import pytest

from npu.backends.reference import gelu, silu
from npu.xdna import oracle
from npu.xdna.curves import CURVE, Function, curve_of

WORDS = np.arange(-(2**15), 2**15)


@pytest.mark.parametrize(("function", "off"), [(gelu, 0.7), (silu, 1.1)])
@pytest.mark.parametrize("bits", [10, 8, 5])
def test_functions(function: Function, off: float, bits: int) -> None:
    """They are near everywhere that 16 bits reach: off by a unit, rounded, whatever the unit is."""
    curve = curve_of(function, bits)
    assert curve.shape == (CURVE,)
    wanted = function((WORDS / 2.0**bits).astype(np.float32).clip(-60)) * 2.0**bits
    assert np.abs(oracle.activated(WORDS, curve) - wanted).max() < off


def test_units_too_coarse_to_bend() -> None:
    """Where one is more than the curve's limit, nothing is left below zero."""
    assert np.array_equal(oracle.activated(WORDS, curve_of(gelu, -4)), np.maximum(WORDS, 0))


def test_powers() -> None:
    """A weight of attention is within a thousandth of the largest; that of the best score is 1, and of the worst 0."""
    x = np.arange(0, 2**15)  # 1024ths of a binary logarithm
    found = oracle.power(x, 0)
    assert np.abs(found / 2.0**oracle.PART_BITS - 2.0 ** (-x / 1024)).max() < 1e-3
    assert (found[0], found[-1]) == (1 << oracle.PART_BITS, 0)
    assert (np.diff(found) <= 0).mean() > 0.99
