"""Whisper's encoder as a graph: convolutional stem, transformer, and what every decoder layer needs of its states."""

from __future__ import annotations

import numpy as np

from npu import cross
from npu.architecture import Architecture
from npu.checkpoint import Checkpoint
from npu.graph import MICROSOFT
from npu.layers import LayerBuilder
from npu.weights import Array, Convolution, Dense, EncoderLayer
from npu.whisper_weights import WhisperWeights


def encoder_graph(checkpoint: Checkpoint, architecture: Architecture, precision: str) -> bytes:
    """`audio` [frames, bins], log-mel -> `ck0` `cv0` ...: the cross-attention of each decoder layer.

    It is [1, heads, states, head width], or in 8 bits as `npu.cross` has it. The states themselves, [1, states,
    width], are the output `states`.
    """
    weights = WhisperWeights(checkpoint, precision)
    sizes = weights.sizes
    build = LayerBuilder("encoder")
    build.input("audio", np.float32, ["frames", sizes.bins])
    x = _stem(build, weights)
    x = build.node("Add", x, _positions(build, x, weights.encoder_positions()))
    for i in range(sizes.encoder_layers):
        x = _layer(build, weights.encoder_layer(i), x, sizes.encoder_heads)
    states = build.norm(x, weights.norm("model.encoder.layer_norm"))
    build.node("Identity", states, to="states")
    build.output("states", np.float32, [1, "states", sizes.width])
    _cross_attention(build, architecture, weights, states, small=precision == "int8")
    return build.serialize()


def cross_graph(checkpoint: Checkpoint, architecture: Architecture, precision: str) -> bytes:
    """`states` [1, states, width], made elsewhere -> what `encoder_graph` makes of them for the decoder."""
    weights = WhisperWeights(checkpoint, precision)
    build = LayerBuilder("cross")
    build.input("states", np.float32, [1, "states", weights.sizes.width])
    _cross_attention(build, architecture, weights, "states", small=precision == "int8")
    return build.serialize()


def _stem(build: LayerBuilder, weights: WhisperWeights) -> str:
    """Two convolutions over time, with a row of zeros at either end of what they see -> [1, states, width].

    The first is a small part of the whole and keeps its float32 input: a window may end in rows that are all zero.
    """
    first, second = weights.stem()
    x = build.node("Unsqueeze", "audio", build.constant([0], np.int64))
    x = build.gelu(_padded_convolution(build, x, first))
    return build.gelu(_padded_convolution(build, x, second))


def _padded_convolution(build: LayerBuilder, x: str, convolution: Convolution) -> str:
    """One product over the rows that each output sees, side by side; float32."""
    taps = convolution.kernel.shape[2]
    pads = build.constant([0, taps // 2, 0, 0, taps // 2, 0], np.int64)
    x = build.node("Pad", x, pads)
    views = [build.cut(x, 1, tap, tap + 1 - taps or None, convolution.stride) for tap in range(taps)]
    kernel: Array = np.concatenate([convolution.kernel[:, :, tap].T for tap in range(taps)])
    return build.product(build.node("Concat", *views, axis=2), Dense(kernel, convolution.bias))


def _positions(build: LayerBuilder, x: str, table: Array) -> str:
    """The embeddings of the first positions."""
    count = build.node("Shape", x, start=1, end=2)
    zero = build.constant([0], np.int64)
    return build.node("Slice", build.tensor(table), zero, count, zero)


def _layer(build: LayerBuilder, layer: EncoderLayer, x: str, heads: int) -> str:
    """In 8 bits each row has a scale of its own: 8 % dearer than one scale, and no state can spoil the others."""
    h = build.rows(build.norm(x, layer.attention_norm))
    query, key, value = (
        build.product_of(h, each)
        for each in (layer.attention.query, layer.attention.key, layer.attention.value)
    )
    seen = build.node("MultiHeadAttention", query, key, value, domain=MICROSOFT, num_heads=heads)
    x = build.node("Add", x, build.product_by_row(seen, layer.attention.output))
    up = build.gelu(build.product_by_row(build.norm(x, layer.network_norm), layer.up))
    return build.node("Add", x, build.product_by_row(up, layer.down))


def _cross_attention(
    build: LayerBuilder, architecture: Architecture, weights: WhisperWeights, states: str, small: bool
) -> None:
    """Keys and values of every decoder layer, heads apart; `small`: in 8 bits."""
    factor, heads, width = build.rows(states), architecture.heads, architecture.head_width
    for i in range(architecture.layers):
        attention = weights.cross(i)
        key, value = (
            build.reshape(build.product_of(factor, matrix), 1, -1, heads, width)
            for matrix in (attention.key, attention.value)
        )
        if small:
            cross.write(build, i, key, value)
            for name, dtype, shape in zip(
                cross.names(i), cross.dtypes(), cross.shapes(1, heads, width, "states"), strict=True
            ):
                build.output(name, dtype, shape)
            continue
        for name, apart in ((f"ck{i}", key), (f"cv{i}", value)):
            build.node("Transpose", apart, perm=[0, 2, 1, 3], to=name)
            build.output(name, np.float32, [1, heads, "states", width])
