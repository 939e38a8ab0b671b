"""A decoder's layers as a graph, for one decoding or for several in lockstep: what the model families share.

In the graph of one decoding the row for a token never depends on how many tokens one call brings. Three things make
it so: every product has an activation scale of its own for each row; self-attention gets a second row when there is
but one; and the factors of the cross-attention keep the same kernels in use for any number of rows.

In lockstep one pass reads the matrices once for all decodings, which is what a step of a single one spends its time
on. There is no draft to verify there, and so no need for a row not to depend on its neighbours' number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from npu import cross
from npu.architecture import Architecture
from npu.graph import MICROSOFT
from npu.layers import (
    LayerBuilder,
    multiplied,
    side_by_side,
    widened_inputs,
    widened_outputs,
    with_bias_multiplied,
)
from npu.weights import Array, Attention, DecoderLayer, Matrix, Norm

# ONNX Runtime multiplies a single row by another kernel than several, which adds up in another order, except where
# the product carries a factor. So the one behind the cross-attention's softmax is doubled, and undone exactly in the
# matrix that follows.
_FACTOR = 2.0

Network = Callable[[LayerBuilder, DecoderLayer, str], str]


class DecoderStack:
    """`tokens` [1, k] on top of `length` cached ones -> `logits` [1, k, vocabulary].

    `past`, int32 [1], is length + k: the cached positions after this call, one dummy included, less one; `total` is
    `past` + 1. `pk0` `pv0` ... and `nk0` `nv0` ... [1, heads, capacity, stored width] must be the same memory: keys
    and values are appended in place. `ck0` `cv0` ... come from the encoder, in 8 bits as `npu.cross` has them or as
    they are, [1, heads, frames, head width]. `a<i>` [1, heads, k, frames] are the
    cross-attention weights of the aligned layers.
    """

    name = "decoder"
    rows: str = "k"  # the length of what is multiplied by the matrices
    windows: int | str = 1  # the caches and the encoder's keys and values are of so many
    decodings: int | str = 1
    a_window: int | str = "k"  # rows of one window

    def __init__(
        self, size: Architecture, rotary: tuple[Array, Array] | None = None, block: int | None = None
    ) -> None:
        """rotary: cosines and sines of rotary embedding, where there is any; block: states that are quantised
        together, where the encoder's keys and values are in 8 bits.
        """
        self.size = size
        self.build = LayerBuilder(self.name)
        self._width = size.heads * size.head_width
        self._block = block
        self._scale = size.head_width**-0.5  # of attention scores
        self._declare()
        self._tables = [self.build.tensor(table) for table in rotary or ()]

    def logits(
        self, x: str, layers: Iterable[DecoderLayer], network: Network, norm: Norm, head: Matrix
    ) -> None:
        """From embedded tokens [1, rows, width] on."""
        build, size = self.build, self.size
        cached = [self.decodings, size.heads, "capacity", size.stored_width]
        for i, layer in enumerate(layers):
            for name in (f"k{i}", f"v{i}"):
                build.input(f"p{name}", np.float32, cached)
                build.output(f"n{name}", np.float32, cached)
            self._declare_cross(i)
            x = build.node("Add", x, self._attention(layer.attention, build.norm(x, layer.attention_norm), i))
            x = build.node("Add", x, self._cross_attention(layer.cross, build.norm(x, layer.cross_norm), i))
            x = build.node("Add", x, network(build, layer, build.norm(x, layer.network_norm)))
        build.node("Identity", build.product_by_row(build.norm(x, norm), head), to="logits")
        build.output("logits", np.float32, [1, self.rows, size.vocabulary])

    def positioned(self, x: str, positions: Array) -> str:
        """x plus the learned embeddings of its positions."""
        build = self.build
        end = build.cast("past", np.int64)
        start = build.node("Sub", end, self.rows)
        return build.node("Add", x, build.node("Slice", build.constant(positions), start, end))

    def _declare(self) -> None:
        build = self.build
        build.input("tokens", np.int64, [1, "k"])
        build.input("past", np.int32, [1])
        build.input("total", np.int32, [1])
        build.node("Shape", "tokens", start=1, end=2, to="k")

    def _attention(self, attention: Attention, h: str, i: int) -> str:
        """Rotary embedding, append and causal attention in one operator."""
        size = self.size
        three = (attention.query, attention.key, attention.value)
        wide = [widened_outputs(each, size.heads, size.stored_width) for each in three]
        seen = self._grouped(self.build.product_by_row(h, side_by_side(*wide)), i)
        return self.build.product_by_row(
            seen, widened_inputs(attention.output, size.heads, size.stored_width)
        )

    def _grouped(self, rows: str, i: int) -> str:
        """The last row goes in twice and comes out once: the operator, too, has another kernel for a single row.

        The dummy's key and value stand after the last token's, where the next call writes.
        """
        build = self.build
        rows = build.node("Concat", rows, build.cut(rows, 1, -1, None), axis=1)
        seen = self._operator(rows, i)
        return build.node("Slice", seen, build.constant([0], np.int64), "k", build.constant([1], np.int64))

    def _operator(self, rows: str, i: int) -> str:
        rotary = {"do_rotary": 1, "rotary_interleaved": 1} if self._tables else {}
        seen, _, _ = self.build.nodes(
            "GroupQueryAttention",
            *(rows, "", "", f"pk{i}", f"pv{i}", "past", "total", *self._tables),
            outputs=[None, f"nk{i}", f"nv{i}"],
            domain=MICROSOFT,
            num_heads=self.size.heads,
            kv_num_heads=self.size.heads,
            scale=self._scale,
            **rotary,
        )
        return seen

    def _declare_cross(self, i: int) -> None:
        """The encoder's keys and values of layer i."""
        heads, width = self.size.heads, self.size.head_width
        if self._block:
            shapes = cross.shapes(self.windows, heads, width, "frames")
            for name, dtype, shape in zip(cross.names(i), cross.dtypes(), shapes, strict=True):
                self.build.input(name, dtype, shape)
            return
        for name in (f"ck{i}", f"cv{i}"):
            self.build.input(name, np.float32, [self.windows, heads, "frames", width])

    def _cross_attention(self, attention: Attention, h: str, i: int) -> str:
        build, size = self.build, self.size
        query = self._apart(build.product_by_row(h, self._query(attention)))
        if self._block:
            where = self._softmax(self._masked(cross.scores(build, i, query)), i)
            seen = cross.seen(build, i, where, size.heads, size.head_width, self._block)
        else:
            where = self._softmax(self._masked(self._scores(query, f"ck{i}")), i)
            seen = self._seen(where, f"cv{i}")
        seen = build.reshape(build.node("Transpose", seen, perm=[0, 2, 1, 3]), 1, -1, self._width)
        return build.product_by_row(seen, self._output(attention))

    def _apart(self, rows: str) -> str:
        """[1, rows, width] -> [windows, heads, rows of a window, head width]."""
        apart = self.build.reshape(rows, 1, -1, self.size.heads, self.size.head_width)
        return self.build.node("Transpose", apart, perm=[0, 2, 1, 3])

    def _masked(self, scores: str) -> str:
        return scores

    def _query(self, attention: Attention) -> Matrix:
        return attention.query

    def _scores(self, query: str, keys: str) -> str:
        return self.build.node("FusedMatMul", query, keys, domain=MICROSOFT, transB=1, alpha=self._scale)

    def _seen(self, where: str, values: str) -> str:
        return self.build.node("FusedMatMul", where, values, domain=MICROSOFT, alpha=_FACTOR)

    def _output(self, attention: Attention) -> Matrix:
        return attention.output if self._block else multiplied(attention.output, 1 / _FACTOR)

    def _softmax(self, scores: str, i: int) -> str:
        where = self.build.node("Softmax", scores, axis=-1, to=f"a{i}")
        if i in self.size.aligned:
            self.build.output(where, np.float32, [self.windows, self.size.heads, self.a_window, "frames"])
        return where


class LockstepStack(DecoderStack):
    """`tokens` [1, decodings], one on top of each -> `logits` [1, decodings, vocabulary].

    `past`, int32 [decodings], is how many tokens each holds; `total`, int32 [1], the most any of them will. `pk0`
    `pv0` ... and `nk0` `nv0` ... [decodings, heads, capacity, stored width] must be the same memory. `ck0` `cv0` ...
    [windows, heads, frames, head width] come from the encoder, padded to one length; the decodings of a window stand
    side by side, as many for each. `heard` [windows, 1, 1, frames] is added to the scores: 0, and very negative where
    there is only padding. `a<i>` [windows, heads, decodings of a window, frames] are the cross-attention weights of
    the aligned layers.
    """

    name = "lockstep"
    rows = "decodings"
    windows = "windows"
    decodings = "decodings"
    a_window = "beams"

    def positioned(self, x: str, positions: Array) -> str:
        """x plus the learned embeddings of its positions."""
        return self.build.node(
            "Add", x, self.build.node("Gather", self.build.constant(positions), "past", axis=0)
        )

    def _declare(self) -> None:
        build, size = self.build, self.size
        build.input("tokens", np.int64, [1, "decodings"])
        build.input("past", np.int32, ["decodings"])
        build.input("total", np.int32, [1])
        build.input("heard", np.float32, ["windows", 1, 1, "frames"])
        rest = build.constant([-1, size.heads, size.head_width], np.int64)
        build.node("Concat", build.node("Shape", "heard", start=0, end=1), rest, axis=0, to="apart")

    def _grouped(self, rows: str, i: int) -> str:
        size = self.size
        rows = self.build.reshape(rows, -1, 1, 3 * size.heads * size.stored_width)
        return self.build.reshape(self._operator(rows, i), 1, -1, size.heads * size.stored_width)

    def _apart(self, rows: str) -> str:
        return self.build.node("Transpose", self.build.node("Reshape", rows, "apart"), perm=[0, 2, 1, 3])

    def _masked(self, scores: str) -> str:
        return self.build.node("Add", scores, "heard")

    def _query(self, attention: Attention) -> Matrix:
        """With the scale of the scores in it: ONNX Runtime multiplies a single row twice as fast without a factor."""
        return attention.query if self._block else with_bias_multiplied(attention.query, self._scale)

    def _scores(self, query: str, keys: str) -> str:
        return self.build.node("FusedMatMul", query, keys, domain=MICROSOFT, transB=1)

    def _seen(self, where: str, values: str) -> str:
        return self.build.node("MatMul", where, values)

    def _output(self, attention: Attention) -> Matrix:
        return attention.output
