"""The overlay's operations on the whole array: what the kernels' oracles say of whole matrices, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna import composer, oracle
from npu.xdna.array import Array
from npu.xdna.check import check
from npu.xdna.composer import Composer
from npu.xdna.composition import Constants
from npu.xdna.design import Design
from npu.xdna.gemm import SPAN
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import from_bf16, to_bf16
from npu.xdna.oracle_bf16 import Seen, attention_bf16, epilogue_bf16, layer_norm_bf16, rope_bf16
from npu.xdna.overlay import Activation, overlay
from npu.xdna.regions import LANE, Region, View
from npu.xdna.streams import padded

Bits = NDArray[np.uint16]


def chance(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Bench:
    """A composer whose stages are run at once, on memory that can be looked at."""

    def __init__(self, kernels: HostKernels, seed: int = 0, few: bool = False) -> None:
        self.constants = Constants()
        self.composer = Composer(self.constants, few)
        self._kernels = kernels
        self._seed = seed
        self._inputs: list[tuple[Region, Bits]] = []

    def matrix(self, values: Bits, more_rows: int = 0) -> Region:
        """A region that holds this."""
        rows, width = values.shape
        region = self.composer.region(rows, width, more_rows)
        self._inputs.append((region, values))
        return region

    def design(self) -> Design:
        """Everything composed so far as one dispatch."""
        composer = self.composer
        sequence = composer.sequence("all", composer.units, composer.work)
        return overlay(self._kernels.stacks, (sequence,))

    def run(self, design: Design | None = None, **lengths: int) -> Bits:
        """-> the work buffer afterwards."""
        work = np.full(self.composer.work, 0x7FC0, np.uint16)  # what nobody wrote is no number
        for region, values in self._inputs:
            rows, width = values.shape
            whole = np.zeros((region.rows, region.width), np.uint16)
            whole[:rows, :width] = values
            work[region.offset : region.offset + whole.size] = whole.ravel()
        memory = {"constants": self.constants.laid(), "headers": self.composer.headers(lengths), "work": work}
        array = Array(design or self.design(), self._kernels, seed=self._seed)
        array.run("all", {name: each.view(np.uint8) for name, each in memory.items()})
        return work

    @staticmethod
    def read(work: Bits, region: Region, rows: int, width: int) -> Bits:
        """The corner of a region."""
        end = region.offset + region.rows * region.width
        return work[region.offset : end].reshape(-1, region.width)[:rows, :width]


@pytest.fixture(params=range(2))
def bench(kernels: HostKernels, request: pytest.FixtureRequest) -> Bench:
    bench = Bench(kernels, request.param)
    bench.composer.unit("all")
    return bench


def test_product(bench: Bench) -> None:
    """With a function, with what is added, with what is multiplied; parts of tiles are filled with zeros."""
    a, weights, bias = to_bf16(chance(1, 70, 96)), chance(2, 96, 300), chance(3, 300)
    other = to_bf16(chance(4, 70, 300))
    x, added = bench.matrix(a), bench.matrix(other)
    first, second, third = (bench.composer.region(70, 300) for _ in range(3))
    view = x.view(width=96)
    bench.composer.product("tanh", view, weights * 4, first, bias=bias, function=Activation.TANH)
    bench.composer.product("gelu", view, weights, second, bias=bias, function=Activation.GELU, other=added)
    bench.composer.product("gated", view, weights, third, other=added, multiplied=True)
    work = bench.run()

    def sums(times: float) -> NDArray[np.float32]:
        return oracle.product_bf16(a, to_bf16(weights * np.float32(times)), np.zeros((70, 300), np.float32))

    expected = (
        (first, epilogue_bf16(sums(4), bias, Activation.TANH)),
        (second, epilogue_bf16(sums(1), bias, Activation.GELU, other)),
        (third, epilogue_bf16(sums(1), 0 * bias, None, other, multiplied=True)),
    )
    for region, wanted in expected:
        assert np.array_equal(bench.read(work, region, 70, 300), wanted)
        assert len(np.unique(wanted)) > 400
    assert not bench.read(work, third, SPAN, 512)[:, 300:].any()


def test_product_of_few_rows(bench: Bench) -> None:
    """Every core has other columns of the same rows, and columns beyond the matrix are zero."""
    a, weights, bias = to_bf16(chance(1, 64, 96)), chance(2, 96, 1100), chance(3, 1100)
    other = to_bf16(chance(4, 64, 1100))
    x, added = bench.matrix(a), bench.matrix(padded(other, 64, 2048))
    first, second, third = (bench.composer.region(64, 2048) for _ in range(3))
    view = x.view(width=96)
    bench.composer.spread("gelu", view, weights, first, bias=bias, function=Activation.GELU)
    bench.composer.spread("added", view, weights, second, other=added)
    bench.composer.spread("gated", view, weights, third, other=added, multiplied=True)
    work = bench.run()
    sums = oracle.product_bf16(a, to_bf16(weights), np.zeros((64, 1100), np.float32))
    expected = (
        (first, epilogue_bf16(sums, bias, Activation.GELU)),
        (second, epilogue_bf16(sums, 0 * bias, None, other)),
        (third, epilogue_bf16(sums, 0 * bias, None, other, multiplied=True)),
    )
    for region, wanted in expected:
        assert np.array_equal(bench.read(work, region, 64, 1100), wanted)
    assert not bench.read(work, third, 64, 2048)[:, 1100:].any()


@pytest.mark.parametrize("few", [False, True])
def test_wide_product(bench: Bench, few: bool) -> None:
    """Has 16 bits in two parts."""
    a, weights = to_bf16(chance(1, 64, 96)), chance(2, 96, 1024)
    x = bench.matrix(a)
    first, second = (bench.composer.region(64, 1024) for _ in range(2))
    compose = bench.composer.spread if few else bench.composer.product
    compose("wide", x.view(width=96), weights, first, rest=second)
    work = bench.run()
    sums = oracle.product_bf16(a, to_bf16(weights), np.zeros((64, 1024), np.float32))
    high, low = (bench.read(work, each, 64, 1024) for each in (first, second))
    assert np.array_equal(high, to_bf16(sums))
    assert np.array_equal(low, to_bf16(sums - from_bf16(high)))


def test_convolution(bench: Bench) -> None:
    """Rows that overlap are read from where they are; only by strides."""
    x, weights = to_bf16(chance(1, 600, 64)), chance(2, 3 * 64, 128)
    region = bench.matrix(x, more_rows=3)
    out = bench.composer.region(250, 128)
    bench.composer.product("convolution", region.convolved(2, 3, 64), weights, out)
    work = bench.run()
    seen = np.stack([x[2 * row : 2 * row + 3].ravel() for row in range(250)])
    sums = oracle.product_bf16(seen, to_bf16(weights), np.zeros((250, 128), np.float32))
    assert np.array_equal(bench.read(work, out, 250, 128), to_bf16(sums))


def test_norm(bench: Bench) -> None:
    """Of rows of 300 values, in place."""
    x, gain, offset = to_bf16(chance(1, 300, 300) * 3 + 2), chance(2, 300), chance(3, 300)
    region = bench.matrix(x)
    bench.composer.norm("norm", region, gain, offset, region)
    work = bench.run()
    found = bench.read(work, region, 300, 300)
    whole = np.pad(from_bf16(x), ((0, 0), (0, 20)))  # sums go over whole groups of eight
    assert np.allclose(from_bf16(found), layer_norm_of(whole, gain, offset), rtol=2**-7, atol=2e-4)
    assert not bench.read(work, region, 300, 512)[:, 300:].any()


def layer_norm_of(x: NDArray[Any], gain: NDArray[Any], offset: NDArray[Any]) -> NDArray[np.float64]:
    values = x[:, : len(gain)].astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    exact: NDArray[np.float64] = values / np.sqrt(values.var(axis=1, keepdims=True) + 1e-5) * gain + offset
    return exact


def test_norm_is_the_kernels(bench: Bench) -> None:
    """Bit for bit, where rows fill their spans."""
    x, gain, offset = to_bf16(chance(1, 256, 512) * 3 + 2), chance(2, 512), chance(3, 512)
    region, out = bench.matrix(x), bench.composer.region(256, 512)
    bench.composer.norm("norm", region, gain, offset, out)
    assert np.array_equal(bench.read(bench.run(), out, 256, 512), layer_norm_bf16(x, gain, offset))


@pytest.mark.parametrize("rows", [256, 401])
def test_group_norm(bench: Bench, rows: int) -> None:
    """All rows that count are one group, whatever lies behind them."""
    values = chance(1, 512, 96) * 2 + 1
    values[rows:] = 1e6
    x, gain, offset = to_bf16(values), chance(2, 96), chance(3, 96)
    region = bench.matrix(x)
    bench.composer.group_norm("group norm", region, gain, offset, region, lambda lengths: lengths["rows"])
    found = from_bf16(bench.read(bench.run(rows=rows), region, rows, 96))
    exact = from_bf16(x)[:rows].astype(np.float64)
    exact = (exact - exact.mean()) / np.sqrt(exact.var() + 1e-5) * gain + offset
    assert np.allclose(found, exact, rtol=2**-7, atol=1e-3)


def test_turn(bench: Bench) -> None:
    """Every head of a row by the same angles."""
    heads, angles = 8, chance(1, 300, 16)
    x = to_bf16(chance(2, 300, heads * LANE))
    region = bench.matrix(x)
    bench.composer.turn("rotation", region, heads, angles)
    found = bench.read(bench.run(), region, 300, heads * LANE)
    cosine, sine = to_bf16(np.cos(angles)), to_bf16(np.sin(angles))
    for head in range(heads):
        lane = slice(head * LANE, (head + 1) * LANE)
        assert np.array_equal(found[:, lane], rope_bf16(x[:, lane], cosine, sine))


SCALE = np.float32(1 / np.log(2) / 6)


def test_attention(bench: Bench) -> None:
    """Eight heads, two spans of queries, keys that end within a tile."""
    heads, rows, keys = 8, 300, 289
    each = heads * LANE
    qkv = to_bf16(chance(1, 512, 3 * each))
    region, out = bench.matrix(qkv), bench.composer.region(512, each)
    seen = composer.Seen(region.part(each), region.part(2 * each), lambda n: int(n["keys"]))
    bench.composer.attention(
        "attention", region, seen, out, heads=heads, scale=1 / 6, queries=lambda n: int(n["queries"])
    )
    found = bench.read(bench.run(queries=rows, keys=keys), out, 512, each)
    for head in range(heads):
        q, k, v = (qkv[:, part * each + head * LANE :][:, :LANE] for part in range(3))
        for row in range(0, 320, 64):
            counted = Seen(512, np.full(64, keys), queries=int(np.clip(rows - row, 0, 64)))
            expected = attention_bf16(q[row : row + 64], k, v, SCALE, counted)
            assert np.array_equal(found[row : row + 64, head * LANE : (head + 1) * LANE], expected)


def test_attention_to_more_than_a_queue_holds(bench: Bench) -> None:
    """Keys and values of more than 256 steps of 32 come in several times so many transfers, each awaited in turn."""
    heads, keys, rows = 4, 8300, 64
    each, room = heads * LANE, 8448
    q, kv = to_bf16(chance(1, rows, each)), to_bf16(chance(2, room, 2 * each))
    region, memory, out = bench.matrix(q), bench.matrix(kv), bench.composer.region(rows, each)
    seen = composer.Seen(
        replace(memory, rows=room), replace(memory.part(each), rows=room), lambda n: int(n["keys"])
    )
    bench.composer.attention("attention", region, seen, out, heads=heads, scale=1 / 6, queries=lambda n: rows)
    design = bench.design()
    assert not check(design)
    found = bench.read(bench.run(design, keys=keys), out, rows, each)
    for head in range(heads):
        lane = slice(head * LANE, (head + 1) * LANE)
        k, v = kv[:, lane], kv[:, each:][:, lane]
        counted = Seen(room, np.full(64, keys))
        assert np.array_equal(found[:, lane], attention_bf16(q[:, lane], k, v, SCALE, counted))


@pytest.mark.parametrize("together", [False, True])
def test_attention_to_what_was_before(bench: Bench, together: bool) -> None:
    """Keys of the past, then the queries' own: of tokens in a row, or of decodings, each of which has its own past."""
    heads, past = 4, 128
    each = heads * LANE
    qkv, before = to_bf16(chance(1, 64, 3 * each)), to_bf16(chance(2, past, 2 * each))
    region, memory, out = bench.matrix(qkv), bench.matrix(before), bench.composer.region(64, each)
    keys = np.array([40, 33] + 62 * [0]) if together else np.full(64, 96)
    expected = (
        Seen(past, keys, groups=2, shared=1, alone=True, queries=2)
        if together
        else Seen(past, keys, queries=7)
    )
    seen = composer.Seen(
        replace(memory, rows=past), replace(memory.part(each), rows=past), lambda n: keys,
        lambda n: int(n["groups"]), lambda n: int(n["shared"]),
    )  # fmt: skip
    bench.composer.attention(
        "attention", region, seen, out, heads=heads, scale=1 / 6, queries=lambda n: int(n["queries"]),
        own=(region.part(each), region.part(2 * each)), alone=lambda n: int(n["alone"]),
    )  # fmt: skip
    work = bench.run(
        queries=expected.queries, groups=expected.groups, shared=expected.shared, alone=int(expected.alone)
    )
    found = bench.read(work, out, 64, each)
    for head in range(heads):
        lane = slice(head * LANE, (head + 1) * LANE)
        q, k, v = (qkv[:, part * each :][:, lane] for part in range(3))
        k, v = (np.concatenate([before[:, part * each :][:, lane], own]) for part, own in enumerate((k, v)))
        assert np.array_equal(found[:, lane], attention_bf16(q, k, v, SCALE, expected))


@pytest.mark.parametrize("seed", range(2))
def test_few_rows(kernels: HostKernels, seed: int) -> None:
    """Where only 64 rows count, three of four rows of cores let everything pass, and the 64 rows are the same."""
    found = []
    for few in (False, True):
        bench = Bench(kernels, seed, few)
        compose = bench.composer
        compose.unit("all")
        x, other = (bench.matrix(to_bf16(chance(at, 64, 3 * 256))) for at in (1, 2))
        normal, made, turned, out = (compose.region(64, width) for width in (768, 768, 256, 256))
        compose.norm("norm", x, chance(3, 768), chance(4, 768), normal)
        compose.product(
            "product", normal.view(), chance(5, 768, 768), made, other=other, function=Activation.GELU
        )
        compose.product("product", normal.view(), chance(6, 768, 256), turned, rest=out)
        compose.turn("rotation", turned, 4, chance(7, 256, 16))
        keys = composer.Seen(made.part(256), made.part(512), lambda n: 0)
        compose.attention(
            "attention", turned, replace(keys, key=replace(keys.key, rows=64)), out, heads=4, scale=1 / 6,
            queries=lambda n: 50, own=(made.part(256), made.part(512)),
        )  # fmt: skip
        work = bench.run()
        found.append([bench.read(work, region, 64, region.width) for region in (normal, made, turned, out)])
    for whole, few_rows in zip(*found, strict=True):
        assert np.array_equal(whole, few_rows) and len(np.unique(whole)) > 400


def test_limits(bench: Bench) -> None:
    """It fits the hardware, tables and stack included."""
    bench.composer.product("one", View(0, 32, 32), chance(1, 32, 64), bench.composer.region(8, 64))
    assert not check(bench.design())


@pytest.mark.parametrize("fifo", ["a1", "b2", "C0"])
def test_wrong_strides(bench: Bench, fifo: str) -> None:
    """Make a wrong product."""
    x, out = bench.matrix(to_bf16(chance(1, 256, 64))), bench.composer.region(256, 256)
    bench.composer.product("product", x.view(width=64), chance(2, 64, 256), out)
    design = bench.design()
    right = bench.read(bench.run(design), out, 256, 256)
    order = design.fifo(fifo).sent
    assert order is not None
    sizes, strides = ((each[1], each[0], *each[2:]) for each in (order.sizes, order.strides))
    changed = replace(design.fifo(fifo), sent=replace(order, sizes=sizes, strides=strides))
    wrong = replace(design, fifos=tuple(changed if each.name == fifo else each for each in design.fifos))
    assert not np.array_equal(bench.read(bench.run(wrong), out, 256, 256), right)
