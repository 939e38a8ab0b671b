"""Whisper in plain NumPy, float32: the readable oracle."""

from __future__ import annotations

import numpy as np

from npu.architecture import Architecture
from npu.backends.reference import Array, Reference, ReferenceEncoded, convolve, gelu, linear, norm
from npu.checkpoint import Checkpoint
from npu.weights import Convolution, DecoderLayer
from npu.whisper_weights import WhisperWeights


class WhisperReference(Reference):
    """A checkpoint, weight by weight."""

    def __init__(self, architecture: Architecture, checkpoint: Checkpoint) -> None:
        weights = self._weights = WhisperWeights(checkpoint, "fp32")
        layers = [weights.decoder_layer(i) for i in range(weights.sizes.decoder_layers)]
        super().__init__(architecture, layers, weights.norm("model.decoder.layer_norm"), weights.head())
        self._embedding = weights.embedding()
        self._positions = weights.decoder_positions()

    def encode_features(self, features: Array, short: bool = False) -> ReferenceEncoded:
        """features [frames, bins], a slice of a recording's -> the window."""
        shape = self._architecture.spectrogram
        assert shape is not None
        return self.window(self._states(shape.fitted(features, short)))

    def _states(self, prepared: Array) -> Array:
        """prepared [frames, bins] -> [states, width]."""
        weights = self._weights
        first, second = weights.stem()
        x = gelu(_padded(gelu(_padded(prepared.T, first)), second)).T
        x = x + weights.encoder_positions()[: len(x)]
        for i in range(weights.sizes.encoder_layers):
            x = self._encoder_layer(x, weights.encoder_layer(i), weights.sizes.encoder_heads)
        return norm(x, weights.norm("model.encoder.layer_norm"))

    def _embedded(self, tokens: tuple[int, ...], start: int) -> Array:
        return np.asarray(
            self._embedding[list(tokens)] + self._positions[start : start + len(tokens)], np.float32
        )

    def _network(self, h: Array, layer: DecoderLayer) -> Array:
        return linear(gelu(linear(h, layer.up)), layer.down)


def _padded(x: Array, convolution: Convolution) -> Array:
    """A convolution that sees a zero before the first and after the last."""
    return convolve(np.pad(x, ((0, 0), (1, 1))), convolution)
