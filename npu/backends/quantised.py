"""A model in 8 bits with the numbers of the NPU's kernels: its encoder, and its decoder where one was quantised.

Else the decoder is the reference's, over keys and values of the encoder that are in 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from npu.acceleration import NOT_ASKED
from npu.backends.reference import Array, ReferenceEncoded, apart
from npu.model import Cache, OneByOne, in_turn
from npu.xdna.decoder_i8 import Decoder8, Remembered
from npu.xdna.encoder_i8 import Fixed, NumpyOperators, in_float, numpy_encoder
from npu.xdna.float_encoder import in_bf16
from npu.xdna.float_model import FloatModel
from npu.xdna.quant import QuantisedEncoder
from npu.xdna.quant_decoder import QuantisedDecoder
from npu.xdna.quant_parts import Product


@dataclass(frozen=True, eq=False)
class EncodedInEight:
    """A window, as the decoder in 8 bits sees it."""

    frames: int
    heard: list[Remembered]  # of each layer

    def start(self) -> CacheInEight:
        """An empty cache over this window."""
        return CacheInEight(self, [None] * len(self.heard))


@dataclass
class CacheInEight:
    """Self-attention keys and values of the tokens so far."""

    encoded: EncodedInEight
    layers: Sequence[Remembered | None]
    length: int = field(default=0)

    def truncate(self, n: int) -> None:
        """Forgets all but the first n tokens."""
        self.length = min(n, self.length)
        self.layers = [each and each.first(self.length) for each in self.layers]

    def copy(self) -> CacheInEight:
        """Another decoding that begins with the same tokens."""
        return CacheInEight(self.encoded, list(self.layers), self.length)

    def attention(self) -> Array:
        """[length, frames]: the kernels keep no weights, so that it is nowhere."""
        return np.zeros((self.length, self.encoded.frames), np.float32)


class QuantisedBackend:
    """The three verbs."""

    device = "cpu (numpy, the NPU's 8 bits)"
    acceleration = NOT_ASKED

    def __init__(
        self, model: FloatModel, encoder: QuantisedEncoder, decoder: QuantisedDecoder | None = None
    ) -> None:
        """model: for what is in front of either, and for its decoder where none is given."""
        self.name = model.architecture.name
        self._model = model
        self._encoder = numpy_encoder(encoder)
        self._decoder = None if decoder is None else Decoder8(decoder, NumpyOperators())

    def encode(self, audio: Array, short: bool = False) -> ReferenceEncoded | EncodedInEight:
        """audio [n] at 16 kHz -> encoder states."""
        shape = self._model.architecture
        rows = self._encoder.states(self._model.encoder.sound(shape.prepare(audio, short), in_bf16))
        quantised = self._encoder.quantised
        cross = [self._encoder.cross(rows, each) for each in quantised.crosses]
        if self._decoder is not None:
            return EncodedInEight(len(rows[0]), self._decoder.heard(cross))
        in_floats = [
            (self._heads(key, each.key), self._heads(value, each.value))
            for (key, value), each in zip(cross, quantised.crosses, strict=True)
        ]
        return ReferenceEncoded(in_float(rows, quantised.last), in_floats, shape.aligned)

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> Array:
        """One pass for k tokens on top of the cache -> logits [k, vocabulary]."""
        if self._decoder is None or not isinstance(cache, CacheInEight):
            return self._model.reference.extend(cache, tokens)
        embedded = self._model.decoder.embedded(tokens, cache.length)
        logits, cache.layers = self._decoder.extend(embedded, cache.layers, cache.encoded.heard)
        cache.length += len(tokens)
        return logits

    def extend_all(self, caches: Sequence[Cache], tokens: Sequence[tuple[int, ...]]) -> list[Array]:
        """One cache after the other."""
        return in_turn(self, caches, tokens)

    def together(self, starts: Sequence[Cache], attended: bool) -> OneByOne:
        """Decodings one by one."""
        return OneByOne(self, starts)

    def _heads(self, x: Fixed, product: Product) -> Array:
        """[frames, heads * d] in 16 bits -> [heads, frames, d]."""
        return apart((x * 2.0**-product.bits).astype(np.float32), self._model.architecture.heads)
