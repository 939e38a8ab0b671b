"""Everything on the AMD NPU: encoder and decoder, with the three verbs of every backend.

What the NPU cannot do, because there are more tokens or states than its sequences take, is a ModelError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.acceleration import Mode, NpuPrecision
from npu.architecture import Architecture
from npu.backends.xdna import MOONSHINE_SPANS, whisper_spans
from npu.model import Cache
from npu.moonshine import TINY
from npu.weights import Weights
from npu.whisper_weights import WhisperWeights
from npu.xdna.caches import NpuCache, Window
from npu.xdna.canary import Canary
from npu.xdna.canary_w8 import CanaryW8
from npu.xdna.decoder import DecoderDesign, Sizes
from npu.xdna.decoder_w8 import DecoderDesignW8
from npu.xdna.decoders import Parts
from npu.xdna.decoders_w8 import Size
from npu.xdna.design import Design
from npu.xdna.encoder import EncoderDesign
from npu.xdna.few import ROWS
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.lockstep import NpuBatch, extend_all
from npu.xdna.overlay import DEPTH, overlay
from npu.xdna.passing import NpuDecoder
from streaming.errors import ModelError

Array = NDArray[Any]

_WINDOWS = 8  # of a whole context, that recordings have side by side
_MOONSHINE = Sizes(past=(0, 4, 16), states=(8, 16, 40), spans=MOONSHINE_SPANS)


class NpuBackend:
    """A resident model. What goes on on the CPU where the NPU fails is `FailoverBackend`."""

    def __init__(
        self,
        architecture: Architecture,
        states: Callable[[Array, bool], Array],
        decoder: NpuDecoder,
        device: str,
    ) -> None:
        """states: what the encoder makes [states, width] of audio [n], which may be meant to be short."""
        self.name = architecture.name
        self.device = device
        self._architecture = architecture
        self._states = states
        self._decoder = decoder

    def encode(self, audio: NDArray[np.float32], short: bool = False) -> Window:
        """audio [n] at 16 kHz through the encoder."""
        if len(audio) > self._architecture.most_samples:
            raise ModelError(f"a window of {len(audio)} samples is longer than {self.name} can hear")
        return self._decoder.window(self._states(audio, short))

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        """k tokens on top of the cache -> logits [k, vocabulary]."""
        return self._decoder.extend(_own(cache), tokens)

    def extend_all(
        self, caches: Sequence[Cache], tokens: Sequence[tuple[int, ...]]
    ) -> list[NDArray[np.float32]]:
        """Tokens on top of each cache -> the logits [k, vocabulary] of each."""
        return extend_all(self._decoder, [_own(cache) for cache in caches], tokens)

    def together(self, starts: Sequence[Cache], attended: bool) -> NpuBatch:
        """Goes on with these decodings in lockstep."""
        return NpuBatch(self._decoder, [_own(cache) for cache in starts], attended)


class WholeDesign:
    """Encoder and decoder on one overlay, which stays loaded."""

    def __init__(self, encoder: EncoderDesign, decoder: DecoderDesign | DecoderDesignW8) -> None:
        self.encoder = encoder
        self.decoder = decoder

    @property
    def mode(self) -> Mode:
        """That it is for."""
        return Mode("npu", "int8" if isinstance(self.decoder, DecoderDesignW8) else "bf16")

    @property
    def canary(self) -> Canary:
        """The encoder's."""
        return self.encoder.canary

    def design(self, stacks: Mapping[str, int]) -> Design:
        """The overlay with all sequences. stacks: what the kernels need, bytes by name."""
        return overlay(stacks, (*self.encoder.sequences(), *self.decoder.sequences()))


def moonshine_whole(weights: Weights, precision: NpuPrecision) -> WholeDesign:
    """Moonshine tiny, for windows of up to 53 s. precision: of the decoder."""
    parts = Parts.moonshine(weights, TINY)
    encoder = EncoderDesign.moonshine(weights, TINY.heads, _MOONSHINE.spans, canary=_canary(precision))
    if precision == "bf16":
        return WholeDesign(encoder, DecoderDesign(parts, _MOONSHINE))
    sizes = _sizes_w8(TINY.most_tokens, [spans * SPAN for spans in _MOONSHINE.spans])
    return WholeDesign(encoder, DecoderDesignW8(parts, sizes, _MOONSHINE.spans))


def whisper_whole(
    weights: WhisperWeights, architecture: Architecture, precision: NpuPrecision
) -> WholeDesign:
    """A Whisper checkpoint, for its whole context and for short ones. precision: of the decoder.

    In bf16, eight windows go into a pass until they have half of the tokens that a window may have; then four do.
    """
    spans, parts = whisper_spans(weights), Parts.whisper(weights, architecture)
    encoder = EncoderDesign.whisper(weights, spans, canary=_canary(precision))
    if precision == "bf16":
        return WholeDesign(encoder, DecoderDesign(parts, whisper_passes(weights)))
    states = [min(n * SPAN, weights.sizes.states) for n in spans]
    return WholeDesign(encoder, DecoderDesignW8(parts, _sizes_w8(weights.sizes.tokens, states), spans))


def _canary(precision: NpuPrecision) -> Canary:
    """Of a decoder's overlay."""
    return CanaryW8() if precision == "int8" else Canary()


def _sizes_w8(tokens: int, states: Sequence[int]) -> list[Size]:
    """For four, eight and sixteen windows; of pasts a few, the longest of so many tokens; states: of windows."""
    past = {1, 4, -(-tokens // DEPTH)}
    blocks = {-(-n // TILE) for n in states}
    return [Size(*each) for each in product((SIDE, 2 * SIDE, ROWS), past, blocks)]


def whisper_passes(weights: WhisperWeights) -> Sizes:
    """For one window, four and eight, and for short ones."""
    states, tokens = (-(-n // DEPTH) for n in (weights.sizes.states, weights.sizes.tokens))
    past = {0, _WINDOWS, 3 * _WINDOWS, _WINDOWS * tokens // 2}
    windows = {SPAN // DEPTH, states, _WINDOWS // 2 * states, _WINDOWS * states}
    return Sizes(tuple(sorted(past)), tuple(sorted(windows)), whisper_spans(weights))


def _own(cache: Cache) -> NpuCache:
    if not isinstance(cache, NpuCache):
        raise TypeError(f"a cache of {type(cache).__name__} given to the NPU")
    return cache
