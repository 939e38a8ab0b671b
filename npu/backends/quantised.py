"""A model with its encoder in 8 bits, with the numbers of the NPU's kernels, and a decoder in float32 arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from npu.acceleration import NOT_ASKED
from npu.backends.reference import Array, Reference, ReferenceEncoded
from npu.model import Cache, OneByOne
from npu.xdna.encoder_i8 import in_float, numpy_encoder
from npu.xdna.float_encoder import in_bf16
from npu.xdna.float_model import FloatModel
from npu.xdna.quant import QuantisedEncoder


class QuantisedBackend:
    """The three verbs."""

    device = "cpu (numpy, the NPU's 8 bits)"
    acceleration = NOT_ASKED

    def __init__(self, model: FloatModel, encoder: QuantisedEncoder, decoder: Reference) -> None:
        """model: for what is in front of the encoder; decoder: the model's own, or one with other weights."""
        self.name = model.architecture.name
        self._model = model
        self._encoder = numpy_encoder(encoder)
        self._decoder = decoder

    def encode(self, audio: Array, short: bool = False) -> ReferenceEncoded:
        """audio [n] at 16 kHz -> encoder states."""
        prepared = self._model.architecture.prepare(audio, short)
        rows = self._encoder.states(self._model.encoder.sound(prepared, in_bf16))
        return self._decoder.window(in_float(rows, self._encoder.quantised.last))

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> Array:
        """One pass for k tokens on top of the cache -> logits [k, vocabulary]."""
        return self._decoder.extend(cache, tokens)

    def extend_all(self, caches: Sequence[Cache], tokens: Sequence[tuple[int, ...]]) -> list[Array]:
        """One cache after the other."""
        return self._decoder.extend_all(caches, tokens)

    def together(self, starts: Sequence[Cache], attended: bool) -> OneByOne:
        """Decodings one by one."""
        return self._decoder.together(starts, attended)
