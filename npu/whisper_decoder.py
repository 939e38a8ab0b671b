"""Whisper's decoder as graphs: of one decoding, and of many in lockstep, which is how recordings are decoded."""

from __future__ import annotations

import numpy as np

from npu.architecture import Architecture
from npu.checkpoint import Checkpoint
from npu.layers import LayerBuilder, quantised_by_column
from npu.stack import DecoderStack, LockstepStack
from npu.weights import Array, DecoderLayer
from npu.whisper_weights import WhisperWeights, block_of


def decoder_graph(checkpoint: Checkpoint, architecture: Architecture, precision: str) -> bytes:
    """The graph that `DecoderStack` describes."""
    return _graph(DecoderStack, checkpoint, architecture, precision)


def lockstep_graph(checkpoint: Checkpoint, architecture: Architecture, precision: str) -> bytes:
    """The graph that `LockstepStack` describes."""
    return _graph(LockstepStack, checkpoint, architecture, precision)


def _graph(
    kind: type[DecoderStack], checkpoint: Checkpoint, architecture: Architecture, precision: str
) -> bytes:
    weights = WhisperWeights(checkpoint, precision)
    stack = kind(architecture, block=block_of(weights.sizes) if precision == "int8" else None)
    x = stack.positioned(_embedded(stack.build, weights.embedding(), precision), weights.decoder_positions())
    layers = (weights.decoder_layer(i) for i in range(architecture.layers))
    stack.logits(x, layers, _network, weights.norm("model.decoder.layer_norm"), weights.head())
    return stack.build.serialize()


def _embedded(build: LayerBuilder, embedding: Array, precision: str) -> str:
    """`tokens` [1, k] -> [1, k, width]; in 8 bits each token has a scale of its own."""
    if precision == "int8":
        linear = quantised_by_column(embedding.T)
        values, scales = (
            build.node("Gather", build.tensor(part), "tokens", axis=0)
            for part in (np.ascontiguousarray(linear.values.T), linear.scale[:, None])
        )
        return build.node("Mul", build.cast(values, np.float32), scales)
    stored = embedding if precision == "fp32" else embedding.astype(np.float16)
    gathered = build.node("Gather", build.tensor(stored), "tokens", axis=0)
    return gathered if precision == "fp32" else build.cast(gathered, np.float32)


def _network(build: LayerBuilder, layer: DecoderLayer, h: str) -> str:
    return build.product_by_row(build.gelu(build.product_by_row(h, layer.up)), layer.down)
