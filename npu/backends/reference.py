"""Encoders and decoders in plain NumPy, float32: the readable oracle that every fast backend is held to.

The same three verbs. Moonshine's matrices are the shipped 8-bit ones, dequantised; activations are never quantised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import erf

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from npu.acceleration import NOT_ASKED
from npu.architecture import Architecture
from npu.model import Cache, OneByOne, in_turn
from npu.weights import Attention, Convolution, DecoderLayer, EncoderLayer, Matrix, Norm, Weights

Array = NDArray[np.float32]

_EPSILON = 1e-5
_erf = np.vectorize(erf, otypes=[np.float32])


def linear(x: Array, weights: Matrix) -> Array:
    """x [rows, k] -> [rows, n]."""
    y = x @ weights.dense()
    return y if weights.bias is None else y + weights.bias


def convolve(x: Array, convolution: Convolution) -> Array:
    """x [in, n] -> [out, (n - taps) // stride + 1]."""
    kernel = convolution.kernel  # [out, in, taps]
    seen = sliding_window_view(x, kernel.shape[2], axis=1)[:, :: convolution.stride]  # [in, outputs, taps]
    y: Array = np.einsum("oit,ift->of", kernel, seen, optimize=True)
    return y if convolution.bias is None else y + convolution.bias[:, None]


def norm(x: Array, after: Norm) -> Array:
    """Layer normalisation of x [rows, width]."""
    centred = x - x.mean(axis=-1, keepdims=True)
    y = np.asarray(centred / np.sqrt(x.var(axis=-1, keepdims=True) + _EPSILON) * after.gain, np.float32)
    return y if after.offset is None else y + after.offset


def gelu(x: Array) -> Array:
    """x times the normal distribution's probability below it."""
    return np.asarray(0.5 * x * (1 + _erf(x / np.sqrt(2))), np.float32)


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    return np.asarray(x / (1 + np.exp(-x)), np.float32)


def softmax(x: Array) -> Array:
    """Over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def rotate(x: Array, frequencies: Array, start: int) -> Array:
    """x [heads, positions, head width]: turns interleaved pairs of the first part of each head by their position."""
    angle = (np.arange(start, start + x.shape[1], dtype=np.float32)[:, None] * frequencies).astype(np.float32)
    turned = x.copy()
    width = 2 * len(frequencies)
    even, odd = x[..., 0:width:2], x[..., 1:width:2]
    turned[..., 0:width:2] = even * np.cos(angle) - odd * np.sin(angle)
    turned[..., 1:width:2] = odd * np.cos(angle) + even * np.sin(angle)
    return turned


def attend(query: Array, key: Array, value: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """[heads, q, d], [heads, k, d], [heads, k, d] -> what is seen [q, heads * d], where it is [heads, q, k]."""
    scores = query @ key.transpose(0, 2, 1) * query.shape[2] ** -0.5
    where = softmax(scores if mask is None else scores + mask)
    return together(where @ value), where


def apart(x: Array, heads: int) -> Array:
    """[rows, heads * d] -> [heads, rows, d]."""
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2)


def together(x: Array) -> Array:
    """[heads, rows, d] -> [rows, heads * d]."""
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)


@dataclass
class ReferenceEncoded:
    """Encoder states, with each decoder layer's keys and values of them."""

    states: Array  # [frames, width]
    cross: list[tuple[Array, Array]]  # a layer: [heads, frames, head width] twice
    aligned: Mapping[int, tuple[int, ...]]

    @property
    def frames(self) -> int:
        """Encoder states."""
        return len(self.states)

    def start(self) -> ReferenceCache:
        """An empty cache over this window."""
        heads, _, width = self.cross[0][0].shape
        empty = np.zeros((heads, 0, width), np.float32)
        return ReferenceCache(self, [empty] * len(self.cross), [empty] * len(self.cross))


@dataclass
class ReferenceCache:
    """Self-attention keys and values of the tokens so far."""

    encoded: ReferenceEncoded
    keys: list[Array]  # a layer: [heads, length, head width]
    values: list[Array]
    seen: dict[int, Array] = field(default_factory=dict)  # an aligned layer: [aligned heads, length, frames]

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return int(self.keys[0].shape[1])

    def truncate(self, n: int) -> None:
        """Forgets all but the first n tokens."""
        self.keys = [key[:, :n] for key in self.keys]
        self.values = [value[:, :n] for value in self.values]
        self.seen = {layer: where[:, :n] for layer, where in self.seen.items()}

    def attention(self) -> Array:
        """[length, frames]: the mean over the aligned heads."""
        if not self.seen:
            return np.zeros((0, self.encoded.frames), np.float32)
        return np.asarray(np.concatenate(list(self.seen.values())).mean(axis=0), np.float32)

    def copy(self) -> ReferenceCache:
        """Another decoding that begins with the same tokens."""
        return ReferenceCache(self.encoded, list(self.keys), list(self.values), dict(self.seen))


class Reference(ABC):
    """A decoder and the attention of either side, weight by weight: what the families' references share."""

    device = "cpu (numpy)"
    acceleration = NOT_ASKED

    def __init__(
        self, architecture: Architecture, layers: Sequence[DecoderLayer], last: Norm, head: Matrix
    ) -> None:
        """last: the norm in front of the head."""
        self.name = architecture.name
        self._architecture = architecture
        self._layers = layers
        self._last = last
        self._head = head

    def encode(self, audio: Array, short: bool = False) -> ReferenceEncoded:
        """audio [n] at 16 kHz -> encoder states."""
        return self.window(self._states(self._architecture.prepare(audio, short)))

    def window(self, states: Array) -> ReferenceEncoded:
        """States [frames, width] of an encoder, as this decoder hears them."""
        heads = self._architecture.heads
        cross = [
            (apart(linear(states, layer.cross.key), heads), apart(linear(states, layer.cross.value), heads))
            for layer in self._layers
        ]
        return ReferenceEncoded(states, cross, self._architecture.aligned)

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> Array:
        """One pass for k tokens on top of the cache -> logits [k, vocabulary]."""
        if not isinstance(cache, ReferenceCache):
            raise TypeError(f"a cache of {type(cache).__name__} given to {type(self).__name__}")
        start = cache.length
        x = self._embedded(tokens, start)
        for i, layer in enumerate(self._layers):
            x = self._decoder_layer(x, layer, cache, i, start)
        return linear(norm(x, self._last), self._head)

    def extend_all(self, caches: Sequence[Cache], tokens: Sequence[tuple[int, ...]]) -> list[Array]:
        """One cache after the other."""
        return in_turn(self, caches, tokens)

    def together(self, starts: Sequence[Cache], attended: bool) -> OneByOne:
        """Decodings one by one."""
        return OneByOne(self, starts)

    @abstractmethod
    def _states(self, prepared: Array) -> Array:
        """What the encoder graph takes -> [states, width]."""

    @abstractmethod
    def _embedded(self, tokens: tuple[int, ...], start: int) -> Array:
        """Tokens from position `start` on -> [k, width]."""

    @abstractmethod
    def _network(self, h: Array, layer: DecoderLayer) -> Array:
        """The part of a decoder layer behind its last norm."""

    def _turned(self, x: Array, start: int) -> Array:
        """Queries or keys [heads, positions, head width], turned by their position where the family does that."""
        return x

    def _encoder_layer(self, x: Array, layer: EncoderLayer, heads: int) -> Array:
        query, key, value = self._projected(norm(x, layer.attention_norm), layer.attention, heads, start=0)
        seen, _ = attend(query, key, value)
        x = x + linear(seen, layer.attention.output)
        return x + linear(gelu(linear(norm(x, layer.network_norm), layer.up)), layer.down)

    def _decoder_layer(
        self, x: Array, layer: DecoderLayer, cache: ReferenceCache, i: int, start: int
    ) -> Array:
        heads = self._architecture.heads
        query, key, value = self._projected(norm(x, layer.attention_norm), layer.attention, heads, start)
        cache.keys[i] = np.concatenate([cache.keys[i], key], axis=1)
        cache.values[i] = np.concatenate([cache.values[i], value], axis=1)
        k = len(x)
        later = np.triu(np.full((k, start + k), -np.inf, np.float32), start + 1)  # no token sees one after it
        seen, _ = attend(query, cache.keys[i], cache.values[i], later)
        x = x + linear(seen, layer.attention.output)
        query = apart(linear(norm(x, layer.cross_norm), layer.cross.query), heads)
        seen, where = attend(query, *cache.encoded.cross[i])
        if aligned := cache.encoded.aligned.get(i):
            before = cache.seen.get(i, where[list(aligned), :0])
            cache.seen[i] = np.concatenate([before, where[list(aligned)]], axis=1)
        x = x + linear(seen, layer.cross.output)
        return x + self._network(norm(x, layer.network_norm), layer)

    def _projected(
        self, h: Array, attention: Attention, heads: int, start: int
    ) -> tuple[Array, Array, Array]:
        """Query, key and value with heads apart, the first two turned by their position."""
        query, key, value = (
            apart(linear(h, each), heads) for each in (attention.query, attention.key, attention.value)
        )
        return self._turned(query, start), self._turned(key, start), value


class ReferenceBackend(Reference):
    """Moonshine."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        super().__init__(architecture, weights.decoder, weights.decoder_norm, weights.head)
        self._weights = weights

    def _states(self, prepared: Array) -> Array:
        """prepared [rows + 1, hop] -> [states, width]."""
        laid = prepared.reshape(1, -1)[:, :-1]  # a convolution sees one less than two hops
        x = self._stem(laid)
        for layer in self._weights.encoder:
            x = self._encoder_layer(x, layer, self._architecture.heads)
        return norm(x, self._weights.encoder_norm)

    def _embedded(self, tokens: tuple[int, ...], start: int) -> Array:
        embedding = self._weights.embedding
        rows = embedding.values[list(tokens)].astype(np.float32) - np.float32(embedding.zero)
        return rows * embedding.scale

    def _stem(self, audio: Array) -> Array:
        """audio [1, n] -> [frames, width]."""
        weights = self._weights
        first, second, third = weights.stem
        x = np.tanh(convolve(audio, first))  # [width, rows]
        x = (x - x.mean()) / np.sqrt(x.var() + _EPSILON)  # group norm, one group
        x = x * weights.stem_gain[:, None] + weights.stem_offset[:, None]
        return gelu(convolve(gelu(convolve(x, second)), third)).T

    def _network(self, h: Array, layer: DecoderLayer) -> Array:
        hidden, gate = np.split(linear(h, layer.up), 2, axis=1)
        return linear(silu(gate) * hidden, layer.down)

    def _turned(self, x: Array, start: int) -> Array:
        return rotate(x, self._weights.frequencies, start)
