"""Whole matrices at once: the same numbers as the oracle, row by row and tile by tile."""

from __future__ import annotations

import numpy as np
import pytest

from npu.xdna import matrices, oracle
from npu.xdna.oracle import TILE

RANDOM = np.random.default_rng(7)
WIDTH = 48
ROWS = np.concatenate(
    [
        np.zeros((1, WIDTH), np.int16),
        np.full((1, WIDTH), -32_768, np.int16),
        np.tile(np.array([-32_768, 32_767], np.int16), (1, WIDTH // 2)),
        np.eye(1, WIDTH, dtype=np.int16),
        *(RANDOM.integers(-size, size, (8, WIDTH)).astype(np.int16) for size in (2, 50, 3_000, 32_768)),
    ]
)


@pytest.mark.parametrize("epsilon", [0, 1, 10, 5_000])
def test_layer_norm(epsilon: int) -> None:
    """Rows of any size, of nothing and of extremes, with gains and offsets of either sign."""
    gain, offset = (RANDOM.integers(-32_768, 32_768, WIDTH) for _ in range(2))
    for found, expected in zip(
        matrices.layer_norm(ROWS, gain, offset, epsilon),
        oracle.layer_norm(ROWS, gain, offset, epsilon),
        strict=True,
    ):
        assert np.array_equal(found, expected)


def test_quantise() -> None:
    """Rows times a gain."""
    gain = RANDOM.integers(1, 32_768, WIDTH)
    for found, expected in zip(matrices.quantise(ROWS, gain), oracle.quantise(ROWS, gain), strict=True):
        assert np.array_equal(found, expected)


def test_attention() -> None:
    """Queries of two tiles, keys of two and a half, with scores from far below the largest to far above it."""
    queries, keys = 2 * TILE, 5 * TILE // 2
    q, k, v = (RANDOM.integers(-127, 128, (n, TILE)).astype(np.int8) for n in (queries, keys, keys))
    q_scale, k_scale = (RANDOM.integers(0, 1 << 24, n).astype(np.int32) for n in (queries, keys))
    v_scale = RANDOM.integers(0, oracle.VALUE_STEPS + 1, keys).astype(np.int32)
    for shift in (36, 30, 24):
        found = matrices.attention((q, q_scale), (k, k_scale), (v, v_scale), shift)
        more = ((0, TILE // 2), (0, 0))
        wide = [np.pad(k, more), np.pad(v, more)]
        scales = [np.pad(each, (0, TILE // 2)) for each in (k_scale, v_scale)]
        for first in range(0, queries, TILE):
            rows = slice(first, first + TILE)
            expected = oracle.attention(
                q[rows], wide[0], wide[1], (q_scale[rows], scales[0], scales[1]), shift, keys=keys
            )
            assert np.array_equal(found[rows], expected)


@pytest.mark.parametrize("depth", [1, 1024, 1025, 5_000])
def test_products_in_floats(depth: int) -> None:
    """Exact at the largest values of either sign, on both sides of the depth where float64 takes over."""
    rows = np.full((2, depth), 127, np.int8)
    rows[1, ::2] = -127
    columns = np.full((depth, 1), 127, np.int8)
    columns[-1] = 126  # an odd sum
    wide = matrices.in_floats(columns)
    assert np.array_equal((rows.astype(wide.dtype) @ wide).astype(np.int64), oracle.product(rows, columns))


def test_rescale() -> None:
    """Divided by a power of two, halves to even; by one, as it is."""
    x = np.array([[-32_768, -6, -2, 2, 6, 32_767]], np.int16)
    assert matrices.rescale(x, 2).tolist() == [[-8_192, -2, 0, 0, 2, 8_192]]
    assert matrices.rescale(x, 0) is x
