"""An encoder's layers in 8 bits on the NPU: one dispatch for all of them, with the numbers of `encoder_i8`.

The convolutions before them are the caller's: in float, or in bf16 on the NPU. A head takes 64 columns whatever its
width, and there are four at a time; what is added for that is zero.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna.canary_i8 import Canary8
from npu.xdna.composer_i8 import Composer8, Tiles, lay_wide, read_narrow
from npu.xdna.composition import Constants, Lengths
from npu.xdna.design import Design
from npu.xdna.encoder_i8 import numpy_encoder
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.oracle import Rows
from npu.xdna.overlay_i8 import overlay
from npu.xdna.quant import QuantisedEncoder
from npu.xdna.quant_parts import Product
from npu.xdna.runtime import Built, Command, Npu
from streaming.errors import ModelError

_FOUR_HEADS = SIDE * TILE  # columns


@dataclass(frozen=True, eq=False)
class LayersPlan:
    """The layers for windows of up to so many frames."""

    composer: Composer8
    into: Tiles  # frames in 16 bits
    out: Tiles  # states in 8 bits
    frames: int  # at most


class LayersDesign:
    """The layers for windows of several lengths: plans, what they share, and the design with their sequences."""

    def __init__(self, quantised: QuantisedEncoder, spans: Sequence[int]) -> None:
        """spans: of 256 frames."""
        self.constants = Constants(np.uint8)
        self.plans = [layers_plan(quantised, self.constants, n) for n in sorted(spans)]
        self.work = max(plan.composer.work for plan in self.plans)
        self.width = len(quantised.last.gain)
        self.canary = Canary8()

    def sequence_of(self, plan: LayersPlan) -> str:
        """The name of its only sequence."""
        return f"layers_{self.plans.index(plan)}"

    def design(self, stacks: Mapping[str, int]) -> Design:
        """The overlay with all sequences, the canary's among them. stacks: what the kernels need, bytes by name."""
        sequences = (
            plan.composer.sequence(self.sequence_of(plan), plan.composer.units, self.work)
            for plan in self.plans
        )
        return overlay(stacks, (*sequences, self.canary.sequence()))


class Layers:
    """Their buffers on the NPU, made once. Safe to call from several threads, one at a time."""

    def __init__(self, npu: Npu, built: Built, layers: LayersDesign) -> None:
        """built: their design; NpuUnavailable where there is no memory."""
        self._npu = npu
        self._built = built
        self._layers = layers
        self._one = threading.Lock()
        constants = layers.constants.laid()
        headers = max(plan.composer.arguments(0)["headers"].bytes for plan in layers.plans)
        sizes = {"constants": constants.nbytes, "headers": headers, "work": layers.work}
        self._buffers = {name: npu.buffer(size) for name, size in sizes.items()}
        self._buffers["constants"].here[:] = constants
        self._buffers["constants"].to_device()

    def states(self, frames: NDArray[np.int16]) -> Rows:
        """What the first layer sees [frames, width] -> states in 8 bits, normalised, with their scales; ModelError when
        they are too many, NpuUnavailable.
        """
        fitting = [plan for plan in self._layers.plans if plan.frames >= len(frames)]
        if not fitting:
            raise ModelError(
                f"a window of {len(frames)} frames; the NPU takes {self._layers.plans[-1].frames}"
            )
        plan, (headers, work) = fitting[0], (self._buffers[name] for name in ("headers", "work"))
        with self._one:
            words = plan.composer.headers({"frames": len(frames)})
            headers.here[: words.size] = words
            headers.to_device()
            lay_wide(frames, plan.into.of(work.here))
            work.to_device()
            command = Command(self._layers.sequence_of(plan), tuple(self._buffers.values()))
            self._npu.run(self._built, [command])
            work.to_host()
            return read_narrow(plan.out.of(work.here), len(frames), self._layers.width)


def layers_plan(quantised: QuantisedEncoder, constants: Constants, spans: int) -> LayersPlan:
    """The layers for so many spans of 256 frames."""
    composer = Composer8(constants)
    rows, width = spans * SPAN, len(quantised.last.gain)
    heads, lanes = quantised.heads, -(-quantised.heads // SIDE) * SIDE
    hidden_width = quantised.layers[0].up.values.shape[1]
    x, out = composer.wide(rows, width), composer.narrow(rows, width)
    qkv, narrow = composer.wide(rows, 3 * lanes * TILE), composer.heads(rows, lanes)
    seen, seen_narrow = composer.wide(rows, lanes * TILE), composer.narrow(rows, lanes * TILE)
    hidden, hidden_narrow = composer.wide(rows, hidden_width), composer.narrow(rows, hidden_width)
    turns = None
    if quantised.cosine is not None and quantised.sine is not None:
        turns = quantised.cosine, quantised.sine
    bits = numpy_encoder(quantised).bits()
    for i, (layer, of_input) in enumerate(zip(quantised.layers, bits, strict=True)):
        name = f"layer {i} "
        composer.unit(name + "queries, keys, values")
        composer.norm(name + "attention norm", x, layer.attention_norm, out)
        matrices = (layer.query, layer.key, layer.value)
        streams = [
            _of_four(each, heads, first) for first in range(0, lanes, SIDE) for each in matrices
        ]  # fmt: skip
        composer.product(name + "queries, keys, values", out, streams, qkv)
        composer.quantise_heads(name + "heads", qkv, layer.heads, turns, narrow)
        composer.unit(name + "attention")
        composer.attention(name + "attention", narrow, layer.heads.shift, seen, _frames)
        composer.unit(name + "output")
        gain = _in_lanes(layer.seen_gain[:, None], heads, lanes)[:, 0]
        composer.quantise(name + "seen", seen, gain, seen_narrow)
        output = replace(layer.output, values=_in_lanes(layer.output.values, heads, lanes))
        composer.product(name + "output", seen_narrow, [output], x, x, of_input - output.bits)
        composer.unit(name + "up")
        composer.norm(name + "network norm", x, layer.network_norm, out)
        composer.product(name + "up", out, [layer.up], hidden)
        composer.unit(name + "down")
        composer.quantise(name + "hidden", hidden, layer.hidden_gain, hidden_narrow)
        composer.product(name + "down", hidden_narrow, [layer.down], x, x, output.bits - layer.down.bits)
    composer.norm("last norm", x, quantised.last, out)
    most = rows if quantised.cosine is None else min(rows, len(quantised.cosine))
    return LayersPlan(composer, x, out, most)


def _frames(lengths: Lengths) -> int:
    return int(lengths["frames"])


def _of_four(product: Product, heads: int, first: int) -> Product:
    """The columns of four heads from the first on."""
    found = [
        _in_lanes(each.reshape(-1, product.values.shape[1]).T, heads, first + SIDE)
        for each in (product.values, product.channel, product.bias)
    ]
    values, channel, bias = (each[first * TILE :].T for each in found)
    return replace(product, values=np.ascontiguousarray(values), channel=channel[0], bias=bias[0])


def _in_lanes(rows: NDArray[Any], heads: int, lanes: int) -> NDArray[Any]:
    """[heads * width, n] -> [lanes * 64, n]."""
    apart = rows.reshape(heads, -1, rows.shape[1])
    wide = np.pad(apart, ((0, max(0, lanes - heads)), (0, TILE - apart.shape[1]), (0, 0)))
    return wide[:lanes].reshape(lanes * TILE, -1)
