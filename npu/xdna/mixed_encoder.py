"""An encoder with its convolutions in bf16 and its layers in 8 bits, on an overlay each: two contexts, two dispatches."""

from __future__ import annotations

from dataclasses import dataclass

from npu.weights import Array
from npu.xdna.encoder import Encoder
from npu.xdna.encoder_i8 import fixed, in_float
from npu.xdna.layers_i8 import Layers
from npu.xdna.quant import QuantisedEncoder


@dataclass(frozen=True, eq=False)
class MixedEncoder:
    """Both on the same NPU. What goes from one to the other passes through the host, which rounds it to 16 bits."""

    convolutions: Encoder
    layers: Layers
    quantised: QuantisedEncoder

    def states(self, audio: Array, short: bool = False) -> Array:
        """audio [n] at 16 kHz -> [states, width]; ModelError when it is too long, NpuUnavailable."""
        frames = fixed(self.convolutions.states(audio, short), self.quantised.sound_bits)
        return in_float(self.layers.states(frames), self.quantised.last)
