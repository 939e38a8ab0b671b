"""A Whisper checkpoint's weights, stored as a precision says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from npu.architecture import Spectrogram
from npu.checkpoint import Checkpoint, Sizes
from npu.layers import quantised_by_column
from npu.mel import HOP
from npu.weights import Array, Attention, Convolution, DecoderLayer, Dense, EncoderLayer, Matrix, Norm
from streaming.window import SAMPLE_RATE

FRAMES_PER_STATE = 2  # the stride of the second convolution
_TAPS = 3  # of both convolutions
_SECOND = SAMPLE_RATE // (FRAMES_PER_STATE * HOP)  # states


def block_of(sizes: Sizes) -> int:
    """States of which every context is a multiple: 1 s, unless the whole context is none of that."""
    return math.gcd(sizes.states, _SECOND)


def spectrogram_of(sizes: Sizes) -> Spectrogram:
    """What it hears through."""
    frames, step = (FRAMES_PER_STATE * n for n in (sizes.states, block_of(sizes)))
    return Spectrogram(sizes.bins, frames, FRAMES_PER_STATE, step)


def _dense(matrix: Array, bias: Array | None = None) -> Dense:
    return Dense(matrix, bias)


def _half(matrix: Array, bias: Array | None = None) -> Dense:
    return Dense(matrix.astype(np.float16), bias)


# how a float32 matrix [k, n] and its bias are stored
PRECISIONS: dict[str, Callable[[Array, Array | None], Matrix]] = {
    "int8": quantised_by_column,
    "fp16": _half,
    "fp32": _dense,
}


class WhisperWeights:
    """Read tensor by tensor as they are asked for, so that a large model is never whole in memory in float32."""

    def __init__(self, checkpoint: Checkpoint, precision: str) -> None:
        self.sizes = checkpoint.sizes
        self._checkpoint = checkpoint
        self._stored = PRECISIONS[precision]

    def stem(self) -> tuple[Convolution, Convolution]:
        """The two convolutions, in float32."""
        width, bins = self.sizes.width, self.sizes.bins
        first, second = (
            Convolution(
                self._checkpoint.tensor(f"model.encoder.conv{i}.weight", width, inputs, _TAPS),
                self._checkpoint.tensor(f"model.encoder.conv{i}.bias", width),
                stride,
            )
            for i, inputs, stride in ((1, bins, 1), (2, width, FRAMES_PER_STATE))
        )
        return first, second

    def encoder_positions(self) -> Array:
        """[states, width]."""
        sizes = self.sizes
        return self._checkpoint.tensor("model.encoder.embed_positions.weight", sizes.states, sizes.width)

    def encoder_layer(self, i: int) -> EncoderLayer:
        """Layer i."""
        name = f"model.encoder.layers.{i}"
        return EncoderLayer(
            attention_norm=self.norm(f"{name}.self_attn_layer_norm"),
            attention=self.attention(f"{name}.self_attn"),
            network_norm=self.norm(f"{name}.final_layer_norm"),
            up=self._linear(f"{name}.fc1", self.sizes.width, self.sizes.encoder_hidden),
            down=self._linear(f"{name}.fc2", self.sizes.encoder_hidden, self.sizes.width),
        )

    def decoder_layer(self, i: int) -> DecoderLayer:
        """Layer i."""
        name = f"model.decoder.layers.{i}"
        return DecoderLayer(
            attention_norm=self.norm(f"{name}.self_attn_layer_norm"),
            attention=self.attention(f"{name}.self_attn"),
            cross_norm=self.norm(f"{name}.encoder_attn_layer_norm"),
            cross=self.attention(f"{name}.encoder_attn"),
            network_norm=self.norm(f"{name}.final_layer_norm"),
            up=self._linear(f"{name}.fc1", self.sizes.width, self.sizes.decoder_hidden),
            down=self._linear(f"{name}.fc2", self.sizes.decoder_hidden, self.sizes.width),
        )

    def cross(self, i: int) -> Attention:
        """The cross-attention of decoder layer i."""
        return self.attention(f"model.decoder.layers.{i}.encoder_attn")

    def decoder_positions(self) -> Array:
        """[tokens, width]."""
        sizes = self.sizes
        return self._checkpoint.tensor("model.decoder.embed_positions.weight", sizes.tokens, sizes.width)

    def embedding(self) -> Array:
        """[vocabulary, width]."""
        sizes = self.sizes
        return self._checkpoint.tensor("model.decoder.embed_tokens.weight", sizes.vocabulary, sizes.width)

    def head(self) -> Matrix:
        """[width, vocabulary]: the embedding's, unless the checkpoint has one of its own."""
        sizes, own = self.sizes, "proj_out.weight"
        tied = not self._checkpoint.has(own)
        return self._stored(
            (self.embedding() if tied else self._checkpoint.tensor(own, sizes.vocabulary, sizes.width)).T,
            None,
        )

    def stored(self, matrix: Array) -> Matrix:
        """A matrix [k, n] as the precision says."""
        return self._stored(matrix, None)

    def norm(self, name: str) -> Norm:
        """A norm by its name."""
        width = self.sizes.width
        return Norm(
            self._checkpoint.tensor(f"{name}.weight", width), self._checkpoint.tensor(f"{name}.bias", width)
        )

    def attention(self, name: str) -> Attention:
        """The four products of an attention block; that of the keys has no bias."""
        width = self.sizes.width
        query, value, output = (
            self._linear(f"{name}.{each}_proj", width, width) for each in ("q", "v", "out")
        )
        key = self._stored(self._checkpoint.tensor(f"{name}.k_proj.weight", width, width).T, None)
        return Attention(query, key, value, output)

    def _linear(self, name: str, k: int, n: int) -> Matrix:
        matrix = self._checkpoint.tensor(f"{name}.weight", n, k).T
        return self._stored(matrix, self._checkpoint.tensor(f"{name}.bias", n))
