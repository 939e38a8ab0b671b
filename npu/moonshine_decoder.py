"""Moonshine's decoder as graphs: of one decoding, and of many in lockstep, which is how recordings are decoded."""

from __future__ import annotations

from npu.graph import MICROSOFT
from npu.layers import LayerBuilder, rotation
from npu.moonshine import TINY, TOKENS
from npu.stack import DecoderStack, LockstepStack
from npu.weights import DecoderLayer, Linear, Weights


def decoder_graph(weights: Weights) -> bytes:
    """The graph that `DecoderStack` describes."""
    return _graph(DecoderStack, weights)


def lockstep_graph(weights: Weights) -> bytes:
    """The graph that `LockstepStack` describes."""
    return _graph(LockstepStack, weights)


def _graph(kind: type[DecoderStack], weights: Weights) -> bytes:
    stack = kind(TINY, rotation(weights.frequencies, TOKENS))
    x = _embedded(stack.build, weights.embedding)
    stack.logits(x, weights.decoder, _network, weights.decoder_norm, weights.head)
    return stack.build.serialize()


def _embedded(build: LayerBuilder, embedding: Linear) -> str:
    values = build.node("Gather", build.tensor(embedding.values), "tokens", axis=0)
    return build.node("DequantizeLinear", values, build.tensor(embedding.scale), build.tensor(embedding.zero))


def _network(build: LayerBuilder, layer: DecoderLayer, h: str) -> str:
    up = build.product_by_row(h, layer.up)
    hidden, gate = build.nodes("Split", up, outputs=[None, None], axis=-1, num_outputs=2)
    gate = build.node("QuickGelu", gate, domain=MICROSOFT, alpha=1.0)  # x * sigmoid(x)
    return build.product_by_row(build.node("Mul", gate, hidden), layer.down)
