"""Products of few rows on the whole array: what the oracle says of whole matrices, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.layers import quantised_by_column
from npu.weights import Norm
from npu.xdna.array import Array
from npu.xdna.check import check
from npu.xdna.composition import Constants
from npu.xdna.cost import EXPECTED, KERNELS, Bound, price
from npu.xdna.counts import disagreements
from npu.xdna.design import Design
from npu.xdna.few import ROUND, ROWS, FewComposer, folded, groups, normal_bits, plain_bits
from npu.xdna.gemm import SPAN
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import from_bf16, to_bf16
from npu.xdna.oracle_bf16 import ended_bf16
from npu.xdna.oracle_few import normal_rows, plain_rows, product_few
from npu.xdna.overlay import Activation, overlay
from npu.xdna.regions import Region

Bits = NDArray[np.uint16]
Values = NDArray[Any]


def chance(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Bench:
    """A composer whose stages are run at once, on memory that can be looked at."""

    def __init__(self, stacks: dict[str, int]) -> None:
        self.constants = Constants()
        self.composer = FewComposer(self.constants)
        self.composer.unit("all")
        self.stacks = stacks
        self._inputs: list[tuple[Region, Bits]] = []

    def rows(self, values: Bits, width: int) -> Region:
        """A region that holds these 16 rows, and zeros behind them."""
        region = self.composer.input(ROWS, width)
        self._inputs.append((region, np.pad(values, ((0, 0), (0, width - values.shape[1])))))
        return region

    def wide(self, values: Bits) -> Region:
        """The same as what a stage makes."""
        region = self.composer.few_region(values.shape[1])
        self._inputs.append((region, np.pad(values, ((0, 0), (0, region.width - values.shape[1])))))
        return region

    def design(self) -> Design:
        """Everything composed so far as one dispatch."""
        sequence = self.composer.sequence("all", self.composer.units, self.composer.work)
        return overlay(self.stacks, (sequence,))

    def memory(self) -> dict[str, NDArray[np.uint8]]:
        """The host's buffers."""
        work = np.full(self.composer.work, 0x7FC0, np.uint16)  # what nobody wrote is no number
        for region, values in self._inputs:
            work[region.offset : region.offset + values.size] = values.ravel()
        memory = {"constants": self.constants.laid(), "headers": self.composer.headers({}), "work": work}
        return {name: each.view(np.uint8) for name, each in memory.items()}

    def run(self, kernels: HostKernels, seed: int) -> Bits:
        """-> the work buffer afterwards."""
        memory = self.memory()
        Array(self.design(), kernels, seed=seed).run("all", memory)
        return memory["work"].view(np.uint16)


def read(work: Bits, region: Region, width: int) -> Bits:
    """Its rows, so wide."""
    end = region.offset + region.rows * region.width
    return work[region.offset : end].reshape(region.rows, region.width)[:, :width]


def wanted(x: Bits, matrix: Values, bias: Values | None, norm: Norm | None = None) -> NDArray[np.float32]:
    """What the product makes, before what follows it."""
    width = matrix.shape[0]
    deep = np.pad(x, ((0, 0), (0, -width % 8)))
    if norm is not None:
        matrix, bias = folded(norm, matrix, bias)
    linear = quantised_by_column(matrix)
    values = np.pad(linear.values, ((0, -width % 8), (0, 0)))
    rows = normal_rows(deep, width, normal_bits(width)) if norm else plain_rows(deep, plain_bits(width))
    return product_few(rows, values, linear.scale, np.float32(0) if bias is None else bias)


@dataclass(frozen=True)
class Case:
    """A product."""

    depth: int
    n: int
    norm: bool = False
    function: Activation | None = None
    other: bool = False
    multiplied: bool = False
    rest: bool = False


CASES = {
    "one column of cores and less": Case(128, 50),
    "two rows of cores, a norm": Case(300, 500, norm=True, rest=True),
    "groups of other numbers, a function": Case(256, 1600, norm=True, function=Activation.GELU),
    "a residual": Case(384, 300, other=True),
    "a gate": Case(128, 2100, function=Activation.SILU, other=True, multiplied=True),
    "two rounds": Case(128, 4096 + 1100, rest=True),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(2))
def test_product(kernels: HostKernels, name: str, seed: int) -> None:
    """Is the kernels', whichever cores have columns, and zero behind its own up to whole spans."""
    case, bench = CASES[name], Bench(dict(kernels.stacks))
    x, matrix, bias = (
        to_bf16(chance(1, ROWS, case.depth) * 3 + 0.5),
        chance(2, case.depth, case.n) / 8,
        chance(3, case.n),
    )
    norm = Norm(chance(4, case.depth) / 4 + 1, chance(5, case.depth)) if case.norm else None
    other = to_bf16(chance(6, ROWS, case.n))
    a, to = bench.rows(x, -(-case.depth // 128) * 128), bench.composer.few_region(case.n)
    rest = bench.composer.few_region(case.n) if case.rest else None
    bench.composer.few(
        "product", a, matrix, to, bias=bias, norm=norm, function=case.function,
        other=bench.wide(other) if case.other else None, multiplied=case.multiplied, rest=rest,
    )  # fmt: skip
    work = bench.run(kernels, seed)
    y = ended_bf16(
        wanted(x, matrix, bias, norm), case.function, other if case.other else None, case.multiplied
    )
    found = read(work, to, case.n)
    assert np.array_equal(found, to_bf16(y))
    if rest is not None:
        assert np.array_equal(read(work, rest, case.n), to_bf16(y - from_bf16(found)))
    assert not read(work, to, -(-case.n // SPAN) * SPAN)[:, case.n :].any()


def test_products_in_turn(portable: HostKernels) -> None:
    """A layer's network: what one makes is read by the next, and added to the rows themselves, in place."""
    bench = Bench(dict(portable.stacks))
    first, second = chance(2, 128, 512) / 8, chance(3, 512, 128) / 8
    x, norm = to_bf16(chance(1, ROWS, 128)), Norm(chance(4, 128), None)
    residual, hidden = bench.wide(x), bench.composer.few_region(512)
    bench.composer.few("up", residual, first, hidden, norm=norm, function=Activation.GELU)
    bench.composer.few("down", hidden, second, residual, other=residual)
    work = bench.run(portable, 0)
    inner = to_bf16(ended_bf16(wanted(x, first, None, norm), Activation.GELU))
    assert np.array_equal(read(work, hidden, 512), inner)
    assert np.array_equal(
        read(work, residual, 128), to_bf16(ended_bf16(wanted(inner, second, None), None, x))
    )


def test_precision() -> None:
    """Rows as a decoder has them, two channels of which stand out, by weights in 8 bits: cosines above 0.9999."""
    values = chance(1, ROWS, 512)
    values[:, 3] *= 20
    values[:, 40] += 8
    x, matrix, norm = to_bf16(values), chance(2, 512, 256) / 20, Norm(chance(3, 512) / 4 + 1, chance(4, 512))
    exact = from_bf16(x).astype(np.float64)
    normal = (exact - exact.mean(axis=1, keepdims=True)) / np.sqrt(exact.var(axis=1, keepdims=True) + 1e-5)
    assert norm.offset is not None
    for found, right in (
        (wanted(x, matrix, None), exact @ matrix),
        (wanted(x, matrix, None, norm), (normal * norm.gain + norm.offset) @ matrix),
    ):
        cosines = (found * right).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(right, axis=1)
        assert cosines.min() > 0.9999


def test_bits() -> None:
    """As many as there can be."""
    assert [normal_bits(width) for width in (64, 384, 512, 1024, 1280)] == [12, 10, 10, 10, 9]
    for width in (64, 512, 513, 2048, 5120):
        bits = plain_bits(width)
        assert 127 * width * 2**bits < 2**31 and (bits == 15 or 127 * width * 2 ** (bits + 1) >= 2**31)


def test_groups() -> None:
    """Each row of cores has a group more for every 1,024 columns from its own first on."""
    assert [groups(n) for n in (1, 256, 257, 1536, ROUND, 9000)] == [
        (1, 0, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0), (2, 2, 1, 1), (4, 4, 4, 4), (4, 4, 4, 4),
    ]  # fmt: skip


class Idle:
    """Kernels that do nothing but keep headers."""

    def call(self, name: str, arguments: Sequence[NDArray[np.uint8] | int]) -> None:
        assert name in KERNELS
        if name == "keep_header":
            tile, kept = arguments
            assert isinstance(tile, np.ndarray) and isinstance(kept, np.ndarray)
            kept[:] = tile[: kept.size]


def composed() -> Bench:
    """Of two rounds, with all that can follow; and one on some cores."""
    bench = Bench(dict.fromkeys(KERNELS, 0))
    a, to, rest = bench.composer.input(ROWS, 256), *(bench.composer.few_region(5000) for _ in range(2))
    matrix = np.zeros((256, 5000), np.float32)
    norm = Norm(matrix[:, 0], None)
    bench.composer.few(
        "all", a, matrix, to, norm=norm, function=Activation.GELU, other=to, multiplied=True, rest=rest
    )
    bench.composer.few("some", a, matrix[:, :1500], to)
    return bench


def test_calls() -> None:
    """Are those that stages say."""
    bench, kernels = composed(), Idle()
    design = bench.design()
    assert not disagreements(
        design, design.sequences[0], bench.composer.units["all"], bench.memory(), kernels
    )


def test_limits(kernels: HostKernels) -> None:
    """It fits the hardware, stack included."""
    bench = composed()
    bench.stacks = dict(kernels.stacks)
    assert not check(bench.design())


def test_price() -> None:
    """A vocabulary takes as long as its bytes do."""
    bench = Bench(dict.fromkeys(KERNELS, 0))
    a, to = bench.composer.input(ROWS, 512), bench.composer.few_region(ROUND)
    bench.composer.few("head", a, np.zeros((512, ROUND), np.float32), to)
    (stage,), design = bench.composer.units["all"], bench.design()
    found = price(design, stage, design.sequences[0].arguments, EXPECTED)
    assert found.bound is Bound.MEMORY
    assert 512 * ROUND < found.traffic.inward < 1.2 * 512 * ROUND
