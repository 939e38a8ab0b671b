"""Keys and values of windows in 8 bits and attention to them, tile by tile: both paths as their oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import TILE, blocked, from_bf16, to_bf16, unblocked
from npu.xdna.oracle_windows import Window, laid_tile, narrowed_tile, windows_attention
from npu.xdna.overlay import B_ORDER, C_ORDER, DEPTH

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


OWN = 4  # windows of a core
SCALE = np.float32(1 / np.log(2) / 8)
BLOCKS = 3


def window(seed: int, states: int) -> Window:
    """By chance; what lies behind the states is anything."""
    random = np.random.default_rng(seed)
    keys, values = random.integers(-127, 128, (2, BLOCKS * TILE, TILE), np.int8)
    return Window(keys, values, random.uniform(0.5, 1.5, (BLOCKS, 2)).astype(np.float32) / 60, states)


def attend(kernels: HostKernels, q: Values, windows: list[Window], row: int) -> NDArray[np.uint16]:
    """All kernels in turn, as a core of a row of cores calls them for the windows that are its own."""
    turns = len(windows) // OWN
    statistics, o = np.full(9 * TILE, 77, np.int32), np.full(TILE * TILE, 77, np.float32)
    pair, keys = np.zeros(8192, np.uint8), np.zeros(4096, np.uint8)
    kept = words(w4=float(SCALE), w5=turns)
    kept[TILE : TILE + len(windows)] = [each.states for each in windows]
    ask(kernels, "windows_start", statistics, o)
    for which in range(2):
        half = blocked(q[:, which * DEPTH : which * DEPTH + DEPTH], 4, 8)
        ask(kernels, "keep_window_queries", half, kept, pair, statistics, which, row)
    own = windows[row::OWN]
    for each in own:
        tile = np.zeros(1024, np.float32)
        tile[: each.scales.size] = each.scales.ravel()
        ask(kernels, "keep_window_scales", tile, kept, keys, statistics)
    for block in range(BLOCKS):
        span = slice(block * TILE, block * TILE + TILE)
        for each in own:
            tiles = np.split(laid_tile(each.keys[span], each.values[span]), 2)
            for name, tile in zip(("windows_scores", "windows_values"), tiles, strict=True):
                ask(kernels, name, tile, keys, kept, pair, statistics, o, row)
    out = np.zeros((16, 16, 4, 4), np.uint16)
    ask(kernels, "windows_finish", o, statistics, out)
    return unblocked(out)


def exact(q: Values, window: Window) -> NDArray[np.float64]:
    """Of one query [64], in float64."""
    scales = np.repeat(window.scales, TILE, axis=0)[: window.states, :, None].astype(np.float64)
    keys, values = (
        each[: window.states] * scales[:, n] for n, each in enumerate((window.keys, window.values))
    )
    logits = keys @ from_bf16(q).astype(np.float64) / 8
    powers = np.exp(logits - logits.max())
    return np.asarray(powers @ values / powers.sum())


@pytest.mark.parametrize("size", [0.0, 0.01, 1.0, 1e4])
@pytest.mark.parametrize("groups", [4, 16])
def test_attention(kernels: HostKernels, groups: int, size: float) -> None:
    """Of each query to its own window, from flat weights to a single one, and of windows that end anywhere."""
    q = to_bf16(chance(1, TILE, TILE) * np.float32(size))
    windows = [window(n, states) for n, states in enumerate((192, 100, 0, 1) * (groups // OWN))]
    for row in range(OWN):
        found = attend(kernels, q, windows, row)
        rows = slice(row, groups, OWN)
        assert np.array_equal(found[: groups // OWN], windows_attention(q[rows], windows[rows], SCALE))
        assert not found[groups // OWN :].any()
        for own, each, asked in zip(found, windows[rows], q[rows], strict=False):
            if each.states and size <= 1:
                assert np.allclose(from_bf16(own), exact(asked, each), rtol=2**-7, atol=0.01)


def test_states_that_do_not_count(kernels: HostKernels) -> None:
    """Change nothing."""
    q = to_bf16(chance(1, TILE, TILE))
    one, other = window(1, 100), window(2, 100)
    for mine, theirs in ((one.keys, other.keys), (one.values, other.values)):
        theirs[:100] = mine[:100]
    other.scales[:2] = one.scales[:2]
    found = [attend(kernels, q, [each] * OWN, 0) for each in (one, other)]
    assert np.array_equal(*found) and found[0].any()
