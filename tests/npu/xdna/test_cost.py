"""The cost model is held to what others have published of products on this hardware, and to its own arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from npu.xdna import overlay, overlay_i8
from npu.xdna.cost import (
    CONSERVATIVE,
    EXPECTED,
    KERNELS,
    MACHINES,
    PUBLISHED,
    Bound,
    Estimate,
    Machine,
    Unit,
    price,
    traffic,
)
from npu.xdna.design import Await, Block, Design, Element, Fifo, Pattern, Stage, Start, Tile
from npu.xdna.gemm import Shape, gemm
from streaming.errors import ModelError

SIDE = 4  # rows and columns of cores


@dataclass(frozen=True)
class Product:
    """A large product, its tiles on a core, and what it holds."""

    shape: tuple[int, int, int]  # m, k, n
    tile: tuple[int, int, int]  # the same
    given: Element
    found: Element

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        m, k, n = self.shape
        return 2 * m * k * n


@dataclass(frozen=True)
class Point:
    """What somebody measured, and what they say of their kernel and machine."""

    product: Product
    machine: Machine
    measured: float  # 10^12 operations a second


def machine(clock: float, bandwidth: float, unit: Unit, sustained: float) -> Machine:
    """Rates are those of the source: what the model adds is how they go together."""
    return replace(
        CONSERVATIVE,
        clock=clock,
        bandwidth=bandwidth,
        products={**CONSERVATIVE.products, unit: sustained},
    )


I8, I32, BF16, F32 = Element.I8, Element.I32, Element.BF16, Element.F32
CUBE = (64, 64, 64)
POINTS = {
    # arXiv 2512.13282: a 7940HS at 1.0 GHz, 15 GB/s
    "paper, 8 bits to 8": Point(
        Product((4032, 4032, 4032), (112, 112, 112), I8, I8), machine(1.0e9, 15e9, Unit.I8, 212.5), 6.52
    ),
    "paper, 8 bits to 32": Point(
        Product((4160, 4224, 4224), (80, 88, 96), I8, I32), machine(1.0e9, 15e9, Unit.I8, 146), 4.42
    ),
    "paper, bf16": Point(
        Product((4224, 4032, 4224), (96, 56, 96), BF16, BF16), machine(1.0e9, 15e9, Unit.BF16, 99.8), 3.12
    ),
    # ignite-xdna: an 8700G at 1.8 GHz, kernels by Peano
    "ignite, 8 bits to 32": Point(
        Product((4096, 2048, 2048), CUBE, I8, I32), machine(1.8e9, 26e9, Unit.I8, 103.3), 4.61
    ),
    "ignite, bf16": Point(
        Product((2048, 2048, 2048), CUBE, BF16, F32), machine(1.8e9, 26e9, Unit.BF16, 48.3), 2.49
    ),
    # iree-amd-aie, pull request 415: it does not say how fast its kernel is; 64 is assumed
    "iree, bf16": Point(
        Product((2048, 4096, 2048), CUBE, BF16, F32), machine(1.0e9, 15e9, Unit.BF16, 64), 1.94
    ),
}


def product_stage(product: Product) -> tuple[Design, Stage, Mapping[str, Block]]:
    """The transfers of `gemm`, with tiles of any size. Nothing is awaited before the end: theirs overlap."""
    (m, k, n), (tile_m, tile_k, tile_n) = product.shape, product.tile
    arguments = {
        "a": Block(product.given, (m, k)),
        "b": Block(product.given, (k, n)),
        "c": Block(product.found, (m, n)),
    }
    spans = [(row, column) for row in range(0, m, SIDE * tile_m) for column in range(0, n, SIDE * tile_n)]
    steps: list[Start | Await] = []
    for row, column in spans:
        for i in range(SIDE):
            own = column + i * tile_n
            rows = Pattern((k // tile_k, tile_m, tile_k), (tile_k, k, 1), (row + i * tile_m) * k)
            columns = Pattern((k // tile_k, tile_k, tile_n), (tile_k * n, n, 1), own)
            out = Pattern((SIDE * tile_m, tile_n), (n, 1), row * n + own)
            steps += [Start(f"A{i}", "a", rows), Start(f"B{i}", "b", columns), Start(f"C{i}", "c", out)]
    steps += [Await(f"{kind}{i}") for kind in "CAB" for i in range(SIDE)]
    kernel = "gemm_i8" if product.given is I8 else "gemm_bf16"
    of_a_core = len(spans) * tile_m * k * tile_n
    stage = Stage("product", tuple(steps), {kernel: round(of_a_core / KERNELS[kernel].products)})
    one = Block(I8, (4,))
    fifos = [Fifo(f"{kind}{i}", Tile(i, 0), (Tile(i, 1),), one) for kind in "AB" for i in range(SIDE)]
    fifos += [Fifo(f"C{i}", Tile(i, 1), (Tile(i, 0),), one) for i in range(SIDE)]
    return Design("product", tuple(fifos), (), (), (), ()), stage, arguments


@pytest.mark.parametrize("name", POINTS)
def test_published_products(name: str) -> None:
    """Lie within the bounds that the model states."""
    point = POINTS[name]
    found = price(*product_stage(point.product), point.machine).time
    measured = point.product.operations / (point.measured * 1e12)
    assert found.low <= measured <= found.high


def test_the_documentation() -> None:
    """It has all these points, as the model says them."""
    text = (Path(__file__).parents[3] / "docs" / "npu.md").read_text()
    for point in POINTS.values():
        found = price(*product_stage(point.product), point.machine).time.expected
        shape = " x ".join(map(str, point.product.shape))
        speed = point.product.operations / found / 1e12
        rows = [line for line in text.splitlines() if shape in line]
        assert any(line.endswith(f" {speed:.2f} | {point.measured:.2f} |") for line in rows), (shape, speed)


SHAPE = Shape(512, 192, 256)


def stage_of(shape: Shape, calls: Mapping[str, int]) -> tuple[Design, Stage, Mapping[str, Block]]:
    """Of our own product."""
    design = gemm({"zero_i32": 0, "gemm_i8": 0}, (shape,))
    return design, Stage("product", design.sequences[0].steps, calls), design.sequences[0].arguments


def test_traffic_of_a_product() -> None:
    """Rows and columns come once for each 256 x 256, with a header for each row; results leave once."""
    moved = traffic(*stage_of(SHAPE, {}))
    headers, a, b, c = 2 * 4 * 4096, 512 * 192, 2 * 192 * 256, 512 * 256 * 4
    assert moved.inward == headers + a + b
    assert moved.outward == c
    assert moved.busiest == c // 4
    assert moved.tasks == 2 * 16
    assert moved.waits == 12


def test_transfers_that_overlap() -> None:
    """Only the first wait is one: until each fifo has had its first transfer. What drains begins anew."""
    design, stage, arguments = stage_of(SHAPE, {})
    assert traffic(design, stage, arguments).idle_tasks == 16
    halves = (*stage.steps[:16], *stage.steps[32:], *stage.steps[16:])
    assert traffic(design, replace(stage, steps=halves), arguments).idle_tasks == 32


def test_transfers_that_roll() -> None:
    """What goes on while some are awaited is never idle: only the first transfers are waited for."""
    design, stage, arguments = stage_of(SHAPE, {})
    ends = tuple(Await(f"{kind}{i}", 1 + (kind == "A")) for kind in "CAB" for i in range(SIDE))
    rolling = (*stage.steps[:32], *ends, *stage.steps[:16], *ends, *stage.steps[16:])
    assert traffic(design, replace(stage, steps=rolling), arguments).idle_tasks == 16


def test_transfers_ahead() -> None:
    """Of a stage that follows another only rows are waited for, which are its results; a full queue is awaited first."""
    design, stage, arguments = stage_of(SHAPE, {})
    first = replace(stage, first=16)
    assert traffic(design, first, arguments).idle_tasks == 16
    short = replace(first, steps=(*first.steps[:16], *first.steps[32:]))
    after_short, after_long = (traffic(design, first, arguments, before) for before in (short, first))
    assert after_short.idle_tasks == after_long.idle_tasks == 4
    assert (after_short.waits, after_long.waits) == (12, 12)


def test_a_price() -> None:
    """It is that of the slowest part, and of the wait for the first transfers."""
    calls = {"zero_i32": 2, "gemm_i8": 6}
    found = price(*stage_of(SHAPE, calls), EXPECTED)
    cycles = 6 * 64**3 / 103.3 + 2 * 512 * EXPECTED.vector
    assert found.parts[Bound.CORES].expected == pytest.approx(cycles / 1.6e9)
    assert found.products == 16 * 6 * 64**3 == 512 * 192 * 256
    moved = found.traffic.inward + found.traffic.outward
    assert found.parts[Bound.MEMORY].expected == pytest.approx(moved / 20e9)
    assert found.bound is Bound.COMMANDS
    assert found.time.expected == pytest.approx(found.parts[Bound.COMMANDS].expected + 16e-6)


def test_a_deep_product() -> None:
    """It is bound by its cores, and as sure as what was published."""
    shape = Shape(256, 64 * 400, 256)
    found = price(*stage_of(shape, {"zero_i32": 1, "gemm_i8": 400}), CONSERVATIVE)
    cores = found.parts[Bound.CORES]
    assert found.bound is Bound.CORES
    assert cores.low == pytest.approx(cores.expected * PUBLISHED.low, rel=1e-3)
    assert cores.high == pytest.approx(cores.expected * PUBLISHED.high, rel=1e-2)


def test_a_part_of_a_call() -> None:
    """Kernels that pass over rows do the part that is said, and no more products."""
    stage = stage_of(SHAPE, {"zero_i32": 1, "gemm_i8": 8})
    half, all_of_it = price(*stage, EXPECTED, {"gemm_i8": 0.5}), price(*stage, EXPECTED)
    assert 2 * half.products == all_of_it.products
    cycles = 4 * 64**3 / 103.3 + 512 * EXPECTED.vector
    assert half.parts[Bound.CORES].expected == pytest.approx(cycles / 1.6e9)


def test_what_nobody_measured() -> None:
    """It may take half as long or three times as long."""
    found = price(*stage_of(SHAPE, {"attention_step_i8": 10}), EXPECTED)
    for part in found.parts.values():
        assert (part.low, part.high) == pytest.approx((part.expected / 2, part.expected * 3))


def test_sums() -> None:
    """Bounds are added up as well."""
    assert Estimate(1, 2, 5) + Estimate(0, 1, 2).times(2) == Estimate(1, 4, 9)


def test_machines() -> None:
    """From the careful to the hopeful."""
    calls = {"zero_i32": 1, "gemm_i8": 16, "settle_i32": 1, "narrow_i16": 1}
    careful, expected, hopeful = (
        price(*stage_of(SHAPE, calls), each).parts[Bound.CORES].expected for each in MACHINES
    )
    assert careful > expected > hopeful


def test_a_kernel_without_a_price() -> None:
    """The complaint says where prices are."""
    with pytest.raises(ModelError, match=r"the kernel nothing .* npu/xdna/cost.py"):
        price(*stage_of(SHAPE, {"nothing": 1}), EXPECTED)


def test_every_kernel_of_the_designs() -> None:
    """Has a price."""
    stacks = dict.fromkeys(KERNELS, 0)
    designs = (gemm(stacks, (SHAPE,)), overlay_i8.overlay(stacks, ()), overlay.overlay(stacks, ()))
    assert {function.name for design in designs for function in design.functions} <= set(KERNELS)
