"""Keys and values of windows, and attention to them, on the whole array: what the kernels' oracles say, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna.array import Array
from npu.xdna.check import check
from npu.xdna.composition import Constants
from npu.xdna.cost import KERNELS
from npu.xdna.counts import disagreements
from npu.xdna.design import Design
from npu.xdna.gemm import SPAN, TILE
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import product_bf16, to_bf16
from npu.xdna.oracle_windows import laid_tile, narrowed_tile
from npu.xdna.overlay import B_ORDER, overlay
from npu.xdna.regions import LANE
from npu.xdna.windows import Crossed, WindowsComposer

Bits = NDArray[np.uint16]

HEADS, LAYERS, DEPTH = 4, 2, 96
EACH = HEADS * LANE
STATES = 100  # of a window


def chance(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Bench:
    """A composer whose stages are run at once, on memory that can be looked at."""

    def __init__(self, kernels: HostKernels, seed: int) -> None:
        self._constants = Constants()
        self.composer = WindowsComposer(self._constants)
        self.composer.unit("all")
        self._kernels, self._seed = kernels, seed

    def design(self) -> Design:
        """Everything composed so far as one dispatch."""
        composer = self.composer
        return overlay(self._kernels.stacks, (composer.sequence("all", composer.units, composer.work),))

    def memory(self, lengths: dict[str, Any], **given: Bits) -> dict[str, NDArray[np.uint8]]:
        """Of the sequence; what nobody wrote is no number."""
        sizes = self.composer.arguments(self.composer.work)
        memory = {name: np.full(block.count, 0x7FC0, np.uint16) for name, block in sizes.items()}
        memory["constants"] = self._constants.laid()
        memory["headers"] = self.composer.headers(lengths)
        for name, values in given.items():
            memory[name][: values.size] = values.ravel()
        return {name: each.view(np.uint8) for name, each in memory.items()}

    def run(self, lengths: dict[str, Any], **given: Bits) -> Bits:
        """-> the work buffer afterwards."""
        memory = self.memory(lengths, **given)
        Array(self.design(), self._kernels, seed=self._seed).run("all", memory)
        return memory["work"].view(np.uint16)

    def disagreements(self, lengths: dict[str, Any]) -> list[str]:
        """Stages that say other numbers of calls than are counted."""
        design = self.design()
        stages = self.composer.units["all"]
        return disagreements(design, design.sequences[0], stages, self.memory(lengths), self._kernels)


@pytest.fixture(params=range(2))
def bench(portable: HostKernels, request: pytest.FixtureRequest) -> Bench:
    return Bench(portable, request.param)


def reached(both: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[8192]: a tile of keys and one of values, as they lie, to what comes to a core."""
    halves = np.split(both.view(np.uint16), 2)
    return np.concatenate([half[B_ORDER.indices()] for half in halves]).view(np.uint8)


def weights(layer: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Of keys and of values, with what is added."""
    scale = np.float32(DEPTH**-0.5)
    return [(chance(10 * layer + n, DEPTH, EACH) * scale, chance(10 * layer + n + 5, EACH)) for n in (1, 2)]


def crossing(bench: Bench, states: int) -> Crossed:
    """Composed for all layers, with states at the beginning of the work buffer."""
    x = bench.composer.input(-(-states // SPAN) * SPAN, DEPTH)
    to = bench.composer.crossed(x.rows, LAYERS, HEADS)
    for layer in range(LAYERS):
        key, value = weights(layer)
        bench.composer.crossing(
            f"layer {layer}", x.view(), key, value, to, layer=layer, rows=lambda n: int(n["states"])
        )
    return to


def test_crossing(bench: Bench) -> None:
    """Keys and values in 8 bits, a scale for each tile; what lies behind the states is zero, whatever came."""
    x = chance(7, SPAN, DEPTH)
    x[STATES:] = 1e6
    to = crossing(bench, SPAN)
    work = bench.run({"states": STATES}, work=to_bf16(x))
    found, scales = to.tiles_of(work), to.scales_of(work)
    for layer in range(LAYERS):
        made = [
            product_bf16(to_bf16(x), to_bf16(matrix), np.zeros((SPAN, EACH), np.float32)) + bias
            for matrix, bias in weights(layer)
        ]
        for block, head in np.ndindex(SPAN // TILE, HEADS):
            first = block * TILE
            rows, lane = slice(first, first + TILE), slice(head * LANE, head * LANE + LANE)
            tiles = [narrowed_tile(each[rows, lane], STATES - first) for each in made]
            assert np.array_equal(scales[block, layer, head], [scale for _, scale in tiles])
            laid = laid_tile(*(values for values, _ in tiles))
            assert np.array_equal(reached(found[block, layer, head]), laid)


def test_stages(portable: HostKernels) -> None:
    """Say how often their kernels are called, and fit the hardware."""
    bench = Bench(portable, 0)
    crossing(bench, 300)
    assert not check(bench.design())
    assert not bench.disagreements({"states": 300})
    assert {name for stage in bench.composer.units["all"] for name in stage.calls} <= set(KERNELS)
