"""A decoder in 8 bits on this machine, with the arithmetic of the NPU's kernels to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.weights import Array
from npu.xdna import oracle
from npu.xdna.encoder_i8 import Fixed, Operators, fixed, value_scales
from npu.xdna.oracle import Rows
from npu.xdna.quant_decoder import QuantisedDecoder, Step
from npu.xdna.quant_parts import Heads, Product

HeadRows = list[Rows]  # of each head


@dataclass(frozen=True, eq=False)
class Remembered:
    """Keys and values of a layer in 8 bits, head by head; the scales of values as attention takes them."""

    keys: HeadRows
    values: HeadRows

    def first(self, n: int) -> Remembered:
        """Of the first n positions."""
        cut = [[(rows[:n], scale[:n]) for rows, scale in each] for each in (self.keys, self.values)]
        return Remembered(*cut)

    def followed_by(self, other: Remembered) -> Remembered:
        """Both, one after the other."""
        joined = [
            [
                (np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]]))
                for a, b in zip(first, second, strict=True)
            ]
            for first, second in ((self.keys, other.keys), (self.values, other.values))
        ]
        return Remembered(*joined)


class Decoder8:
    """A quantised decoder over operators: those in NumPy, or the kernels."""

    def __init__(self, quantised: QuantisedDecoder, operators: Operators) -> None:
        self.quantised = quantised
        self._operators = operators

    def heard(self, cross: Sequence[tuple[Fixed, Fixed]]) -> list[Remembered]:
        """What decoder layers remember of the encoder's keys and values [frames, width] for them."""
        return [
            self._remembered(self._apart(key), self._apart(value), layer.cross_heads)
            for (key, value), layer in zip(cross, self.quantised.layers, strict=True)
        ]

    def extend(
        self, embedded: Array, before: Sequence[Remembered | None], heard: Sequence[Remembered]
    ) -> tuple[Array, list[Remembered]]:
        """embedded [k, width] on top of what was remembered, None at first -> logits [k, vocabulary], what is now."""
        quantised, after = self.quantised, []
        x, bits = fixed(embedded, quantised.bits), quantised.bits
        for layer, held, cross in zip(quantised.layers, before, heard, strict=True):
            x, now = self.layer(x, bits, layer, held, cross)
            after.append(now)
            bits = layer.down.bits
        logits = self._operators.product(self._operators.layer_norm(x, quantised.last), quantised.head)
        return (logits * 2.0**-quantised.head.bits).astype(np.float32), after

    def layer(
        self, x: Fixed, bits: int, layer: Step, held: Remembered | None, cross: Remembered
    ) -> tuple[Fixed, Remembered]:
        """x [k, width], of so many fraction bits, on top of what was remembered -> what the next layer sees, and what is
        now; cross: of the encoder.
        """
        ask = self._operators
        rows = ask.layer_norm(x, layer.attention_norm)
        query, key, value = (
            self._apart(ask.product(rows, each)) for each in (layer.query, layer.key, layer.value)
        )
        start = 0 if held is None else len(held.keys[0][0])
        now = self._remembered(self._turned(key, start), value, layer.heads)
        now = now if held is None else held.followed_by(now)
        seen = self._seen(self._turned(query, start), now, layer.heads, start)
        x = self._added(seen, layer.seen_gain, layer.output, x, bits)
        query = self._apart(ask.product(ask.layer_norm(x, layer.cross_norm), layer.cross_query))
        seen = self._seen(query, cross, layer.cross_heads, None)
        x = self._added(seen, layer.cross_gain, layer.cross_output, x, layer.output.bits)
        rows = ask.layer_norm(x, layer.network_norm)
        hidden = ask.product(rows, layer.up)
        if layer.gate is not None:
            hidden = ask.gate(
                hidden, ask.product(rows, layer.gate.product), layer.gate.curve, layer.gate.shift
            )
        return self._added(hidden, layer.hidden_gain, layer.down, x, layer.cross_output.bits), now

    def _added(self, rows: Fixed, gain: NDArray[np.int32], product: Product, x: Fixed, bits: int) -> Fixed:
        """The residual x, of so many fraction bits, plus a product."""
        residual = self._operators.rescale(x, bits - product.bits)
        return self._operators.product(self._operators.quantise(rows, gain), product, residual)

    def _seen(self, query: Fixed, remembered: Remembered, heads: Heads, start: int | None) -> Fixed:
        """start: the position of the first query, where later keys must not be seen."""
        found = [
            self._operators.attend(self._rows(q), key, value, heads.shift, start)
            for q, key, value in zip(query, remembered.keys, remembered.values, strict=True)
        ]
        return np.concatenate(found, axis=1)

    def _remembered(self, key: Fixed, value: Fixed, heads: Heads) -> Remembered:
        """Keys and values [heads, n, d]."""
        values = []
        for each, factor in zip(value, heads.value, strict=True):
            rows, scale = self._rows(each)
            values.append((rows, value_scales(scale, int(factor))))
        return Remembered([self._rows(each) for each in key], values)

    def _rows(self, x: Fixed) -> Rows:
        return self._operators.quantise(x, np.full(x.shape[1], 1 << oracle.GAIN_BITS, np.int32))

    def _apart(self, x: Fixed) -> Fixed:
        return np.ascontiguousarray(x.reshape(len(x), self.quantised.heads, -1).transpose(1, 0, 2))

    def _turned(self, x: Fixed, start: int) -> Fixed:
        cosine, sine = self.quantised.cosine, self.quantised.sine
        if cosine is None or sine is None:
            return x
        span = slice(start, start + x.shape[1])
        return np.stack([self._operators.rotate(head, cosine[span], sine[span]) for head in x])
