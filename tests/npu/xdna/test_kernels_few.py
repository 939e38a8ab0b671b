"""The kernels of products of few rows, tile by tile: both paths as their oracle, close to float64, and at the extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.layers import quantised_by_column
from npu.xdna.few import DEEP, ROWS, normal_bits, plain_bits
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import TILE, blocked, from_bf16, to_bf16, unblocked
from npu.xdna.oracle_few import Rows, normal_rows, plain_rows, product_few
from npu.xdna.overlay import DEPTH, Words

Values = NDArray[Any]

UNIT = 288  # where statistics have the units of rows


def chance(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Core:
    """What a core has in its memory, and what it does with tiles."""

    def __init__(self, kernels: HostKernels, width: int, normal: bool, own: int = 1) -> None:
        self._kernels = kernels
        self._kinds = ("few_sums", "few_normal") if normal else ("few_largest", "few_plain")
        self.kept, self.statistics = np.zeros(128, np.int32), np.full(9 * TILE, -1, np.int32)
        self.kept[Words.OWN], self.kept[Words.NORMAL] = own, int(normal)
        self.kept[Words.BITS] = normal_bits(width) if normal else plain_bits(width)
        self.kept[Words.OF_MEAN] = np.float32(1 / width).view(np.int32)
        self.sums, self.rows = np.full(TILE * TILE, -1, np.int32), np.zeros(ROWS * DEEP, np.int16)

    def ask(self, name: str, *arguments: Values) -> None:
        self._kernels.call(name, [each.view(np.uint8) for each in arguments])

    def see(self, x: Values) -> None:
        """Rows [16, a multiple of 128] pass the first time."""
        self.ask("few_start", self.statistics, self.sums)
        for tile in tiles(x):
            self.ask(self._kinds[0], tile, self.statistics)
        self.ask("few_rows", self.kept, self.statistics)

    def narrow(self, tile: Values) -> None:
        self.ask(self._kinds[1], tile, self.statistics, self.rows)

    def narrowed(self, x: Values) -> Rows:
        """All of them."""
        self.see(x)
        found = []
        for tile in tiles(x):
            self.narrow(tile)
            found.append(unblocked(self.rows.reshape(4, DEEP // 4, 4, 4)))
        return Rows(
            np.concatenate(found, axis=1), self.statistics.view(np.float32)[UNIT : UNIT + ROWS].copy()
        )

    def product(self, x: Values, values: Values, scale: Values, bias: Values) -> Values:
        """[16, n], 64 columns for each of its groups."""
        own = int(self.kept[Words.OWN])
        self.see(x)
        for at, tile in enumerate(tiles(x)):
            self.narrow(tile)
            for half in range(DEEP // TILE):
                deep = slice(at * DEEP + half * TILE, at * DEEP + half * TILE + TILE)
                for group in range(own):
                    weights = blocked(values[deep, group * TILE : group * TILE + TILE], 4, 8)
                    self.ask("few_gemm", self.rows, weights, self.kept, self.statistics, self.sums)
        columns = np.zeros((4, 2, TILE), np.float32)
        columns[:own, 0], columns[:own, 1] = (each.reshape(own, TILE) for each in (scale, bias))
        for _ in range(own):
            self.ask("few_finish", columns, self.statistics, self.sums)
        found = unblocked(self.sums.view(np.float32).reshape(16, 16, 4, 4)).reshape(4, ROWS, TILE)
        assert not found[own:].any()
        return np.concatenate(found[:own], axis=1)


def tiles(x: Values) -> list[Values]:
    """[16, n] as tiles of A."""
    parts = x.reshape(ROWS, -1, DEEP // DEPTH, DEPTH).transpose(1, 2, 0, 3).reshape(-1, TILE, DEPTH)
    return [blocked(part, 4, 8) for part in parts]


def real(seed: int, width: int) -> NDArray[np.float32]:
    """Rows such as a decoder has: of other sizes each, with two channels that stand out."""
    x = chance(seed, ROWS, width) * np.geomspace(0.01, 30, ROWS, dtype=np.float32)[:, None]
    x[:, 7] *= 12
    x[:, 70] = x[:, 70] * 3 + 2
    return x


def oracle_of(x: Values, width: int, normal: bool) -> Rows:
    return normal_rows(x, width, normal_bits(width)) if normal else plain_rows(x, plain_bits(width))


def normalised(x: Values) -> Values:
    exact = x.astype(np.float64)
    exact -= exact.mean(axis=1, keepdims=True)
    return np.asarray(exact / np.sqrt(exact.var(axis=1, keepdims=True) + 1e-5))


@pytest.mark.parametrize("normal", [False, True])
@pytest.mark.parametrize("width", [128, 384, 2048])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-3, 1.0, 1e4])
def test_rows(kernels: HostKernels, normal: bool, width: int, size: float) -> None:
    """Become the same integers; rows of nothing and constant ones too."""
    values = real(1, width) * np.float32(size)
    values[3], values[4] = 0, size
    x = to_bf16(values)
    found, wanted = Core(kernels, width, normal).narrowed(x), oracle_of(x, width, normal)
    assert np.array_equal(found.values, wanted.values)
    assert np.array_equal(found.unit, wanted.unit)


@pytest.mark.parametrize("width", [384, 2048])
def test_precision_of_rows(width: int) -> None:
    """Plain ones lose nothing of what is not far below their largest; normal ones have ten bits behind the point or more."""
    x = to_bf16(real(1, width))
    plain, values = plain_rows(x, plain_bits(width)), from_bf16(x)
    lost = np.abs(plain.dense() - values)
    largest = np.abs(values).max(axis=1, keepdims=True)
    assert not lost[np.abs(values) > largest / 8].any()
    assert (lost <= largest * 2.0 ** -plain_bits(width)).all()
    assert (np.abs(plain.values).max(axis=1) >= 1 << (plain_bits(width) - 1)).all()
    normal = normal_rows(x, width, normal_bits(width)).dense()
    assert np.allclose(normal, normalised(values), rtol=2**-14, atol=2.0 ** -normal_bits(width))


@pytest.mark.parametrize("own", [1, 3, 4])
@pytest.mark.parametrize("normal", [False, True])
def test_product(kernels: HostKernels, normal: bool, own: int) -> None:
    """Of some groups of columns; the others stay zero. It is close to float's."""
    width, n = 384, own * TILE
    x, matrix, bias = to_bf16(real(2, width)), chance(3, width, n) / 16, chance(4, n)
    linear = quantised_by_column(matrix)
    found = Core(kernels, width, normal, own).product(x, linear.values, linear.scale, bias)
    assert np.array_equal(found, product_few(oracle_of(x, width, normal), linear.values, linear.scale, bias))
    values = from_bf16(x).astype(np.float64)
    exact = (normalised(values) if normal else values) @ matrix + bias
    cosines = (exact * found).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.9999


@pytest.mark.parametrize("width", [128, 2048])
def test_the_largest_sums(kernels: HostKernels, width: int) -> None:
    """Do not overflow: all values and weights as large as they can be, in one direction and in the other."""
    x = np.full((ROWS, width), to_bf16(np.float32(1.99))[()])
    x[1::2] |= 0x8000
    values = np.full((width, TILE), 127, np.int8)
    values[:, ::2] = -127
    one, none = np.ones(TILE, np.float32), np.zeros(TILE, np.float32)
    found = Core(kernels, width, normal=False).product(x, values, one, none)
    assert np.array_equal(found, product_few(plain_rows(x, plain_bits(width)), values, one, none))
    assert np.allclose(found, from_bf16(x) @ values.astype(np.float32), rtol=2**-14)


def test_the_largest_normal_sums(kernels: HostKernels) -> None:
    """Neither do those of a row that is one value beside nothing, nor of one that is as its weights are."""
    width = 2048
    weights = np.sign(chance(1, width, TILE))
    values = weights.T[:ROWS] * np.float32(100)
    values[0] = 0
    values[0, 5] = 1e4
    x, eights = to_bf16(values), (weights * 127).astype(np.int8)
    one, none = np.ones(TILE, np.float32), np.zeros(TILE, np.float32)
    found = Core(kernels, width, normal=True).product(x, eights, one, none)
    assert np.array_equal(found, product_few(normal_rows(x, width, normal_bits(width)), eights, one, none))
    assert np.allclose(found, normalised(from_bf16(x)) @ eights, rtol=2**-9, atol=30)


def test_sums_become_float(kernels: HostKernels) -> None:
    """To 15 bits and more, whatever their size, in units and scales of their own."""
    core = Core(kernels, 128, normal=False)
    core.see(to_bf16(chance(1, ROWS, 128)))
    core.statistics[304:306] = 0
    magnitudes = np.concatenate([2 ** np.arange(31), [2**31 - 1, 65535, 65537, 98304]]).astype(np.int64)
    sums = np.resize(np.concatenate([[-(2**31), 0], magnitudes, -magnitudes]), ROWS * TILE).astype(np.int32)
    core.sums[: sums.size] = sums
    columns = np.zeros((4, 2, TILE), np.float32)
    columns[0, 0], columns[0, 1] = np.abs(chance(2, TILE)) + 0.1, chance(3, TILE)
    unit = core.statistics.view(np.float32)[UNIT : UNIT + ROWS]
    exact = unblocked(sums.reshape(4, 8, 4, 8)) * unit.astype(np.float64)[:, None] * columns[0, 0]
    core.ask("few_finish", columns, core.statistics, core.sums)
    found = unblocked(core.sums.view(np.float32)[: ROWS * TILE].reshape(4, 16, 4, 4))
    lost = np.abs(found - (exact + columns[0, 1]))
    assert (lost <= 2**-15 * np.abs(exact) + 2**-23 * np.abs(columns[0, 1])).all()


@pytest.mark.parametrize("normal", [False, True])
def test_rows_of_no_numbers(kernels: HostKernels, normal: bool) -> None:
    """Rows that nobody wrote leave the others alone."""
    width = 256
    x, linear = to_bf16(real(1, width)), quantised_by_column(chance(2, width, TILE))
    bias = chance(3, TILE)
    core = Core(kernels, width, normal)
    found = core.product(x, linear.values, linear.scale, bias)
    x[5::2] = 0x7FC0
    x[6] = 0xFF80
    others = core.product(x, linear.values, linear.scale, bias)
    count = [0, 1, 2, 3, 4, 8, 10, 12, 14]
    assert np.array_equal(others[count], found[count])
