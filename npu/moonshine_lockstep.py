"""Moonshine's decoder for many windows at once, a token each a call: recordings are decoded so.

One pass reads the matrices once for all windows, which is what a step of a single decoding spends its time on. There
is no draft to verify here, and so no need for a row not to depend on its neighbours' number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from npu.graph import MICROSOFT
from npu.layers import LayerBuilder, side_by_side, widened_inputs, widened_outputs
from npu.moonshine import HEAD_WIDTH, HEADS, SCALE, STORED_WIDTH, TINY, WIDTH
from npu.moonshine_decoder import stack
from npu.weights import DecoderLayer, Weights


def lockstep_graph(weights: Weights) -> bytes:
    """`tokens` [1, windows], one on top of each decoding -> `logits` [1, windows, vocabulary].

    `past`, int32 [windows], is how many tokens each holds; `total`, int32 [1], the most any of them will. `pk0`
    `pv0` ... and `nk0` `nv0` ... [windows, heads, capacity, stored width] must be the same memory. `ck0` `cv0` ...
    [windows, heads, frames, head width] come from the encoder, padded to one length; `heard` [windows, 1, 1, frames]
    is added to the scores: 0, and very negative where there is only padding. `a<i>` [windows, heads, 1, frames] are
    the cross-attention weights of the aligned layers.
    """
    build = LayerBuilder("lockstep")
    build.input("tokens", np.int64, [1, "windows"])
    build.input("past", np.int32, ["windows"])
    build.input("total", np.int32, [1])
    build.input("heard", np.float32, ["windows", 1, 1, "frames"])
    stack(build, weights, "windows", "windows", _self_attention, _cross_attention)
    return build.serialize()


def _self_attention(build: LayerBuilder, layer: DecoderLayer, h: str, i: int, tables: list[str]) -> str:
    """Rotary embedding, append and attention in one operator."""
    attention = layer.attention
    wide = [
        widened_outputs(each, HEADS, STORED_WIDTH)
        for each in (attention.query, attention.key, attention.value)
    ]
    rows = build.product_by_row(h, side_by_side(*wide))
    rows = build.reshape(rows, -1, 1, 3 * HEADS * STORED_WIDTH)
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
    seen = build.reshape(seen, 1, -1, HEADS * STORED_WIDTH)
    return build.product_by_row(seen, widened_inputs(attention.output, HEADS, STORED_WIDTH))


def _cross_attention(build: LayerBuilder, layer: DecoderLayer, h: str, i: int) -> str:
    """The scale of the scores is in the query's matrix: ONNX Runtime multiplies a single row twice as fast without."""
    scaled = replace(layer.cross.query, scale=layer.cross.query.scale * np.float32(SCALE))
    query = build.reshape(build.product_by_row(h, scaled), -1, HEADS, 1, HEAD_WIDTH)
    scores = build.node("FusedMatMul", query, f"ck{i}", domain=MICROSOFT, transB=1)
    where = build.node("Softmax", build.node("Add", scores, "heard"), axis=-1, to=f"a{i}")
    if i in TINY.aligned:
        build.output(where, np.float32, ["windows", HEADS, 1, "frames"])
    seen = build.reshape(build.node("MatMul", where, f"cv{i}"), 1, -1, WIDTH)
    return build.product_by_row(seen, layer.cross.output)
