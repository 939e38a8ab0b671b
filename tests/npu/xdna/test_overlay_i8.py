"""The operations of the overlay in 8 bits on the whole array: what the oracle says of whole matrices, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends.reference import gelu
from npu.xdna import oracle
from npu.xdna.array import Array
from npu.xdna.check import check
from npu.xdna.composer_i8 import Composer8, Tiles, lay_wide, read_narrow, read_scales, read_wide
from npu.xdna.composition import Constants
from npu.xdna.curves import curve_of
from npu.xdna.design import Design
from npu.xdna.encoder_i8 import value_scales
from npu.xdna.gemm import SIDE, TILE
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import Rows
from npu.xdna.overlay_i8 import overlay
from npu.xdna.quant_parts import Heads, Normalisation, Product
from npu.xdna.scaling import requantiser

Bytes = NDArray[np.uint8]
Fixed = NDArray[np.int16]

ROWS = 300  # of two spans
CURVE = curve_of(gelu, oracle.ACTIVATION_BITS)


class Bench:
    """A composer whose stages are run at once, on memory that can be looked at."""

    def __init__(self, kernels: HostKernels, seed: int) -> None:
        self.constants = Constants(np.uint8)
        self.composer = Composer8(self.constants)
        self.composer.unit("all")
        self._kernels = kernels
        self._seed = seed
        self._inputs: list[tuple[Tiles, Fixed]] = []

    def matrix(self, values: Fixed) -> Tiles:
        """Tiles that hold this."""
        tiles = self.composer.wide(*values.shape)
        self._inputs.append((tiles, values))
        return tiles

    def rows(self, values: Fixed) -> tuple[Tiles, Rows]:
        """Tiles that will hold this in 8 bits, and what that is."""
        gain = np.full(values.shape[1], 1 << oracle.GAIN_BITS, np.int32)
        tiles = self.composer.narrow(*values.shape)
        self.composer.quantise(f"rows {tiles.offset}", self.matrix(values), gain, tiles)
        return tiles, oracle.quantise(values, gain)

    def design(self) -> Design:
        """Everything composed so far as one dispatch."""
        sequence = self.composer.sequence("all", self.composer.units, self.composer.work)
        return overlay(self._kernels.stacks, (sequence,))

    def run(self, design: Design | None = None, **lengths: int) -> Bytes:
        """-> the work buffer afterwards."""
        work = np.full(self.composer.work, 0x5A, np.uint8)  # what nobody wrote is something else
        for tiles, values in self._inputs:
            lay_wide(values, tiles.of(work))
        memory = {"constants": self.constants.laid(), "headers": self.composer.headers(lengths), "work": work}
        Array(design or self.design(), self._kernels, seed=self._seed).run("all", memory)
        return work


@pytest.fixture(params=range(2))
def bench(kernels: HostKernels, request: pytest.FixtureRequest) -> Bench:
    return Bench(kernels, request.param)


def chance(seed: int, *shape: int, most: int = 9000) -> Fixed:
    return np.random.default_rng(seed).integers(-most, most, shape, np.int16)


def product_of(seed: int, depth: int, n: int, curve: NDArray[np.int16] | None = None) -> Product:
    """A matrix whose products with rows of up to 9,000 fill 16 bits."""
    random = np.random.default_rng(seed)
    scales = requantiser(random.uniform(0.0001, 0.001, n), depth, oracle.PLAIN_BITS, 2.0**-2)
    bias = random.integers(-4000, 4000, n).astype(np.int32)
    values = random.integers(-128, 128, (depth, n), np.int8)
    return Product(values, scales.channel, bias, scales.channel_shift, scales.token_shift, 2, curve)


def expected(rows: Rows, product: Product, residual: Fixed | None = None) -> Fixed:
    return oracle.epilogue(
        oracle.product(rows[0], product.values), product.channel, rows[1], product.bias, product.channel_shift,
        product.token_shift, product.curve, residual,
    )  # fmt: skip


def test_product(bench: Bench) -> None:
    """With scales that were made on the array; with an activation, with a residual, in place, two side by side."""
    x, rows = bench.rows(chance(1, ROWS, 96))
    values = chance(2, ROWS, 300)
    other = bench.matrix(values)
    plain, gated = product_of(1, 96, 300), product_of(2, 96, 300, CURVE)
    left, right = product_of(3, 96, 256), product_of(4, 96, 70)
    one, two = bench.composer.wide(ROWS, 300), bench.composer.wide(ROWS, 326)
    bench.composer.product("gated", x, [gated], one)
    bench.composer.product("both", x, [left, right], two)
    bench.composer.product("added", x, [plain], other, other, down=2)
    work = bench.run()
    assert np.array_equal(read_wide(one.of(work), ROWS, 300), expected(rows, gated))
    found = read_wide(two.of(work), ROWS, 512)
    assert np.array_equal(found[:, :256], expected(rows, left))
    assert np.array_equal(found[:, 256:326], expected(rows, right))
    assert not found[:, 326:].any()
    added = expected(rows, plain, oracle.round_even(values, 2).astype(np.int16))
    assert np.array_equal(read_wide(other.of(work), ROWS, 300), added)
    assert len(np.unique(added)) > 1000


@pytest.mark.parametrize("extreme", [False, True])
def test_norm(bench: Bench, extreme: bool) -> None:
    """Rows of 300 values in 8 bits, with their scales."""
    x = chance(1, ROWS, 300, most=3000)
    if extreme:
        x = np.random.default_rng(2).choice(np.array([-(2**15), 2**15 - 1, 0, -1], np.int16), (ROWS, 300))
        x[3], x[4], x[5] = 0, 32767, 1
        x[5, 7] = -32768
    gain, offset = (chance(seed, 300, most=30_000).astype(np.int32) for seed in (3, 4))
    none = np.zeros(300, np.float32)
    to = bench.composer.narrow(ROWS, 300)
    bench.composer.norm("norm", bench.matrix(x), Normalisation(gain, offset, 1, none, none), to)
    found = read_narrow(to.of(bench.run()), ROWS, 512)
    values, scales = oracle.layer_norm(x, gain, offset, 1)
    assert np.array_equal(found[0][:, :300], values)
    assert not found[0][:, 300:].any()
    assert np.array_equal(found[1], scales)


def test_quantise(bench: Bench) -> None:
    """Rows as they are, times a gain of each column."""
    x, gain = chance(1, ROWS, 600), np.random.default_rng(2).integers(0, 2**13, 600).astype(np.int32)
    x[7] = 0
    to = bench.composer.narrow(ROWS, 600)
    bench.composer.quantise("quantise", bench.matrix(x), gain, to)
    found = read_narrow(to.of(bench.run()), ROWS, 600)
    for each, wanted in zip(found, oracle.quantise(x, gain), strict=True):
        assert np.array_equal(each, wanted)


def heads_of(bench: Bench, heads: int, rows: int) -> tuple[Tiles, list[tuple[Rows, Rows, Rows]]]:
    """Heads in 8 bits, queries and keys turned, of chance; and what they are by the oracle."""
    x = chance(1, rows, 3 * heads * TILE)
    x[:, 2 * SIDE * TILE :: 3] //= 7
    angles = np.random.default_rng(3).uniform(0, 6.3, (rows, 12))
    turns = [np.round(f(angles) * (1 << oracle.ANGLE_BITS)).astype(np.int16) for f in (np.cos, np.sin)]
    factors = np.random.default_rng(4).integers(1 << 12, 1 << 16, heads).astype(np.int32)
    tiles = bench.composer.heads(rows, heads)
    scales = Heads(19, factors, np.ones(heads))
    bench.composer.quantise_heads("heads", bench.matrix(x), scales, (turns[0], turns[1]), tiles)
    lanes = x.reshape(rows, heads // SIDE, 3, SIDE, TILE)
    gain = np.full(TILE, 1 << oracle.GAIN_BITS, np.int32)
    found = []
    for head in range(heads):
        query, key, value = (
            np.ascontiguousarray(lanes[:, head // SIDE, part, head % SIDE]) for part in range(3)
        )
        turned = [oracle.quantise(oracle.rope(each, *turns), gain) for each in (query, key)]
        values, scale = oracle.quantise(value, gain)
        found.append((turned[0], turned[1], (values, value_scales(scale, int(factors[head])))))
    return tiles, found


def test_heads(bench: Bench) -> None:
    """Turned, and in 8 bits, each with scales of its own; those of values in parts of the largest."""
    heads = 8
    tiles, expected = heads_of(bench, heads, ROWS)
    found = tiles.of(bench.run()).reshape(-1, SIDE, heads // SIDE, 4, TILE, TILE)
    for head in range(heads):
        own = found[:, head % SIDE, head // SIDE]
        for part, at in enumerate((0, 1, 3)):
            values, scales = expected[head][part]
            assert np.array_equal(own[:, at].reshape(-1, TILE).view(np.int8)[:ROWS], values)
            blocks = np.roll(own[:, 2], -4 * part, axis=1)
            assert np.array_equal(read_scales(blocks)[:ROWS], scales)


@pytest.mark.parametrize("causal", [False, True])
def test_attention(bench: Bench, causal: bool) -> None:
    """Eight heads, two spans of queries, keys that end within a tile."""
    heads, count = 8, 289
    tiles, rows = heads_of(bench, heads, ROWS)
    out = bench.composer.wide(ROWS, heads * TILE)
    bench.composer.attention("attention", tiles, 19, out, lambda n: n["rows"], causal)
    found = read_wide(out.of(bench.run(rows=count)), count, heads * TILE)
    for head, (query, key, value) in enumerate(rows):
        whole = [np.pad(each, ((0, 20), (0, 0))) for each in (query[0], key[0], value[0])]
        scales = [np.pad(each, (0, 20)) for each in (query[1], key[1], value[1])]
        for row in range(0, count, TILE):
            span, end = slice(row, row + TILE), min(row + TILE, count)
            wanted = oracle.attention(
                whole[0][span], whole[1], whole[2], (scales[0][span], scales[1], scales[2]), 19, row,
                count, causal,
            )  # fmt: skip
            assert np.array_equal(found[row:end, head * TILE :][:, :TILE], wanted[: end - row])
    assert len(np.unique(found)) > 1000


def test_limits(bench: Bench) -> None:
    """It fits the hardware, tables and stack included."""
    x, _ = bench.rows(chance(1, 8, 96))
    bench.composer.product("one", x, [product_of(1, 96, 64)], bench.composer.wide(8, 64))
    assert not check(bench.design())


@pytest.mark.parametrize("fifo", ["a1", "b2", "C0"])
def test_wrong_strides(bench: Bench, fifo: str) -> None:
    """Make a wrong product."""
    x, rows = bench.rows(chance(1, 256, 64))
    out, product = bench.composer.wide(256, 256), product_of(1, 64, 256)
    bench.composer.product("product", x, [product], out)
    design = bench.design()
    assert np.array_equal(read_wide(out.of(bench.run(design)), 256, 256), expected(rows, product))
    order = design.fifo(fifo).sent
    assert order is not None
    sizes, strides = ((each[1], each[0], *each[2:]) for each in (order.sizes, order.strides))
    changed = replace(design.fifo(fifo), sent=replace(order, sizes=sizes, strides=strides))
    wrong = replace(design, fifos=tuple(changed if each.name == fifo else each for each in design.fifos))
    assert not np.array_equal(read_wide(out.of(bench.run(wrong)), 256, 256), expected(rows, product))
