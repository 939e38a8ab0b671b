"""A model whose encoder is in 8 bits, with the numbers of the NPU's kernels, and whose decoder is the reference's.

The keys and values that the decoder sees of the encoder are in 8 bits as well; from there on it is float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npu.architecture import Architecture
from npu.backends.reference import Array, Reference, ReferenceEncoded, apart
from npu.model import Cache, OneByOne
from npu.xdna.encoder_i8 import Fixed, in_float, numpy_encoder
from npu.xdna.float_encoder import FloatEncoder, in_bf16
from npu.xdna.quant import Product, QuantisedEncoder


class QuantisedBackend:
    """The three verbs."""

    device = "cpu (numpy, the NPU's 8 bits)"

    def __init__(
        self,
        architecture: Architecture,
        reference: Reference,
        encoder: FloatEncoder,
        quantised: QuantisedEncoder,
    ) -> None:
        """reference: of the same model, for its decoder; encoder: for the sound before the part in 8 bits."""
        self.name = architecture.name
        self._architecture = architecture
        self._reference = reference
        self._sound = encoder.sound
        self._encoder = numpy_encoder(quantised)

    def encode(self, audio: Array, short: bool = False) -> ReferenceEncoded:
        """audio [n] at 16 kHz -> encoder states."""
        rows = self._encoder.states(self._sound(self._architecture.prepare(audio, short), in_bf16))
        quantised = self._encoder.quantised
        cross = []
        for each in quantised.crosses:
            key, value = self._encoder.cross(rows, each)
            cross.append((self._heads(key, each.key), self._heads(value, each.value)))
        return ReferenceEncoded(in_float(rows, quantised.last), cross, self._architecture.aligned)

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> Array:
        """One pass for k tokens on top of the cache -> logits [k, vocabulary]."""
        return self._reference.extend(cache, tokens)

    def together(self, starts: Sequence[Cache], attended: bool) -> OneByOne:
        """Decodings one by one."""
        return OneByOne(self, starts)

    def _heads(self, x: Fixed, product: Product) -> Array:
        """[frames, heads * d] in 16 bits -> [heads, frames, d]."""
        return apart((x * 2.0**-product.bits).astype(np.float32), self._architecture.heads)
