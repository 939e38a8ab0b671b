"""Silero VAD for 16 kHz as a lean graph of its own, from the weights of the shipped one.

The shipped graph holds both sample rates and asks for the shapes of everything on its way: a hundred small nodes and
a dozen conditionals around the sixteen that compute.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.graph import GraphBuilder, SourceGraph

BUILDER = 2  # counts up when the graph built here changes
CHUNK = 512  # samples of one question
CONTEXT = 64  # samples before them that the model sees as well
STATE = (2, 1, 128)  # hidden and cell state of the LSTM
_BASIS = (258, 1, 256)  # real and imaginary Fourier basis of the 16 kHz half; the 8 kHz half's is shorter
_HOP = 128  # samples between spectra
_REFLECTED = 64  # samples mirrored at the end
_STRIDES = (1, 2, 2, 1)  # of the four convolutions


def silero_graph(source: SourceGraph) -> bytes:
    """`input` [n, CONTEXT + CHUNK], chunks in order, and `state` -> `probability` [n] and `next`, the state after them."""
    weights = _weights(source)
    build = GraphBuilder("silero")
    build.input("input", np.float32, ["n", CONTEXT + CHUNK])
    build.input("state", np.float32, STATE)
    x = build.node("Pad", "input", build.constant([0, 0, 0, _REFLECTED], np.int64), mode="reflect")
    x = build.node("Unsqueeze", x, build.constant([1], np.int64))
    x = build.node("Conv", x, build.tensor(weights["stft.forward_basis_buffer"]), strides=[_HOP])
    real, imaginary = build.nodes("Split", x, outputs=[None, None], axis=1, num_outputs=2)
    power = build.node("Add", build.node("Mul", real, real), build.node("Mul", imaginary, imaginary))
    x = build.node("Sqrt", power)  # [n, 129, 4]
    for i, stride in enumerate(_STRIDES):
        kernel, bias = (
            build.tensor(weights[f"encoder.{i}.reparam_conv.{part}"]) for part in ("weight", "bias")
        )
        x = build.node("Relu", build.node("Conv", x, kernel, bias, pads=[1, 1], strides=[stride]))
    x = build.node("Transpose", x, perm=[0, 2, 1])  # [n, 1, 128]: n steps of the LSTM
    hidden, cell = build.nodes("Split", "state", outputs=[None, None], axis=0, num_outputs=2)
    inputs = [_gates(weights[f"decoder.rnn.weight_{part}"]) for part in ("ih", "hh")]
    biases = [_gates(weights[f"decoder.rnn.bias_{part}"]) for part in ("ih", "hh")]
    steps, hidden, cell = build.nodes(
        "LSTM",
        x,
        *(build.tensor(each) for each in inputs),
        build.tensor(np.concatenate(biases, axis=1)),
        "",
        hidden,
        cell,
        outputs=[None, None, None],
        hidden_size=STATE[-1],
    )
    build.node("Concat", hidden, cell, axis=0, to="next")
    last = weights["decoder.decoder.2.weight"].reshape(-1, 1)  # [128, 1]
    y = build.node("MatMul", build.node("Relu", steps), build.tensor(last))
    y = build.node("Add", y, build.tensor(weights["decoder.decoder.2.bias"]))
    build.node("Reshape", build.node("Sigmoid", y), build.constant([-1], np.int64), to="probability")
    build.output("probability", np.float32, ["n"])
    build.output("next", np.float32, STATE)
    return build.serialize()


def _weights(source: SourceGraph) -> dict[str, NDArray[Any]]:
    """The 16 kHz half's constants by their own names."""
    (basis,) = (name for name, value in source.constants.items() if value.shape == _BASIS)
    prefix = basis.removesuffix("stft.forward_basis_buffer")
    return {
        name.removeprefix(prefix): value
        for name, value in source.constants.items()
        if name.startswith(prefix)
    }


def _gates(value: NDArray[Any]) -> NDArray[Any]:
    """PyTorch's order of the gates (input, forget, cell, output) to ONNX's (input, output, forget, cell)."""
    i, f, c, o = np.split(value, 4)
    return np.concatenate([i, o, f, c])[None]
