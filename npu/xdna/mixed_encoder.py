"""An encoder with its convolutions in bf16 and its layers in 8 bits, on an overlay each: two contexts, two dispatches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npu.weights import Array, Weights
from npu.whisper_weights import WhisperWeights
from npu.xdna.encoder import Encoder, EncoderDesign
from npu.xdna.encoder_i8 import fixed, in_float
from npu.xdna.layers_i8 import Layers, LayersDesign
from npu.xdna.quant import QuantisedEncoder
from npu.xdna.runtime import Built, Npu


@dataclass(frozen=True, eq=False)
class MixedDesign:
    """Both designs. Where the model was quantised with convolutions in 8 bits, those are left out."""

    convolutions: EncoderDesign
    layers: LayersDesign
    quantised: QuantisedEncoder

    @classmethod
    def moonshine(cls, weights: Weights, quantised: QuantisedEncoder, spans: Sequence[int]) -> MixedDesign:
        """Moonshine's; spans: of 256 states."""
        return cls(EncoderDesign.moonshine_stem(weights, spans), LayersDesign(quantised, spans), quantised)

    @classmethod
    def whisper(
        cls, weights: WhisperWeights, quantised: QuantisedEncoder, spans: Sequence[int]
    ) -> MixedDesign:
        """Whisper's."""
        return cls(EncoderDesign.whisper_stem(weights, spans), LayersDesign(quantised, spans), quantised)

    def on(self, npu: Npu, convolutions: Built, layers: Built) -> MixedEncoder:
        """The encoder over both packages; NpuUnavailable where there is no memory."""
        stem = Encoder(npu, convolutions, self.convolutions)
        return MixedEncoder(stem, Layers(npu, layers, self.layers), self.quantised)


@dataclass(frozen=True, eq=False)
class MixedEncoder:
    """Both on the same NPU. What goes from one to the other passes through the host, which rounds it to 16 bits."""

    convolutions: Encoder
    layers: Layers
    quantised: QuantisedEncoder

    def states(self, audio: Array, short: bool = False) -> Array:
        """audio [n] at 16 kHz -> [states, width]; ModelError when it is too long, NpuUnavailable."""
        frames = fixed(self.convolutions.states(audio, short), self.quantised.frame_bits)
        return in_float(self.layers.states(frames), self.quantised.last)
