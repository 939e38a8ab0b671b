"""What a decoder with weights in 8 bits computes, in float32: the readable reference of `decoders_w8`.

Matrices are rounded as `few` lays them, with a norm's gain and offset in them, and keys and values of a window as
`crossing.cc` rounds them. What the NPU rounds besides, to bf16 and to 16 bits between its operators, is not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from npu.backends.reference import Array, Reference, ReferenceEncoded
from npu.layers import quantised_by_column
from npu.weights import Attention, DecoderLayer, Dense, Matrix, Norm
from npu.xdna.few import folded
from npu.xdna.gemm import TILE
from npu.xdna.oracle_windows import narrowed_tile


class Rounded(Reference):
    """Another reference's model, of either family, with its decoder in 8 bits."""

    device = "cpu (numpy, decoder in 8 bits)"

    def __init__(self, exact: Reference) -> None:
        layers = [rounded_layer(layer) for layer in exact._layers]
        head = rounded(exact._head, exact._last)
        super().__init__(exact._architecture, layers, _plain(exact._last), head)
        self._exact = exact

    def window(self, states: Array) -> ReferenceEncoded:
        """states [frames, width], whose keys and values are in 8 bits."""
        found = super().window(states)
        return replace(
            found, cross=[(rounded_heads(key), rounded_heads(value)) for key, value in found.cross]
        )

    def _states(self, prepared: Array) -> Array:
        return self._exact._states(prepared)

    def _embedded(self, tokens: tuple[int, ...], start: int) -> Array:
        return self._exact._embedded(tokens, start)

    def _network(self, h: Array, layer: DecoderLayer) -> Array:
        return self._exact._network(h, layer)

    def _turned(self, x: Array, start: int) -> Array:
        return self._exact._turned(x, start)


def rounded(matrix: Matrix, behind: Norm | None = None) -> Dense:
    """A matrix in 8 bits with a scale for each column; behind a norm it takes over what that multiplies and adds."""
    dense, bias = matrix.dense(), matrix.bias
    if behind is not None:
        dense, bias = folded(behind, dense, bias)
    return Dense(quantised_by_column(np.asarray(dense, np.float32)).dense(), bias)


def rounded_layer(layer: DecoderLayer) -> DecoderLayer:
    """All of its matrices but those of the window's keys and values, which the NPU has in bf16."""
    own, cross = layer.attention, layer.cross
    norm, cross_norm, network_norm = layer.attention_norm, layer.cross_norm, layer.network_norm
    return DecoderLayer(
        _plain(norm),
        Attention(
            rounded(own.query, norm), rounded(own.key, norm), rounded(own.value, norm), rounded(own.output)
        ),
        _plain(cross_norm),
        replace(cross, query=rounded(cross.query, cross_norm), output=rounded(cross.output)),
        _plain(network_norm),
        rounded(layer.up, network_norm),
        rounded(layer.down),
    )


def rounded_heads(x: Array) -> Array:
    """Keys or values [heads, frames, width] in 8 bits, with a scale for each head and 64 frames."""
    found = x.copy()
    for head in found:
        for first in range(0, len(head), TILE):
            tile = head[first : first + TILE]
            values, scale = narrowed_tile(tile, len(tile))
            tile[:] = values * scale
    return found


def _plain(norm: Norm) -> Norm:
    """That multiplies nothing and adds nothing."""
    return Norm(np.ones_like(norm.gain))
