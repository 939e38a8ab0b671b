"""Keys and values of windows in 8 bits and attention to them, tile by tile: both paths as their oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import TILE, blocked
from npu.xdna.oracle_windows import laid_tile, narrowed_tile
from npu.xdna.overlay import B_ORDER, C_ORDER

Values = NDArray[Any]


def chance(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ask(kernels: HostKernels, name: str, *arguments: Values | int) -> None:
    """Calls a kernel on arrays of any kind."""
    kernels.call(name, [each if isinstance(each, int) else each.view(np.uint8) for each in arguments])


def words(**said: float | int) -> NDArray[np.int32]:
    """[128]: what is kept of a header; w3=... is its word 3."""
    kept = np.zeros(128, np.int32)
    for name, value in said.items():
        kept[int(name[1:])] = np.float32(value).view(np.int32) if isinstance(value, float) else value
    return kept


def out_and_in(result: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[8192]: what a core gives away, as it reaches a core again."""
    given = result.view(np.uint16)[C_ORDER.indices()[: TILE * TILE]]
    return np.concatenate([half[B_ORDER.indices()] for half in np.split(given, 2)]).view(np.uint8)


@pytest.mark.parametrize(("size", "rows"), [(0.0, 64), (1e-3, 64), (3.0, 37), (1e4, 64), (3.0, 0)])
def test_narrowing(kernels: HostKernels, size: float, rows: int) -> None:
    """Has a scale for each tile that rows beyond those that count have no part in, and comes back as it is used."""
    out, statistics = np.zeros(8192, np.uint8), np.zeros(9 * TILE, np.int32)
    scales = np.zeros(4096, np.uint16)
    expected = []
    for which in range(2):
        sums = chance(which, TILE, TILE) * np.float32(size)
        sums[rows:] = 1e6
        ask(kernels, "narrow_window", blocked(sums, 4, 4), out, words(w4=rows), statistics, which)
        values, scale = narrowed_tile(sums, rows)
        assert np.abs(values[:rows] * scale - sums[:rows]).max(initial=0) <= scale * 0.51
        assert not values[rows:].any()
        expected.append((values, scale))
    ask(kernels, "window_scales_out", statistics, scales)
    assert np.array_equal(scales.view(np.float32)[:2], [scale for _, scale in expected])
    assert np.array_equal(out_and_in(out), laid_tile(expected[0][0], expected[1][0]))
