"""The AMD NPU: an encoder there, in bf16 or 8 bits, and a decoder on the CPU, which is what suits a live stream best.

A decoder that takes one token at a time waits for the memory that both share; the encoder is what keeps a CPU busy.
When the NPU fails for good, the CPU does its part from then on, and the reason is kept.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnxruntime
from onnxruntime import OrtValue

from npu.acceleration import Acceleration, Mode
from npu.architecture import Architecture
from npu.backends.onnx import Array, OnnxBackend, load_session, run_encoder
from npu.moonshine import TINY
from npu.weights import Weights
from npu.whisper_weights import WhisperWeights
from npu.xdna.canary import Canary
from npu.xdna.canary_i8 import Canary8
from npu.xdna.design import Design
from npu.xdna.encoder import Encoder, EncoderDesign
from npu.xdna.failures import NpuUnavailable
from npu.xdna.gemm import SPAN
from npu.xdna.mixed_encoder import MixedDesign
from npu.xdna.runtime import Built, Npu
from npu.xdna.standing import failed, in_use
from streaming.errors import ModelError

logger = logging.getLogger("amanuensis.npu")

MOONSHINE_SPANS = (1, 2, 3, 5)  # of 256 states, 10.6 s each


@dataclass(frozen=True)
class Elsewhere:
    """An encoder that does not run on the CPU."""

    states: Callable[
        [Array, bool], Array
    ]  # audio [n], whether short -> [states, width]; NpuUnavailable, ModelError if too long
    where: str  # for people
    acceleration: Callable[[], Acceleration]  # how the NPU stands


class HybridBackend(OnnxBackend):
    """The encoder elsewhere. `fallen_back`: why it is on the CPU after all; None while it is not."""

    def __init__(
        self,
        architecture: Architecture,
        elsewhere: Elsewhere,
        cross: bytes | Callable[[], bytes],
        encoder: Callable[[], bytes],
        decoder: bytes | Callable[[], bytes],
        lockstep: Callable[[], bytes],
        threads: int = 1,
    ) -> None:
        """cross: the graph from states to what the decoder wants of them; encoder: that of the whole encoder, for when
        the NPU fails.
        """
        super().__init__(architecture, cross, decoder, lockstep, "cpu", threads)
        self.fallen_back: str | None = None
        self._states = elsewhere.states
        self._found = elsewhere.acceleration
        self._on_cpu = self.device
        self._whole_encoder = encoder
        self._whole: onnxruntime.InferenceSession | None = None
        self._making = threading.Lock()
        self.device = f"{elsewhere.where} (encoder), {self._on_cpu} (decoder)"

    @property
    def acceleration(self) -> Acceleration:
        """What the encoder has of the NPU."""
        found = self._found()
        return found if self.fallen_back is None else failed(found, self.fallen_back)

    def _hear(self, audio: Array, short: bool) -> list[OrtValue]:
        if self.fallen_back is None:
            try:
                states = self._states(audio, short)
            except NpuUnavailable as error:
                self.fallen_back = str(error)
                self.device = self._on_cpu
                logger.warning("the encoder of %s goes on on the CPU: %s", self.name, error)
            except ModelError as error:
                logger.info("a window is encoded on the CPU: %s", error)
            else:
                return run_encoder(self._encoder, self.cross, "states", states[None])
        return super()._hear(audio, short)

    def _listen(self, prepared: Array) -> list[OrtValue]:
        """On the CPU, which alone takes features."""
        with self._making:
            if self._whole is None:
                self._whole = load_session(self._whole_encoder(), "cpu", self._threads)
        return run_encoder(self._whole, self.cross, "audio", prepared)


class Composed(Protocol):
    """What is composed of a model, for one package."""

    @property
    def canary(self) -> Canary | Canary8:
        """By which the package proves itself."""

    def design(self, stacks: Mapping[str, int]) -> Design:
        """The design with its sequences. stacks: what the kernels need, bytes by name."""


Opener = Callable[[Composed], tuple[Npu, Built]]  # the NPU, and the design built for it; NpuUnavailable


def elsewhere(
    opener: Opener, design: EncoderDesign | MixedDesign, cache_dir: Path | None = None
) -> Elsewhere:
    """An encoder there; NpuUnavailable where the NPU cannot be used. cache_dir: where packages lie."""
    if isinstance(design, EncoderDesign):
        npu, built = asked(opener, design)
        return Elsewhere(
            Encoder(npu, built, design).states, npu.name, in_use(npu, [built], Mode(), cache_dir)
        )
    npu, first = asked(opener, design.convolutions)
    _, second = asked(opener, design.layers)
    states, mode = design.on(npu, first, second).states, Mode(precision="int8")
    return Elsewhere(states, npu.name, in_use(npu, [first, second], mode, cache_dir))


def asked(opener: Opener, composed: Composed) -> tuple[Npu, Built]:
    """The package of what is composed, after its canary has answered."""
    npu, built = opener(composed)
    composed.canary.ask(npu, built)
    return npu, built


def moonshine_design(weights: Weights) -> EncoderDesign:
    """Moonshine tiny's encoder, for windows of up to 53 s."""
    return EncoderDesign.moonshine(weights, TINY.heads, MOONSHINE_SPANS)


def whisper_design(weights: WhisperWeights) -> EncoderDesign:
    """A Whisper checkpoint's, for one span of states, and for all."""
    return EncoderDesign.whisper(weights, whisper_spans(weights))


def whisper_spans(weights: WhisperWeights) -> tuple[int, ...]:
    """Of 256 states."""
    return tuple(sorted({1, -(-weights.sizes.states // SPAN)}))
