"""The decoders in float32, taken apart as the NPU computes them: what is quantised, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from npu.backends import reference as fp32
from npu.backends.reference import Array
from npu.checkpoint import Checkpoint
from npu.moonshine import HEADS, TOKENS
from npu.weights import DecoderLayer, Dense, Linear, Matrix, Norm, Weights
from npu.whisper_weights import WhisperWeights


@dataclass(frozen=True, eq=False)
class FloatDecoder:
    """Either family's."""

    heads: int
    embedded: Callable[[Sequence[int], int], Array]  # tokens from a position on -> [k, width]
    most_tokens: int  # that there are positions for
    frequencies: Array | None  # of rotary embedding
    gated: bool  # the network is hidden * SiLU(gate), not GELU
    layers: tuple[DecoderLayer, ...]
    last: Norm
    head: Matrix


@dataclass(frozen=True, eq=False)
class Decoded:
    """What one layer computes of a whole text's rows x, [tokens, width] each."""

    x: Array
    normal: Array  # behind the first norm
    query: Array  # heads side by side, not turned yet
    key: Array
    value: Array
    heads: tuple[Array, Array, Array]  # the three [heads, tokens, head width], turned by position
    seen: Array
    between: Array  # after attention
    normal_between: Array  # behind the second norm
    cross_query: Array
    cross_seen: Array
    crossed: Array  # after cross-attention
    normal_crossed: Array  # behind the third norm
    up: Array  # the hidden half, or all of it before GELU
    gate: Array | None
    hidden: Array  # what the second product of the network is of
    after: Array  # what the next layer sees


def see(decoder: FloatDecoder, layer: DecoderLayer, x: Array, cross: tuple[Array, Array]) -> Decoded:
    """x [tokens, width] through a layer; cross: keys and values [heads, frames, head width]."""
    normal, attention = fp32.norm(x, layer.attention_norm), layer.attention
    flat_query, flat_key, flat_value = (
        fp32.linear(normal, each) for each in (attention.query, attention.key, attention.value)
    )
    query, key, value = (fp32.apart(each, decoder.heads) for each in (flat_query, flat_key, flat_value))
    if decoder.frequencies is not None:
        query, key = (fp32.rotate(each, decoder.frequencies, 0) for each in (query, key))
    later = np.triu(np.full((len(x), len(x)), -np.inf, np.float32), 1)
    seen, _ = fp32.attend(query, key, value, later)
    between = x + fp32.linear(seen, attention.output)
    normal_between = fp32.norm(between, layer.cross_norm)
    cross_query = fp32.linear(normal_between, layer.cross.query)
    cross_seen, _ = fp32.attend(fp32.apart(cross_query, decoder.heads), *cross)
    crossed = between + fp32.linear(cross_seen, layer.cross.output)
    normal_crossed = fp32.norm(crossed, layer.network_norm)
    up, gate = fp32.linear(normal_crossed, layer.up), None
    if decoder.gated:
        up, gate = np.split(up, 2, axis=1)
        hidden = fp32.silu(gate) * up
    else:
        hidden = fp32.gelu(up)
    return Decoded(
        x, normal, flat_query, flat_key, flat_value, (query, key, value), seen, between, normal_between, cross_query,
        cross_seen, crossed, normal_crossed, up, gate, hidden, crossed + fp32.linear(hidden, layer.down),
    )  # fmt: skip


def halves(matrix: Matrix) -> tuple[Dense, Dense]:
    """A gated network's first product as two: the hidden half, and its gate."""
    biases = [None, None] if matrix.bias is None else np.split(matrix.bias, 2)
    hidden, gate = np.split(matrix.dense(), 2, axis=1)
    return Dense(hidden, biases[0]), Dense(gate, biases[1])


def of_moonshine(weights: Weights) -> FloatDecoder:
    """Moonshine's."""

    def embedded(tokens: Sequence[int], _start: int) -> Array:
        return _rows(weights.embedding, tokens)

    return FloatDecoder(
        HEADS,
        embedded,
        TOKENS,
        weights.frequencies,
        True,
        weights.decoder,
        weights.decoder_norm,
        weights.head,
    )


def of_whisper(checkpoint: Checkpoint) -> FloatDecoder:
    """A Whisper checkpoint's."""
    weights = WhisperWeights(checkpoint, "fp32")
    table, positions = weights.embedding(), weights.decoder_positions()

    def embedded(tokens: Sequence[int], start: int) -> Array:
        return np.asarray(table[list(tokens)] + positions[start : start + len(tokens)], np.float32)

    return FloatDecoder(
        weights.sizes.decoder_heads, embedded, weights.sizes.tokens, None, False,
        tuple(weights.decoder_layer(i) for i in range(weights.sizes.decoder_layers)),
        weights.norm("model.decoder.layer_norm"), weights.head(),
    )  # fmt: skip


def _rows(embedding: Linear, tokens: Sequence[int]) -> Array:
    values = embedding.values[list(tokens)].astype(np.float32) - np.float32(embedding.zero)
    return np.asarray(values * embedding.scale, np.float32)
