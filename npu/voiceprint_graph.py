"""The voiceprint network of pyannote's community-1 as two graphs of our own, from the weights of the shipped one.

A ResNet34 over a log-mel spectrogram, statistics pooling over time, one linear layer. The shipped graph does it all
for one stretch of audio. Here the trunk makes maps of each moment once, in 8 bits, and the head makes a voiceprint of
any choice of those moments, so that a voiceprint of a longer or a different choice costs next to nothing.
Architecture: He et al., Deep residual learning, CVPR 2016; Wang et al., Wespeaker, ICASSP 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.fbank import BINS
from npu.graph import MICROSOFT, GraphBuilder, SourceGraph

Array = NDArray[np.float32]

BUILDER = 1  # counts up when the graphs built here change
BLOCKS = (3, 4, 6, 3)  # of the four stages; each after the first halves time and frequency
WIDTH = 256  # of the last stage's channels, and of a voiceprint
FRAMES = 2 ** (len(BLOCKS) - 1)  # spectrogram frames that one moment of the maps stands for
MOMENT = WIDTH * BINS // FRAMES  # numbers of one moment
_STEPS = 127  # a signed 8-bit number's largest
_MIDDLE = 128  # the unsigned 8-bit number that stands for zero where values have both signs
# The largest magnitude of each value on the wheel's recordings, in the order of computation: the stem's, then of each
# block the first convolution's, the second's, the shortcut's where there is one, and the sum's.
_LARGEST = (
    7.83, 11.76, 12.95, 12.37, 6.5, 8.62, 13.6, 13.41, 13.39, 21.68, 9.88, 12.57, 4.94, 12.75, 10.55, 7.68, 11.94,
    8.16, 11.22, 12.97, 7.2, 12.74, 14.92, 4.23, 3.35, 1.75, 4.8, 3.14, 2.64, 6.37, 2.1, 3.1, 7.63, 3.34, 4.26, 6.71,
    4.11, 9.4, 9.4, 3.37, 6.23, 7.98, 3.85, 4.37, 1.76, 4.71, 2.74, 3.35, 4.5, 4.43, 8.07, 5.49,
)  # fmt: skip
_KEPT = 0.65  # of that range is represented: clipping what is rare makes the steps finer for the rest


@dataclass(frozen=True)
class _Value:
    """A value in unsigned 8 bits."""

    name: str
    scale: float
    zero: int


@dataclass(frozen=True, eq=False)
class _Convolution:
    """Kernel [out, in, height, width] and bias [out], both with the batch norm folded in."""

    kernel: Array
    bias: Array


class _TrunkBuilder(GraphBuilder):
    """Knows 8-bit convolutions."""

    def __init__(self) -> None:
        super().__init__("voiceprint-trunk")
        self._ranges = iter(_LARGEST)

    def scale(self, both_signs: bool) -> tuple[float, int]:
        """Scale and zero point of the next value."""
        largest = next(self._ranges) * _KEPT
        return (largest / _STEPS, _MIDDLE) if both_signs else (largest / (2 * _MIDDLE - 1), 0)

    def convolve(self, x: _Value, by: _Convolution, stride: int, both_signs: bool) -> _Value:
        """Without `both_signs` it is rectified: what is negative becomes the zero point, which is 0."""
        scale, zero = self.scale(both_signs)
        step = np.abs(by.kernel).max(axis=(1, 2, 3)) / _STEPS  # [out]
        kernel = np.round(by.kernel / step[:, None, None, None]).astype(np.int8)
        bias = np.round(by.bias / (x.scale * step)).astype(np.int32)
        name = self.node(
            "QLinearConv",
            *self._quantised(x),
            self.tensor(kernel),
            self.tensor(step.astype(np.float32)),
            self.tensor(np.zeros(len(step), np.int8)),
            *self._grid(scale, zero),
            self.tensor(bias),
            strides=[stride, stride],
            pads=[by.kernel.shape[2] // 2] * 4,
        )
        return _Value(name, scale, zero)

    def add(self, x: _Value, y: _Value) -> _Value:
        """Their sum, rectified."""
        scale, zero = self.scale(both_signs=False)
        inputs = (*self._quantised(x), *self._quantised(y), *self._grid(scale, zero))
        return _Value(self.node("QLinearAdd", *inputs, domain=MICROSOFT), scale, zero)

    def quantise(self, x: str) -> _Value:
        """A rectified value."""
        scale, zero = self.scale(both_signs=False)
        return _Value(self.node("QuantizeLinear", x, *self._grid(scale, zero)), scale, zero)

    def dequantise(self, x: _Value) -> str:
        """Back to float32."""
        return self.node("DequantizeLinear", *self._quantised(x))

    def _quantised(self, x: _Value) -> tuple[str, str, str]:
        return x.name, *self._grid(x.scale, x.zero)

    def _grid(self, scale: float, zero: int) -> tuple[str, str]:
        return self.scalar(scale), self.scalar(zero, np.uint8)


def trunk_graph(source: SourceGraph) -> bytes:
    """`spectrogram` [n, BINS], each bin's mean taken off -> `maps` [ceil(n / FRAMES), MOMENT]."""
    convolutions = _convolutions(source)
    build = _TrunkBuilder()
    build.input("spectrogram", np.float32, ["n", BINS])
    stem = next(convolutions)
    x = build.node("Transpose", "spectrogram", perm=[1, 0])
    x = build.node("Unsqueeze", x, build.constant([0, 1], np.int64))  # [1, 1, BINS, n]
    x = build.node("Conv", x, build.tensor(stem.kernel), build.tensor(stem.bias), pads=[1] * 4)
    value = build.quantise(build.node("Relu", x))
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            first, second = next(convolutions), next(convolutions)
            narrows = stage > 0 and block == 0
            stride = 2 if narrows else 1
            inner = build.convolve(value, first, stride, both_signs=False)
            outer = build.convolve(inner, second, 1, both_signs=True)
            beside = build.convolve(value, next(convolutions), stride, both_signs=True) if narrows else value
            value = build.add(outer, beside)
    x = build.node("Transpose", build.dequantise(value), perm=[0, 3, 1, 2])  # [1, m, WIDTH, BINS / FRAMES]
    build.node("Reshape", x, build.constant([-1, MOMENT], np.int64), to="maps")
    build.output("maps", np.float32, ["m", MOMENT])
    return build.serialize()


def head_graph(source: SourceGraph) -> bytes:
    """`maps` [m, MOMENT] in float16 and `weights` [k, m] -> `voiceprints` [k, WIDTH], unit vectors.

    Mean and deviation over time, each moment weighted; the deviation as pyannote's StatsPool corrects it.
    """
    build = GraphBuilder("voiceprint-head")
    build.input("maps", np.float16, ["m", MOMENT])
    build.input("weights", np.float32, ["k", "m"])
    last = build.constant([-1], np.int64)
    tiny = build.scalar(1e-8)
    maps = build.cast("maps", np.float32)
    total = build.node("Add", build.node("ReduceSum", "weights", last, keepdims=1), tiny)  # [k, 1]
    mean = build.node("Div", build.node("MatMul", "weights", maps), total)  # [k, MOMENT]
    squares = build.node("MatMul", "weights", build.node("Mul", maps, maps))
    spread = build.node("Sub", squares, build.node("Mul", build.node("Mul", mean, mean), total))
    lost = build.node(
        "Div", build.node("ReduceSum", build.node("Mul", "weights", "weights"), last, keepdims=1), total
    )
    variance = build.node("Div", spread, build.node("Add", build.node("Sub", total, lost), tiny))
    deviation = build.node("Sqrt", build.node("Max", variance, build.scalar(0.0)))
    pooled = build.node("Concat", mean, deviation, axis=1)  # [k, 2 * MOMENT]
    (matrix, bias) = next(node.inputs[1:] for node in source.nodes if node.op == "Gemm")
    x = build.node("MatMul", pooled, build.tensor(np.ascontiguousarray(source.weight(matrix).T)))
    x = build.node("Add", x, build.tensor(source.weight(bias)))
    build.node("LpNormalization", x, axis=1, p=2, to="voiceprints")
    build.output("voiceprints", np.float32, ["k", WIDTH])
    return build.serialize()


def _convolutions(source: SourceGraph) -> Iterator[_Convolution]:
    """In order of computation."""
    for node in source.nodes:
        if node.op == "Conv":
            yield _Convolution(source.weight(node.inputs[1]), source.weight(node.inputs[2]))
