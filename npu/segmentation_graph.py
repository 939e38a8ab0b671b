"""The segmentation network of pyannote's community-1 as a lean graph of its own, from the weights of the shipped one.

The shipped graph takes ten seconds only, computes its filters anew in every run and answers with the most likely of
seven sets of speakers; this one takes windows of any length and answers with each of three speakers' probability.
Architecture: Bredin and Laurent, End-to-end speaker segmentation for overlap-aware resegmentation, Interspeech 2021;
sets of speakers: Plaquet and Bredin, Powerset multi-class cross entropy loss, Interspeech 2023.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npu.graph import MICROSOFT, GraphBuilder, SourceGraph

Array = NDArray[np.float32]

BUILDER = 1  # counts up when the graph built here changes
SPEAKERS = 3  # told apart within a window
SETS = ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2))  # of speakers who speak at once
_SINC_STRIDE = 10  # samples
_POOL = 3  # frames become one, three times
STEP = _SINC_STRIDE * _POOL**3  # samples between frames
_LOWEST_HZ = 50.0  # of a filter's lower edge, and of its width
_HIGHEST_HZ = 8000.0
_HIDDEN = 128  # states of an LSTM in one direction
_STEPS = 127  # a signed 8-bit number's largest
_SLOPE = 0.01  # of the leaky rectifiers
_EPSILON = 1e-5  # of the norms


def segmentation_graph(source: SourceGraph) -> bytes:
    """`audio` [b, n] at 16 kHz -> `activity` [b, frames, SPEAKERS], probabilities; a frame every STEP samples."""
    constants = source.constants
    build = GraphBuilder("segmentation")
    build.input("audio", np.float32, ["b", "n"])
    x = build.node("Unsqueeze", "audio", build.constant([1], np.int64))
    x = _norm(build, source, x, "wav_norm1d")
    x = build.node("Conv", x, build.tensor(_filters(source)), strides=[_SINC_STRIDE])
    x = build.node("Abs", x)
    for i in range(3):
        if i:
            kernel = source.weight(_input_of(source, f"inner.sincnet.conv1d.{i}.bias", 1))
            x = build.node(
                "Conv", x, build.tensor(kernel), build.tensor(constants[f"inner.sincnet.conv1d.{i}.bias"])
            )
        x = build.node("MaxPool", x, kernel_shape=[_POOL], strides=[_POOL])
        x = build.node(
            "LeakyRelu", _norm(build, source, x, f"norm1d.{i}"), alpha=_SLOPE
        )  # [b, width, frames]
    x = build.node("Transpose", x, perm=[2, 0, 1])
    for node in (node for node in source.nodes if node.op == "LSTM"):
        x = _lstm(build, x, *(source.weight(name) for name in node.inputs[1:4]))
        x = build.node("Transpose", x, perm=[0, 2, 1, 3])  # [frames, b, direction, state]
        x = build.node("Reshape", x, build.constant([0, 0, 2 * _HIDDEN], np.int64))
    x = build.node("Transpose", x, perm=[1, 0, 2])
    for name in ("linear.0", "linear.1"):
        x = build.node("LeakyRelu", _linear(build, source, x, name), alpha=_SLOPE)
    x = build.node("Softmax", _linear(build, source, x, "classifier"), axis=-1)  # [b, frames, sets]
    members = [[float(speaker in group) for speaker in range(SPEAKERS)] for group in SETS]
    build.node("MatMul", x, build.constant(members), to="activity")
    build.output("activity", np.float32, ["b", "frames", SPEAKERS])
    return build.serialize()


def _norm(build: GraphBuilder, source: SourceGraph, x: str, name: str) -> str:
    """Each channel of the window to mean 0 and deviation 1, then scaled and shifted."""
    scale, shift = (
        build.constant(source.constants[f"inner.sincnet.{name}.{part}"]) for part in ("weight", "bias")
    )
    return build.node("InstanceNormalization", x, scale, shift, epsilon=_EPSILON)


def _lstm(build: GraphBuilder, x: str, weights: Array, recurrent: Array, bias: Array) -> str:
    """Both directions, in signed 8 bits with a scale for each column: the shipped weights are in 8 bits as well."""
    matrices, scales = [], []
    for matrix in (weights, recurrent):  # [direction, 4 * _HIDDEN, width]
        columns = matrix.transpose(0, 2, 1)
        scale = np.abs(columns).max(axis=1) / _STEPS  # [direction, 4 * _HIDDEN]
        matrices.append(build.tensor(np.round(columns / scale[:, None]).astype(np.int8)))
        scales += [build.tensor(scale.astype(np.float32)), build.tensor(np.zeros(scale.shape, np.int8))]
    absent = [""] * 4  # lengths, first states, peepholes
    inputs = (x, *matrices, build.tensor(bias), *absent, *scales)
    how = {"hidden_size": _HIDDEN, "direction": "bidirectional"}
    (y,) = build.nodes("DynamicQuantizeLSTM", *inputs, outputs=[None], domain=MICROSOFT, **how)
    return y


def _linear(build: GraphBuilder, source: SourceGraph, x: str, name: str) -> str:
    bias = f"inner.{name}.bias"
    (product,) = (node.inputs[1 - node.inputs.index(bias)] for node in source.nodes if bias in node.inputs)
    matrix = source.weight(_maker(source, product)[1])
    return build.node(
        "Add", build.node("MatMul", x, build.tensor(matrix)), build.tensor(source.constants[bias])
    )


def _input_of(source: SourceGraph, constant: str, index: int) -> str:
    """Another input of the node that takes a constant."""
    (node,) = (node for node in source.nodes if constant in node.inputs)
    return node.inputs[index]


def _maker(source: SourceGraph, value: str) -> tuple[str, ...]:
    """The inputs of the node whose output a value is."""
    (node,) = (node for node in source.nodes if value in node.outputs)
    return node.inputs


def _filters(source: SourceGraph) -> Array:
    """[80, 1, 251]: band-pass filters with learned edges, an even and an odd one for each of 40 bands."""
    part = {
        name: source.weight(f"inner.sincnet.conv1d.0.filterbank.{name}")
        for name in ("low_hz_", "band_hz_", "n_", "window_")
    }
    low = _LOWEST_HZ + np.abs(part["low_hz_"])  # [40, 1]
    high = np.clip(low + _LOWEST_HZ + np.abs(part["band_hz_"]), _LOWEST_HZ, _HIGHEST_HZ)
    half_n = part["n_"] / 2  # [1, 125]; n_ is 2 pi t, so that low * n_ is a phase
    window = part["window_"]
    even = (np.sin(high * part["n_"]) - np.sin(low * part["n_"])) / half_n * window
    odd = (np.cos(low * part["n_"]) - np.cos(high * part["n_"])) / half_n * window
    width = 2 * (high - low)
    symmetric = np.concatenate([even, width, even[:, ::-1]], axis=1) / width
    antisymmetric = np.concatenate([odd, np.zeros_like(width), -odd[:, ::-1]], axis=1) / width
    return np.concatenate([symmetric, antisymmetric])[:, None].astype(np.float32)
