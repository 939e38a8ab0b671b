"""Models as shapes alone: the sizes of those in the catalogue, and weights that are all zero, to be laid out and priced
without a download.

Whisper's sizes are those of its paper (Radford et al., 2022, table 1) and of the published configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from npu.catalog import EMBEDDED, Named
from npu.checkpoint import Checkpoint, Sizes
from npu.moonshine import HOP, REACH, STATE_SAMPLES, TINY, WIDTH
from npu.untrained import BASE
from npu.weights import (
    Array,
    Attention,
    Convolution,
    DecoderLayer,
    Dense,
    EncoderLayer,
    Linear,
    Norm,
    Weights,
)
from npu.whisper_weights import WhisperWeights
from npu.xdna.curves import CURVE
from npu.xdna.decoders import Parts
from npu.xdna.quant import Layer, QuantisedEncoder
from npu.xdna.quant_parts import Heads, Normalisation, Product
from streaming.errors import ModelError

MOONSHINE_HIDDEN = 4 * WIDTH  # values between the two products of a layer's network
_TURNED = 16  # pairs of a head's values
ENGLISH_ONLY = 51_864  # tokens: those of several languages have more
_THIRD = {"bins": 128, "vocabulary": 51_866}  # what large-v3 and those made of it have more of


def _sized(width: int, layers: int, decoder_layers: int | None = None) -> Sizes:
    """Heads are 64 wide, and networks four times as wide as states."""
    heads, hidden = width // 64, 4 * width
    return Sizes(
        width=width,
        encoder_layers=layers,
        encoder_heads=heads,
        encoder_hidden=hidden,
        decoder_layers=layers if decoder_layers is None else decoder_layers,
        decoder_heads=heads,
        decoder_hidden=hidden,
        vocabulary=BASE.vocabulary,
        bins=BASE.bins,
        states=BASE.states,
        tokens=BASE.tokens,
    )


_TINY, _SMALL, _MEDIUM, _LARGE = _sized(384, 4), _sized(768, 12), _sized(1024, 24), _sized(1280, 32)
_SIZES = {
    "whisper-tiny": _TINY,
    "whisper-base": BASE,
    "whisper-small": _SMALL,
    "whisper-medium": _MEDIUM,
    "whisper-large-v1": _LARGE,
    "whisper-large-v2": _LARGE,
    "whisper-large-v3": replace(_LARGE, **_THIRD),
    "whisper-large-v3-turbo": replace(_sized(1280, 32, 4), **_THIRD),
    "distil-small.en": replace(_sized(768, 12, 4), vocabulary=ENGLISH_ONLY),
    "distil-medium.en": replace(_sized(1024, 24, 2), vocabulary=ENGLISH_ONLY),
    "distil-large-v2": _sized(1280, 32, 2),
    "distil-large-v3": replace(_sized(1280, 32, 2), **_THIRD),
    "distil-large-v3.5": replace(_sized(1280, 32, 2), **_THIRD),
}


def whisper_sizes(named: Named) -> Sizes | None:
    """Of a model of the catalogue, or of a checkpoint's folder; None of Moonshine.

    ModelError of what nobody here knows the sizes of.
    """
    if named.name == EMBEDDED:
        return None
    if named.folder is not None:
        return Checkpoint(named.folder).sizes
    known = _SIZES.get(named.name)
    if known is None and named.name.endswith(".en"):
        several = _SIZES.get(named.name.removesuffix(".en"))
        known = several and replace(several, vocabulary=ENGLISH_ONLY)
    if known is None:
        raise ModelError(
            f"The sizes of {named.name} are not known here: pull it, and name its folder, or choose"
            f" {EMBEDDED} or {', '.join(_SIZES)}"
        )
    return known


class _Blank(Checkpoint):
    """A checkpoint of which only the sizes are known."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes

    def tensor(self, name: str, *shape: int) -> Array:
        """Zeros."""
        return np.zeros(shape, np.float32)

    def has(self, name: str) -> bool:
        """Whatever a layer needs is there; nothing else is."""
        return False


def whisper_weights(sizes: Sizes) -> WhisperWeights:
    """Zeros of these sizes."""
    return WhisperWeights(_Blank(sizes), "fp32")


def whisper_parts(sizes: Sizes) -> Parts:
    """A decoder of zeros of these sizes, of which no token is ever asked for."""
    weights = whisper_weights(sizes)

    def embedded(tokens: Sequence[int], positions: Sequence[int]) -> Array:
        raise NotImplementedError("a model of zeros has no tokens")

    return Parts(
        sizes.decoder_layers, weights.decoder_layer, weights.norm("model.decoder.layer_norm"), weights.head(),
        sizes.decoder_heads, False, None, {}, embedded,
    )  # fmt: skip


def moonshine_weights() -> Weights:
    """Zeros of Moonshine tiny."""

    def matrix(k: int, n: int) -> Dense:
        return Dense(np.zeros((k, n), np.float32))

    def vector(n: int) -> Array:
        return np.zeros(n, np.float32)

    attention = Attention(*(matrix(WIDTH, WIDTH) for _ in range(4)))
    norm = Norm(vector(WIDTH))
    layer = EncoderLayer(
        norm, attention, norm, matrix(WIDTH, MOONSHINE_HIDDEN), matrix(MOONSHINE_HIDDEN, WIDTH)
    )
    stem = (
        Convolution(np.zeros((WIDTH, 1, REACH), np.float32), None, HOP),
        Convolution(np.zeros((2 * WIDTH, WIDTH, 7), np.float32), vector(2 * WIDTH), 3),
        Convolution(np.zeros((WIDTH, 2 * WIDTH, 3), np.float32), vector(WIDTH), 2),
    )
    decoder_layer = DecoderLayer(
        norm,
        attention,
        norm,
        attention,
        norm,
        matrix(WIDTH, 2 * MOONSHINE_HIDDEN),
        matrix(MOONSHINE_HIDDEN, WIDTH),
    )
    embedding = np.zeros((TINY.vocabulary, WIDTH), np.int8)
    return Weights(
        stem=stem,
        stem_gain=vector(WIDTH),
        stem_offset=vector(WIDTH),
        encoder=(layer,) * TINY.layers,
        encoder_norm=norm,
        embedding=Linear(embedding, np.zeros((), np.float32), np.zeros((), np.int8)),
        decoder=(decoder_layer,) * TINY.layers,
        decoder_norm=norm,
        head=matrix(WIDTH, TINY.vocabulary),
        frequencies=vector(_TURNED),
    )


def quantised_layers(width: int, hidden: int, heads: int, layers: int, turned: bool) -> QuantisedEncoder:
    """Zeros of an encoder's layers in 8 bits; turned: by position. Its convolutions are left out."""

    def product(k: int, n: int, curve: NDArray[np.int16] | None = None) -> Product:
        words = np.zeros(n, np.int32)
        return Product(np.zeros((k, n), np.int8), words, words, 0, 0, 0, curve)

    gain, floats = np.zeros(width, np.int32), np.zeros(width, np.float32)
    norm = Normalisation(gain, gain, 0, floats, floats)
    square, scales = product(width, width), Heads(0, np.zeros(heads, np.int32), np.zeros(heads))
    up, down, hidden_gain = (
        product(width, hidden, np.zeros(CURVE, np.int16)),
        product(hidden, width),
        np.zeros(hidden, np.int32),
    )
    layer = Layer(norm, square, square, square, scales, gain, square, norm, up, hidden_gain, down)
    angles = np.zeros((TINY.most_samples // STATE_SAMPLES, _TURNED), np.int16) if turned else None
    return QuantisedEncoder(heads, 0, 0, (), None, angles, angles, (layer,) * layers, norm)
