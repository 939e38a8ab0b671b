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
from npu.xdna.oracle import from_bf16, product_bf16, to_bf16
from npu.xdna.oracle_windows import Window, laid_tile, narrowed_tile, windows_attention
from npu.xdna.overlay import B_ORDER, overlay
from npu.xdna.regions import LANE, Region
from npu.xdna.windows import SCALES, STATES, Crossed, Windows, WindowsComposer, laid_scales
from streaming.errors import ModelError

Bits = NDArray[np.uint16]

HEADS, LAYERS, DEPTH = 4, 2, 96
EACH = HEADS * LANE
COUNTED = 100  # states of a window


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
    x[COUNTED:] = 1e6
    to = crossing(bench, SPAN)
    work = bench.run({"states": COUNTED}, work=to_bf16(x))
    found, scales = to.tiles_of(work), to.scales_of(work)
    for layer in range(LAYERS):
        made = [
            product_bf16(to_bf16(x), to_bf16(matrix), np.zeros((SPAN, EACH), np.float32)) + bias
            for matrix, bias in weights(layer)
        ]
        for block, head in np.ndindex(SPAN // TILE, HEADS):
            first = block * TILE
            rows, lane = slice(first, first + TILE), slice(head * LANE, head * LANE + LANE)
            tiles = [narrowed_tile(each[rows, lane], COUNTED - first) for each in made]
            assert np.array_equal(scales[block, layer, head], [scale for _, scale in tiles])
            laid = laid_tile(*(values for values, _ in tiles))
            assert np.array_equal(reached(found[block, layer, head]), laid)


LENGTHS = (100, 128, 1, 0, 77)  # states of five windows in eight groups
GROUPS, BLOCKS = 8, 2
SCALE = 1 / 8
OUT_OF_RANGE = 0x55  # what lies in tiles that nobody wrote


def counts(*_: object) -> NDArray[np.int64]:
    return np.array(LENGTHS, np.int64)


def attending(bench: Bench, layer: int = 1) -> tuple[Region, Windows]:
    """Composed, with queries at the beginning of the work buffer; -> where what they found goes."""
    query, to = bench.composer.input(TILE, EACH), bench.composer.region(SPAN, EACH)
    windows = Windows(GROUPS, BLOCKS, LAYERS, layer)
    bench.composer.windows("windows", query, windows, to, heads=HEADS, scale=SCALE, states=counts)
    return to, windows


def attended(
    bench: Bench, q: Bits, to: Region, windows: Windows, tiles: list[Bits], scales: list[NDArray[np.float32]]
) -> Bits:
    """tiles, scales: of each window, as a crossing leaves them. -> [256, columns of all heads]"""
    sizes = windows.sizes(HEADS)
    states, kept = (np.full(sizes[name], OUT_OF_RANGE * 0x101, np.uint16) for name in (STATES, SCALES))
    for at, (mine, own) in enumerate(zip(tiles, scales, strict=True)):
        windows.tiles_of(states, HEADS)[:, at] = mine
        windows.scales_of(kept, HEADS)[at] = laid_scales(own)
    work = bench.run({}, work=q, **{STATES: states, SCALES: kept})
    return work[to.offset : to.offset + to.rows * to.width].reshape(to.rows, to.width)[:, :EACH]


def test_attention(bench: Bench) -> None:
    """Of row j to window j, four heads, of windows that end anywhere; rows behind are zero."""
    random = np.random.default_rng(5)
    shape = (len(LENGTHS), LAYERS, HEADS, BLOCKS * TILE, LANE)
    keys, values = (random.integers(-127, 128, shape, np.int8) for _ in range(2))
    scales = random.uniform(0.5, 1.5, (len(LENGTHS), BLOCKS, LAYERS, HEADS, 2)).astype(np.float32) / 60
    tiles = np.zeros((len(LENGTHS), BLOCKS, LAYERS, HEADS, 4096), np.uint16)
    for at, block, layer, head in np.ndindex(tiles.shape[:-1]):
        span = slice(block * TILE, block * TILE + TILE)
        laid = laid_tile(keys[at, layer, head, span], values[at, layer, head, span]).view(np.uint16)
        tiles[at, block, layer, head].reshape(2, -1)[:, B_ORDER.indices()] = laid.reshape(2, -1)
    q = to_bf16(chance(3, TILE, EACH))
    to, windows = attending(bench)
    found = attended(bench, q, to, windows, list(tiles), list(scales))
    for head in range(HEADS):
        lane = slice(head * LANE, head * LANE + LANE)
        each = [
            Window(keys[at, 1, head], values[at, 1, head], scales[at, :, 1, head], states)
            for at, states in enumerate(LENGTHS)
        ]
        expected = windows_attention(q[: len(LENGTHS), lane], each, np.float32(SCALE / np.log(2)))
        assert np.array_equal(found[: len(LENGTHS), lane], expected)
    assert not found[len(LENGTHS) :].any()


def test_close_to_floats(portable: HostKernels) -> None:
    """What is made of states in 8 bits is as good as attention in floats, of each window to its own states."""
    making, using = Bench(portable, 0), Bench(portable, 1)
    crossed = crossing(making, SPAN)
    to, windows = attending(using)
    x, q = chance(11, len(LENGTHS), SPAN, DEPTH), chance(12, TILE, EACH)
    tiles, scales = [], []
    for at, states in enumerate(LENGTHS):
        work = making.run({"states": states}, work=to_bf16(x[at]))
        tiles.append(crossed.tiles_of(work).view(np.uint16)[:BLOCKS])
        scales.append(crossed.scales_of(work)[:BLOCKS])
    found = from_bf16(attended(using, to_bf16(q), to, windows, tiles, scales))
    for at, states in enumerate(LENGTHS):
        if not states:
            assert not found[at].any()
            continue
        keys, values = (
            (x[at, :states] @ matrix + bias).reshape(states, HEADS, LANE) for matrix, bias in weights(1)
        )
        logits = np.einsum("hd,khd->kh", q[at].reshape(HEADS, LANE), keys) * SCALE
        powers = np.exp(logits - logits.max(axis=0))
        exact = np.einsum("kh,khd->hd", powers / powers.sum(axis=0), values).ravel()
        assert found[at] @ exact / np.linalg.norm(found[at]) / np.linalg.norm(exact) >= 0.9995


@pytest.mark.parametrize(("groups", "blocks"), [(6, 2), (20, 2), (0, 2), (4, 129)])
def test_what_is_no_group(groups: int, blocks: int) -> None:
    """Is refused with what to do."""
    with pytest.raises(ModelError, match="change the groups"):
        Windows(groups, blocks, LAYERS, 0)


def test_stages(portable: HostKernels) -> None:
    """Say how often their kernels are called, and fit the hardware."""
    bench = Bench(portable, 0)
    crossing(bench, 300)
    attending(bench)
    assert not check(bench.design())
    assert not bench.disagreements({"states": 300})
    assert {name for stage in bench.composer.units["all"] for name in stage.calls} <= set(KERNELS)
