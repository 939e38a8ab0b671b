"""What is counted on the emulated array is what each core calls, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from npu.xdna import overlay_i8
from npu.xdna.composer import Composer, Seen
from npu.xdna.composer_i8 import Composer8
from npu.xdna.composition import Constants
from npu.xdna.cost import KERNELS
from npu.xdna.counts import busiest, counted, disagreements
from npu.xdna.curves import CURVE
from npu.xdna.design import Stage, Tile
from npu.xdna.gemm import SIDE, TILE, Shape, core, gemm, header
from npu.xdna.overlay import overlay
from npu.xdna.quant import Heads, Normalisation, Product
from npu.xdna.regions import LANE

STACKS = {"zero_i32": 0, "gemm_i8": 0}
SHAPE = Shape(256, 192, 512)
DESIGN = gemm(STACKS, (SHAPE,))


class Idle:
    """Kernels that do nothing but keep headers: who is called is counted all the same."""

    def call(self, name: str, arguments: Sequence[NDArray[np.uint8] | int]) -> None:
        assert name in KERNELS
        if name == "keep_header":
            tile, kept = arguments
            assert isinstance(tile, np.ndarray) and isinstance(kept, np.ndarray)
            kept[:] = tile[: kept.size]


def spans(calls: dict[str, int]) -> tuple[Stage, ...]:
    """The two of the product's sequence, each with what it says of its calls."""
    steps = DESIGN.sequences[0].steps
    return tuple(Stage(f"span {at}", steps[at : at + 16] + steps[32:], calls) for at in (0, 16))


def buffers() -> dict[str, NDArray[np.uint8]]:
    """Of the host."""
    blocks = DESIGN.sequences[0].arguments
    return {name: np.zeros(block.bytes, np.uint8) for name, block in blocks.items()} | {
        "header": header(SHAPE)
    }


def test_cores_of_a_product() -> None:
    """Each does as many steps of depth as the header says, for each tile it has; in each stage its own."""
    found = counted(DESIGN, DESIGN.sequences[0], spans({}), buffers(), Idle())
    assert len(found) == 2
    for stage in found:
        assert stage == {
            core(column, row): {"zero_i32": 1, "gemm_i8": 3} for column in range(SIDE) for row in range(SIDE)
        }


def test_the_busiest() -> None:
    """Is found for each kernel on its own, and who calls none is none's."""
    calls = {Tile(0, 2): {"a": 2, "b": 1}, Tile(1, 2): {"a": 1, "b": 5}, Tile(2, 2): {}}
    assert busiest(calls) == {"a": 2, "b": 5}


def test_what_stages_say() -> None:
    """Is believed where it is so, and else the stage is named with both numbers."""
    truth = {"zero_i32": 1, "gemm_i8": 3}
    given = (DESIGN, DESIGN.sequences[0])
    assert not disagreements(*given, spans({**truth, "never": 0}), buffers(), Idle())
    told = disagreements(*given, spans({**truth, "gemm_i8": 4}), buffers(), Idle())
    assert [sentence.split(" says")[0] for sentence in told] == ["span 0", "span 16"]
    assert "'gemm_i8': 4" in told[0] and "'gemm_i8': 3" in told[0]


def test_stages_of_the_overlay() -> None:
    """Every operation says how often its kernels are called, of more than one span of rows and of columns."""
    composer = Composer(Constants())
    composer.unit("all")
    x, to = composer.region(300, 300), composer.region(300, 300)
    lanes = composer.region(300, 3 * 8 * LANE)
    vector = np.zeros(300, np.float32)
    composer.product("plain", x.view(width=96), np.zeros((96, 300), np.float32), to)
    composer.product("adding", x.view(width=96), np.zeros((96, 300), np.float32), to, other=x)
    composer.norm("norm", x, vector, None, to)
    composer.group_norm("group norm", x, vector, vector, to, lambda lengths: lengths["rows"])
    composer.turn("rotation", lanes, 16, np.zeros((300, 16), np.float32))
    composer.attention(
        "attention", lanes, Seen(lanes.part(8 * LANE), lanes.part(16 * LANE), lambda lengths: lengths["rows"]),
        composer.region(300, 8 * LANE), heads=8, scale=1.0, queries=lambda lengths: lengths["rows"],
    )  # fmt: skip
    sequence = composer.sequence("all", composer.units, composer.work)
    design = overlay(dict.fromkeys(KERNELS, 0), (sequence,))
    memory = {name: np.zeros(block.bytes, np.uint8) for name, block in sequence.arguments.items()}
    memory["headers"] = composer.headers({"rows": 300}).view(np.uint8)
    assert not disagreements(design, sequence, composer.units["all"], memory, Idle())


def test_stages_in_8_bits() -> None:
    """So do those of the overlay in 8 bits."""
    composer = Composer8(Constants(np.uint8))
    composer.unit("all")
    gain, none, words = np.zeros(300, np.int32), np.zeros(300, np.float32), np.zeros(300, np.int32)
    x, rows, qkv = composer.wide(300, 300), composer.narrow(300, 300), composer.wide(300, 3 * 8 * TILE)
    heads, seen = composer.heads(300, 8), composer.wide(300, 8 * TILE)
    matrix = Product(np.zeros((96, 300), np.int8), words, words, 0, 0, 0)
    composer.product("plain", rows, [matrix], x)
    composer.product("activated", rows, [replace(matrix, curve=np.zeros(CURVE, np.int16))], x)
    composer.product("adding", rows, [matrix], x, x)
    composer.norm("norm", x, Normalisation(gain, gain, 1, none, none), rows)
    composer.quantise("rows", x, gain, rows)
    composer.quantise_heads("heads", qkv, Heads(5, words[:8], none[:8].astype(float)), None, heads)
    composer.attention("attention", heads, 5, seen, lambda lengths: lengths["rows"])
    sequence = composer.sequence("all", composer.units, composer.work)
    design = overlay_i8.overlay(dict.fromkeys(KERNELS, 0), (sequence,))
    memory = {name: np.zeros(block.bytes, np.uint8) for name, block in sequence.arguments.items()}
    memory["headers"] = composer.headers({"rows": 300})
    assert not disagreements(design, sequence, composer.units["all"], memory, Idle())
