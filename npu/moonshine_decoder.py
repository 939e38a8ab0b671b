"""Moonshine's decoder as a graph whose row for a token never depends on how many tokens one call brings.

Three things make it so: every product has an activation scale of its own for each row; self-attention gets a second
row when there is but one; and the factors of the cross-attention keep the same kernels in use for any number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from npu.graph import MICROSOFT
from npu.layers import LayerBuilder, rotation, side_by_side, widened_inputs, widened_outputs
from npu.moonshine import HEAD_WIDTH, HEADS, SCALE, STORED_WIDTH, TINY, TOKENS, WIDTH
from npu.weights import DecoderLayer, Linear, Weights

# ONNX Runtime multiplies a single row by another kernel than several, which adds up in another order, except where
# the product carries a factor. So the one behind the cross-attention's softmax is doubled, and undone exactly in the
# scale of the matrix that follows.
_FACTOR = 2.0


def decoder_graph(weights: Weights) -> bytes:
    """`tokens` [1, k] on top of `length` cached ones -> `logits` [1, k, vocabulary].

    `past`, int32 [1], is length + k: the cached positions after this call, one dummy included, less one; `total` is
    `past` + 1. `pk0` `pv0` ... and `nk0` `nv0` ... [1, heads, capacity, stored width] must be the same memory: keys
    and values are appended in place. `ck0` `cv0` ... come from the encoder. `a<i>` [1, heads, k, frames] are the
    cross-attention weights of the aligned layers.
    """
    build = LayerBuilder("decoder")
    build.input("tokens", np.int64, [1, "k"])
    build.input("past", np.int32, [1])
    build.input("total", np.int32, [1])
    build.node("Shape", "tokens", start=1, end=2, to="k")
    stack(build, weights, 1, "k", _self_attention, _cross_attention)
    return build.serialize()


SelfAttention = Callable[[LayerBuilder, DecoderLayer, str, int, list[str]], str]
CrossAttention = Callable[[LayerBuilder, DecoderLayer, str, int], str]


def stack(
    build: LayerBuilder,
    weights: Weights,
    windows: int | str,
    rows: str,
    self_attention: SelfAttention,
    cross_attention: CrossAttention,
) -> None:
    """Embedding, layers and head around two kinds of attention: `tokens` [1, rows] -> `logits` [1, rows, vocabulary].

    windows: how many the caches and the encoder's keys and values are of.
    """
    tables = [build.tensor(table) for table in rotation(weights.frequencies, TOKENS)]
    x = _embedded(build, weights.embedding)
    for i, layer in enumerate(weights.decoder):
        for name in (f"k{i}", f"v{i}"):
            build.input(f"p{name}", np.float32, [windows, HEADS, "capacity", STORED_WIDTH])
            build.output(f"n{name}", np.float32, [windows, HEADS, "capacity", STORED_WIDTH])
            build.input(f"c{name}", np.float32, [windows, HEADS, "frames", HEAD_WIDTH])
        x = build.node("Add", x, self_attention(build, layer, build.norm(x, layer.attention_norm), i, tables))
        x = build.node("Add", x, cross_attention(build, layer, build.norm(x, layer.cross_norm), i))
        x = build.node("Add", x, _network(build, layer, build.norm(x, layer.network_norm)))
    logits = build.product_by_row(build.norm(x, weights.decoder_norm), weights.head)
    build.node("Identity", logits, to="logits")
    build.output("logits", np.float32, [1, rows, TINY.vocabulary])


def _embedded(build: LayerBuilder, embedding: Linear) -> str:
    values = build.node("Gather", build.tensor(embedding.values), "tokens", axis=0)
    return build.node("DequantizeLinear", values, build.tensor(embedding.scale), build.tensor(embedding.zero))


def _self_attention(build: LayerBuilder, layer: DecoderLayer, h: str, i: int, tables: list[str]) -> str:
    """Rotary embedding, append and causal attention in one operator.

    The last row goes in twice and comes out once: the operator, too, has another kernel for a single row. The
    dummy's key and value stand after the last token's, where the next call writes.
    """
    attention = layer.attention
    wide = [
        widened_outputs(each, HEADS, STORED_WIDTH)
        for each in (attention.query, attention.key, attention.value)
    ]
    rows = build.product_by_row(h, side_by_side(*wide))
    rows = build.node("Concat", rows, build.cut(rows, 1, -1, None), axis=1)
    seen, _, _ = build.nodes(
        "GroupQueryAttention",
        *(rows, "", "", f"pk{i}", f"pv{i}", "past", "total", *tables),
        outputs=[None, f"nk{i}", f"nv{i}"],
        domain=MICROSOFT,
        num_heads=HEADS,
        kv_num_heads=HEADS,
        scale=SCALE,
        do_rotary=1,
        rotary_interleaved=1,
    )
    seen = build.node("Slice", seen, build.constant([0], np.int64), "k", build.constant([1], np.int64))
    return build.product_by_row(seen, widened_inputs(attention.output, HEADS, STORED_WIDTH))


def _cross_attention(build: LayerBuilder, layer: DecoderLayer, h: str, i: int) -> str:
    query = build.reshape(build.product_by_row(h, layer.cross.query), 1, -1, HEADS, HEAD_WIDTH)
    query = build.node("Transpose", query, perm=[0, 2, 1, 3])
    scores = build.node("FusedMatMul", query, f"ck{i}", domain=MICROSOFT, transB=1, alpha=SCALE)
    where = build.node("Softmax", scores, axis=-1, to=f"a{i}")
    if i in TINY.aligned:
        build.output(where, np.float32, [1, HEADS, "k", "frames"])
    seen = build.node("FusedMatMul", where, f"cv{i}", domain=MICROSOFT, alpha=_FACTOR)
    seen = build.reshape(build.node("Transpose", seen, perm=[0, 2, 1, 3]), 1, -1, WIDTH)
    output = layer.cross.output
    return build.product_by_row(seen, replace(output, scale=output.scale / np.float32(_FACTOR)))


def _network(build: LayerBuilder, layer: DecoderLayer, h: str) -> str:
    up = build.product_by_row(h, layer.up)
    hidden, gate = build.nodes("Split", up, outputs=[None, None], axis=-1, num_outputs=2)
    gate = build.node("QuickGelu", gate, domain=MICROSOFT, alpha=1.0)  # x * sigmoid(x)
    return build.product_by_row(build.node("Mul", gate, hidden), layer.down)
