"""Shared by the tests of the NPU: its kernels, compiled for this machine, what they make of whole matrices, and a
machine that builds packages.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.acceleration import Mode
from npu.catalog import resolve
from npu.moonshine import TINY
from npu.weights import Weights
from npu.xdna import build as building
from npu.xdna import oracle, packages
from npu.xdna.build import Delivered, Watch, build
from npu.xdna.curves import CURVE
from npu.xdna.design import Design
from npu.xdna.encoder_i8 import Fixed, Operators
from npu.xdna.float_encoder import FloatEncoder, of_moonshine
from npu.xdna.float_model import float_model
from npu.xdna.gemm import SPAN
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import TILE, Rows, blocked, unblocked
from npu.xdna.packages import folder_of_packages
from npu.xdna.quant import QuantisedEncoder, quantise
from npu.xdna.quant_file import kept_encoder
from npu.xdna.quant_parts import Normalisation, Product
from npu.xdna.speech_steps import Candidate
from npu.xdna.toolchain import Toolchain
from streaming.containers import decode_container
from streaming.window import SAMPLE_RATE

Values = NDArray[Any]

HALF = TILE // 2  # columns of a tile in 16 bits
SCALES = 5  # row of statistics where those of rows begin


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels are built, once for all tests."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session", params=["portable", "vector"])
def kernels(request: pytest.FixtureRequest, kernel_cache: Path) -> HostKernels:
    """All of them, on each path."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed; to run this: sudo apt install g++")
    return HostKernels(vector=request.param == "vector", cache_dir=kernel_cache)


@pytest.fixture(scope="session")
def portable(kernel_cache: Path) -> HostKernels:
    """One path alone, for what takes long: tests of the kernels hold the other to it."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed; to run this: sudo apt install g++")
    return HostKernels(cache_dir=kernel_cache)


def sketch(design: Design) -> str:
    """As much of a design's MLIR as the tools that stand in look at."""
    cores = "".join(f"aie.core({worker.tile})\n" for worker in design.workers)
    return cores + "".join(f"aie.runtime_sequence @{each.name}(\n" for each in design.sequences)


@dataclass(frozen=True)
class Machine:
    """One with tools that stand in for the real ones, and a cache."""

    tools: Toolchain
    log: Path
    cache: Path

    def build(
        self, design: Design, text: Callable[[Design], str] = sketch, watch: Watch | None = None
    ) -> Delivered:
        """Its package."""
        return build(design, self.tools, text, self.cache, watch)

    def calls(self) -> list[list[str]]:
        """What was called since the last time this was asked."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def left(self) -> list[str]:
        """What lies where packages do."""
        return sorted(path.name for path in folder_of_packages(self.cache).glob("*"))


@pytest.fixture
def machine(stand_in_tools: Path, tmp_path: Path) -> Machine:
    """With nothing built yet."""
    tools = Toolchain.find({"PATH": str(stand_in_tools / "path")}, stand_in_tools)
    return Machine(tools, stand_in_tools / "calls", tmp_path / "cache")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernels' files, to be changed."""
    copied = tmp_path / "kernels"
    shutil.copytree(packages.FOLDER, copied)
    for module in (building, packages):
        monkeypatch.setattr(module, "FOLDER", copied)
    return copied


@pytest.fixture
def operators(kernels: HostKernels) -> Operators:
    """The kernels of the overlay in 8 bits, tile by tile as a core calls them."""
    return KernelOperators(kernels)


@pytest.fixture(scope="session")
def moonshine(weights: Weights) -> FloatEncoder:
    return of_moonshine(weights)


@pytest.fixture(scope="session")
def quantised(moonshine: FloatEncoder, clips: dict[str, NDArray[np.float32]]) -> QuantisedEncoder:
    """Moonshine's, calibrated on one reader."""
    window = TINY.prepare(clips["beckett"][: 4 * SAMPLE_RATE], False)
    return quantise(moonshine, [window], 512, lambda _line: None)


@pytest.fixture(scope="session")
def spoken(clips: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Another reader: 125 frames of Moonshine's, two tiles."""
    return TINY.prepare(clips["two_cities"][: 3 * SAMPLE_RATE], False)


@pytest.fixture(scope="session")
def small_candidate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mode], Candidate]:
    """The small Whisper as it is brought up in a mode."""
    folder = Path(__file__).parents[2] / "fixtures"
    named, cache = resolve(str(folder / "whisper-small-talk")), tmp_path_factory.mktemp("quantised")

    def candidate(mode: Mode) -> Candidate:
        if mode.precision == "int8" and not any(cache.iterdir()):
            with (folder / "speech" / "english-1.flac").open("rb") as file:
                audio = np.concatenate(list(decode_container(file)))
            kept_encoder(float_model(named), [audio], cache, lambda _line: None)
        return Candidate(named, mode, None, cache)

    return candidate


class KernelOperators:
    """Whole matrices by tiles of the kernels."""

    def __init__(self, kernels: HostKernels) -> None:
        self._kernels = kernels

    def layer_norm(self, x: Fixed, norm: Normalisation) -> Rows:
        kept = words(2, len(norm.gain), norm.epsilon)
        return self._narrowed(x, norm.gain, norm.offset, kept, normal=True)

    def quantise(self, x: Fixed, gain: NDArray[np.int32]) -> Rows:
        return self._narrowed(x, gain, np.zeros_like(gain), words(2), normal=False)

    def _narrowed(self, x: Fixed, gain: Values, offset: Values, kept: Values, normal: bool) -> Rows:
        wide, width = padded(x, TILE, SPAN), len(gain)
        gains = np.zeros((2, wide.shape[1]), np.int32)
        gains[:, :width] = gain, offset
        columns = np.ascontiguousarray(gains.reshape(2, -1, SPAN // HALF, HALF).transpose(1, 2, 0, 3))
        found, scales = [], []
        for first in range(0, len(wide), TILE):
            statistics, lanes = np.zeros((8, TILE), np.int32), np.zeros(TILE * TILE, np.int32)
            tiles = list(halves(wide[first : first + TILE]))
            self._ask("begin_rows", lanes, statistics)
            if normal:
                for tile in tiles:
                    self._ask("add_up_i16", tile, lanes)
                self._ask("describe_rows", lanes, kept, statistics)
            for at, tile in enumerate(tiles):
                self._ask(
                    "largest_normal_i16" if normal else "largest_i16",
                    tile,
                    columns[at // 8],
                    kept,
                    statistics,
                    lanes,
                    at % 8,
                )
            self._ask("scale_rows", lanes, statistics, int(normal))
            out = np.zeros((len(tiles) // 2, 16, 8, 4, 8), np.int8)
            for at, tile in enumerate(tiles):
                self._ask(
                    "quantise_normal_i8" if normal else "quantise_i8",
                    tile,
                    columns[at // 8],
                    kept,
                    statistics,
                    out[at // 2],
                    at % 2,
                    at % 8,
                )
            found.append(np.concatenate([unblocked(each) for each in out], axis=1))
            scales.append(statistics[SCALES].copy())
        return np.concatenate(found)[: len(x), :width], np.concatenate(scales)[: len(x)]

    def product(self, rows: Rows, product: Product, residual: Fixed | None = None) -> Fixed:
        shape = (len(rows[0]), product.values.shape[1])
        a, b = padded(rows[0]), padded(product.values)
        token, channel, bias = (
            np.pad(each, (0, -len(each) % TILE)) for each in (rows[1], product.channel, product.bias)
        )
        added = padded(np.zeros(shape, np.int16) if residual is None else residual)
        out = np.zeros((len(a), b.shape[1]), np.int16)
        for m, n in np.ndindex(len(a) // TILE, b.shape[1] // TILE):
            here, columns = (slice(at * TILE, at * TILE + TILE) for at in (m, n))
            c, statistics = np.zeros(TILE * TILE, np.int32), np.zeros((8, TILE), np.int32)
            statistics[SCALES] = token[here]
            for k in range(0, a.shape[1], TILE):
                depth = slice(k, k + TILE)
                self._ask("gemm_i8", blocked(a[here, depth], 4, 8), blocked(b[depth, columns], 8, 8), c)
            own = np.zeros(1024, np.int32)
            own[:TILE], own[TILE : 2 * TILE] = channel[columns], bias[columns]
            own[128:130] = product.channel_shift, product.token_shift
            self._ask("settle_i32", c, own, statistics)
            if product.curve is not None:
                own.view(np.int16)[264 : 264 + CURVE] = product.curve
                self._ask("activate_i16", c, own)
            for half in range(2):
                tile = np.zeros((16, 8, 4, 4), np.int16)
                self._ask("narrow_i16", c, tile, half)
                by_columns = slice(n * TILE + half * HALF, n * TILE + half * HALF + HALF)
                if residual is not None:
                    self._ask("add_half_i16", blocked(added[here, by_columns], 8, 4), tile, 0)
                out[here, by_columns] = unblocked(tile)
        return out[: shape[0], : shape[1]]

    def rotate(self, x: Fixed, cosine: Fixed, sine: Fixed) -> Fixed:
        wide, found = padded(x), []
        turns = np.zeros((2, len(wide), HALF), np.int16)
        turns[0] = 1 << oracle.ANGLE_BITS
        width = 2 * cosine.shape[1]
        turns[0, : len(x), :width] = np.repeat(cosine, 2, axis=1)
        turns[1, : len(x), :width:2], turns[1, : len(x), 1:width:2] = -sine, sine
        for first in range(0, len(wide), TILE):
            here, head = slice(first, first + TILE), np.zeros((TILE, TILE), np.int16)
            tiles = np.stack([blocked(each[here], 4, 4) for each in turns])
            for half, tile in enumerate(halves(wide[here])):
                self._ask("keep_head_i16", tile, tiles, head, half, 1)
            found.append(head)
        return np.concatenate(found)[: len(x), : x.shape[1]]

    def rescale(self, x: Fixed, down: int) -> Fixed:
        """As a residual of nothing."""
        wide = padded(x)
        out = np.zeros(wide.shape, np.int16)
        for m, n in np.ndindex(len(wide) // TILE, wide.shape[1] // HALF):
            here = slice(m * TILE, m * TILE + TILE), slice(n * HALF, n * HALF + HALF)
            tile = np.zeros((16, 8, 4, 4), np.int16)
            self._ask("add_half_i16", blocked(wide[here], 8, 4), tile, down)
            out[here] = unblocked(tile)
        return out[: len(x), : x.shape[1]]

    def attend(self, query: Rows, key: Rows, value: Rows, shift: int) -> Fixed:
        (q, q_scale), (k, k_scale), (v, v_scale) = (
            (padded(x), np.pad(scale, (0, -len(scale) % TILE))) for x, scale in (query, key, value)
        )
        out, count = np.zeros(q.shape, np.int16), len(query[0])
        for own in range(0, len(q), TILE):
            rows, o, turned = (
                slice(own, own + TILE),
                np.zeros(TILE * TILE, np.int32),
                np.zeros(4096, np.int8),
            )
            statistics, tiles = np.zeros((8, TILE), np.int32), np.zeros((3, 4096), np.int8)
            statistics[SCALES], tiles[0] = q_scale[rows], blocked(q[rows], 4, 8).ravel()
            kept = words(2, len(key[0]), 0, shift, 0, own, min(count - own, TILE))
            self._ask("attention_start_i8", statistics, o)
            for at in range(0, len(k), TILE):
                span = slice(at, at + TILE)
                statistics[SCALES + 1], statistics[SCALES + 2] = k_scale[span], v_scale[span]
                self._ask("turn_keys_i8", blocked(k[span], 8, 8), turned)
                self._ask(
                    "attention_step_i8", tiles, turned, blocked(v[span], 8, 8), kept, statistics, o,
                )  # fmt: skip
            for half in range(2):
                tile = np.zeros((16, 8, 4, 4), np.int16)
                self._ask("attention_finish_i8", o, statistics, tile, half)
                out[rows, half * HALF : half * HALF + HALF] = unblocked(tile)
        return out[:count, : query[0].shape[1]]

    def _ask(self, name: str, *arguments: Values | int) -> None:
        flat = [each if isinstance(each, int) else each.reshape(-1).view(np.uint8) for each in arguments]
        self._kernels.call(name, flat)


def padded(x: Values, rows: int = TILE, columns: int = TILE) -> Values:
    """With zeros up to whole tiles."""
    return np.pad(x, ((0, -len(x) % rows), (0, -x.shape[1] % columns)))


def words(first: int, *values: int) -> NDArray[np.int32]:
    """[128]: what is kept of a header, with these from some word on."""
    kept = np.zeros(128, np.int32)
    kept[first : first + len(values)] = values
    return kept


def halves(rows: Fixed) -> Iterator[Fixed]:
    """64 rows as tiles of 32 columns."""
    for column in range(0, rows.shape[1], HALF):
        yield blocked(rows[:, column : column + HALF], 4, 4)
