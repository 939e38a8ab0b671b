"""Moonshine's encoder as a graph: convolutional stem, transformer, and what every decoder layer needs of its states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npu.graph import MICROSOFT
from npu.layers import EPSILON, LayerBuilder, quantised_by_column, rotation
from npu.moonshine import HEAD_WIDTH, HEADS, HOP, POSITIONS, REACH, SCALE, WIDTH
from npu.weights import Array, Convolution, DecoderLayer, EncoderLayer, Weights

_NUDGE = 1e-12  # keeps digital silence from becoming rows of zeros, which have no scale


def encoder_graph(weights: Weights) -> bytes:
    """`audio` [rows + 1, HOP] -> `ck0` `cv0` ... [1, heads, frames, head width]: the cross-attention of each layer.

    The states themselves, [1, frames, width], are the output `states`.
    """
    build = LayerBuilder("encoder")
    build.input("audio", np.float32, ["hops", HOP])
    cosine, sine = (build.tensor(table) for table in rotation(weights.frequencies, POSITIONS))
    start = build.constant([0], np.int64)

    def turn(x: str) -> str:
        return build.node(
            "RotaryEmbedding",
            *(x, start, cosine, sine),
            domain=MICROSOFT,
            interleaved=1,
            num_heads=HEADS,
            rotary_embedding_dim=2 * len(weights.frequencies),
        )

    x = _stem(build, weights)
    for layer in weights.encoder:
        x = _layer(build, layer, x, turn)
    states = build.norm(x, weights.encoder_norm)
    build.node("Identity", states, to="states")
    build.output("states", np.float32, [1, "frames", WIDTH])
    _cross_attention(build, weights.decoder, states)
    return build.serialize()


def cross_graph(weights: Weights) -> bytes:
    """`states` [1, frames, width], made elsewhere -> what `encoder_graph` makes of them for the decoder."""
    build = LayerBuilder("cross")
    build.input("states", np.float32, [1, "frames", WIDTH])
    _cross_attention(build, weights.decoder, "states")
    return build.serialize()


def _stem(build: LayerBuilder, weights: Weights) -> str:
    """Three strided convolutions as matrix products over gathered rows -> [1, frames, width]."""
    first, second, third = weights.stem
    taps = np.zeros((2 * HOP, WIDTH), np.float32)
    taps[:REACH] = first.kernel[:, 0].T
    pairs = build.node(
        "Concat", build.cut("audio", 0, 0, -1), build.cut("audio", 0, 1, None), axis=1
    )  # [rows, 2 HOP]
    x = build.node("Tanh", build.node("MatMul", pairs, build.tensor(taps)))  # [rows, width]
    x = build.node("Unsqueeze", _one_group_norm(build, x), build.constant([0], np.int64))
    second = _with_gain(second, weights.stem_gain, weights.stem_offset)
    for convolution in (second, third):
        x = build.gelu(build.convolved(x, convolution, quantised_by_column))
    return x


def _one_group_norm(build: LayerBuilder, x: str) -> str:
    """Zero mean and unit variance over time and channels together; gain and offset are in the next convolution."""
    flat = build.reshape(x, 1, 1, -1)
    plain = build.node(
        "InstanceNormalization", flat, build.constant([1]), build.constant([0]), epsilon=EPSILON
    )
    return build.reshape(plain, -1, WIDTH)


def _with_gain(convolution: Convolution, gain: Array, offset: Array) -> Convolution:
    """The convolution of x * gain + offset, as one of x."""
    bias = (convolution.kernel * offset[:, None]).sum(axis=(1, 2))
    bias += 0 if convolution.bias is None else convolution.bias
    return Convolution(convolution.kernel * gain[:, None], bias, convolution.stride)


def _layer(build: LayerBuilder, layer: EncoderLayer, x: str, turn: Callable[[str], str]) -> str:
    h = build.factor(build.norm(x, layer.attention_norm))
    query, key, value = (
        build.product_of(h, each)
        for each in (layer.attention.query, layer.attention.key, layer.attention.value)
    )
    seen = build.node(
        "MultiHeadAttention", turn(query), turn(key), value, domain=MICROSOFT, num_heads=HEADS, scale=SCALE
    )
    x = build.node("Add", x, build.product(seen, layer.attention.output))
    up = build.gelu(build.product(build.norm(x, layer.network_norm), layer.up))
    return build.node("Add", x, build.product(up, layer.down))


def _cross_attention(build: LayerBuilder, layers: tuple[DecoderLayer, ...], states: str) -> None:
    """Keys and values of every decoder layer, heads apart."""
    factor = build.factor(states)
    for i, layer in enumerate(layers):
        for name, linear in (("ck", layer.cross.key), ("cv", layer.cross.value)):
            apart = build.reshape(build.product_of(factor, linear), 1, -1, HEADS, HEAD_WIDTH)
            build.node("Transpose", apart, perm=[0, 2, 1, 3], to=f"{name}{i}")
            build.output(f"{name}{i}", np.float32, [1, HEADS, "frames", HEAD_WIDTH])
