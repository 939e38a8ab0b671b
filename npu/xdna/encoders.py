"""Encoders as stages of the overlay: Moonshine's and Whisper's, in bf16.

A head takes 64 columns whatever its width, and there are four at a time; what is added for that is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.mel import frames_in
from npu.moonshine import rows as heard_rows
from npu.weights import Convolution, EncoderLayer, Norm, Weights
from npu.whisper_weights import FRAMES_PER_STATE, WhisperWeights, spectrogram_of
from npu.xdna.composer import Composer, Seen
from npu.xdna.composition import Constants, Lengths, whole_spans
from npu.xdna.features import HOP_VALUES, ROWS_BEHIND, FeatureComposer, heard
from npu.xdna.gemm import SIDE, SPAN
from npu.xdna.lanes import in_lanes, own, projections
from npu.xdna.oracle import to_bf16
from npu.xdna.overlay import DEPTH, Activation, Bits
from npu.xdna.regions import LANE, Region, View

Array = NDArray[Any]

STEM, LAYERS = "stem", "layers"  # the two dispatches
_FEATURES = "log-mel"
_STEM = (_FEATURES, "convolution")  # begin the names of its units
_HOP, _REACH = 64, 127  # samples, of Moonshine's first convolution
_ROWS_PER_STATE = 6


@dataclass(frozen=True, eq=False)
class Plan:
    """An encoder for windows of up to so many states."""

    composer: Composer
    laid: Callable[
        [Array, bool], tuple[Bits, Lengths]
    ]  # audio [n] at 16 kHz, whether short -> what the host writes, and its lengths
    into: Region  # where
    out: Region
    width: int  # of the states
    states: int  # at most
    blank: tuple[Region, ...] = ()  # rows of zeros, where plans for other lengths have their activations

    @property
    def units(self) -> tuple[str, ...]:
        """What could be dispatches of their own, in order."""
        return tuple(self.composer.units)

    def dispatches(self) -> dict[str, tuple[str, ...]]:
        """The units of the stem, and those of the layers, where there are any."""
        stem = tuple(name for name in self.units if name.startswith(_STEM))
        parts = {STEM: stem, LAYERS: self.units[len(stem) :]}
        return {name: units for name, units in parts.items() if units}


def states_of(rows: int) -> int:
    """Moonshine's states for so many rows of the first convolution."""
    return ((rows - 7) // 3 + 1 - 3) // 2 + 1


def moonshine(weights: Weights, heads: int, constants: Constants, spans: int) -> Plan:
    """Moonshine, for up to 256 states a span but two. lengths: `rows` of the first convolution, `states`."""
    plan = moonshine_stem(weights, constants, spans)
    angles = np.arange(plan.out.rows, dtype=np.float32)[:, None] * weights.frequencies
    layers, last = weights.encoder, weights.encoder_norm
    return replace(plan, out=_layers(plan.composer, plan.out, plan.width, heads, layers, last, angles))


def moonshine_stem(weights: Weights, constants: Constants, spans: int) -> Plan:
    """The same without the layers: its states are what the first of them sees."""
    composer = Composer(constants)
    states = spans * SPAN
    rows = _ROWS_PER_STATE * states
    first, second, third = weights.stem
    width = weights.stem_gain.size
    samples = composer.input(rows + 2, _HOP)

    composer.unit("convolution 1")
    taps = np.zeros((_REACH + 1, width), np.float32)
    taps[:_REACH] = first.kernel[:, 0].T
    x = composer.region(rows, width, more_rows=second.kernel.shape[2])
    composer.product(
        "convolution 1", View(samples.offset, _HOP, _REACH + 1), taps, x, function=Activation.TANH
    )
    composer.group_norm("group norm", x, weights.stem_gain, weights.stem_offset, x, lambda n: n["rows"])
    for name, convolution, rows_of in (
        ("convolution 2", second, 2 * states),
        ("convolution 3", third, states),
    ):
        composer.unit(name)
        out, inputs, taps_of = convolution.kernel.shape
        to = composer.region(rows_of, out, more_rows=taps_of)
        seen = x.convolved(convolution.stride, taps_of, inputs)
        composer.product(name, seen, _flat(convolution), to, bias=convolution.bias, function=Activation.GELU)
        x = to

    def laid(audio: Array, short: bool) -> tuple[Bits, Lengths]:
        prepared = heard_rows(audio, short)
        rows = len(prepared) - 1
        return to_bf16(prepared).ravel(), {"rows": rows, "states": states_of(rows)}

    return Plan(composer, laid, samples, x, width, states - 2)


def whisper(weights: WhisperWeights, constants: Constants, spans: int) -> Plan:
    """Whisper, for up to 256 states a span. lengths: `frames`, `states`."""
    plan, sizes = whisper_stem(weights, constants, spans), weights.sizes
    layers = (weights.encoder_layer(i) for i in range(sizes.encoder_layers))
    norm = weights.norm("model.encoder.layer_norm")
    out = _layers(plan.composer, plan.out, plan.width, sizes.encoder_heads, layers, norm, None)
    return replace(plan, out=out)


def whisper_stem(weights: WhisperWeights, constants: Constants, spans: int) -> Plan:
    """The same without the layers: its states, with their positions, are what the first of them sees."""
    composer = FeatureComposer(constants)
    sizes = weights.sizes
    states, width = spans * SPAN, sizes.width
    bins = -(-sizes.bins // DEPTH) * DEPTH
    first, second = weights.stem()
    taps = first.kernel.shape[2]
    frames = FRAMES_PER_STATE * states
    samples = composer.input(frames + ROWS_BEHIND, HOP_VALUES)

    composer.unit(_FEATURES)
    silence = composer.input(1, whole_spans(bins))  # what the first convolution sees before the first frame
    features = composer.region(frames, bins, more_rows=taps)
    composer.log_mel(samples, sizes.bins, features, lambda n: int(n["frames"]))
    composer.unit("convolution 1")
    matrix = np.zeros((taps, bins, width), np.float32)
    matrix[:, : sizes.bins] = first.kernel.transpose(2, 1, 0)
    before = composer.input(1, whole_spans(width))  # what the second convolution sees before the first row
    x = composer.region(frames, width, more_rows=taps)
    seen = replace(features, offset=silence.offset).convolved(1, taps, bins)
    composer.product(
        "convolution 1", seen, matrix.reshape(-1, width), x, bias=first.bias, function=Activation.GELU
    )
    composer.unit("convolution 2")
    positions = composer.constant("positions", weights.encoder_positions()[:states])
    to = composer.region(states, width)
    seen = View(before.offset, second.stride * before.width, width, taps, before.width)
    composer.product(
        "convolution 2", seen, _flat(second), to, bias=second.bias, function=Activation.GELU, other=positions
    )

    shape = spectrogram_of(sizes)

    def laid(audio: Array, short: bool) -> tuple[Bits, Lengths]:
        frames = max(shape.frames_for(len(audio), short), frames_in(len(audio)))
        return heard(audio, frames), {"frames": frames, "states": frames // FRAMES_PER_STATE}

    behind = replace(features, offset=features.offset + features.rows * features.width, rows=1)
    return Plan(composer, laid, samples, to, width, min(states, sizes.states), (silence, behind, before))


def _layers(
    composer: Composer,
    x: Region,
    width: int,
    heads: int,
    layers: Iterable[EncoderLayer],
    last: Norm,
    angles: Array | None,
) -> Region:
    """The transformer, in place; angles [states, pairs]: by which queries and keys are turned."""
    lanes = -(-heads // SIDE) * SIDE
    each = lanes * LANE
    h, qkv = composer.region(x.rows, width), composer.region(x.rows, 3 * each)
    seen = composer.region(x.rows, each)
    hidden: Region | None = None
    for i, layer in enumerate(layers):
        composer.unit(f"layer {i} queries, keys, values")
        name = f"layer {i} "
        composer.norm(name + "attention norm", x, layer.attention_norm.gain, layer.attention_norm.offset, h)
        matrix, bias = projections(layer.attention, heads, lanes)
        composer.product(name + "queries, keys, values", own(h, width), matrix, qkv, bias=bias)
        if angles is not None:
            composer.turn(name + "rotation", qkv, 2 * lanes, angles)
        composer.unit(f"layer {i} attention")
        composer.attention(
            name + "attention", qkv, Seen(qkv.part(each), qkv.part(2 * each), _states), seen,
            heads=lanes, scale=(width // heads) ** -0.5, queries=_states,
        )  # fmt: skip
        composer.unit(f"layer {i} output")
        output = layer.attention.output
        matrix = in_lanes(output.dense().T, heads, lanes).T
        composer.product(name + "output", seen.view(), matrix, x, bias=output.bias, other=x)
        composer.unit(f"layer {i} up")
        up, down = layer.up, layer.down
        composer.norm(name + "network norm", x, layer.network_norm.gain, layer.network_norm.offset, h)
        hidden = hidden or composer.region(x.rows, up.shape[1])
        composer.product(
            name + "up", own(h, width), up.dense(), hidden, bias=up.bias, function=Activation.GELU
        )
        composer.unit(f"layer {i} down")
        composer.product(name + "down", own(hidden, up.shape[1]), down.dense(), x, bias=down.bias, other=x)
    composer.norm("last norm", x, last.gain, last.offset, h)
    return h


def _states(lengths: Lengths) -> int:
    return int(lengths["states"])


def _flat(convolution: Convolution) -> Array:
    """[taps * in, out]."""
    kernel = convolution.kernel.transpose(2, 1, 0)
    return kernel.reshape(-1, kernel.shape[2])
