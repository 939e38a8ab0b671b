"""The last steps of a bring-up: what models run on, first with known answers, then with speech.

Both are of the package that a daemon uses for Moonshine tiny, so that what is recorded is what runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from npu.backends.reference import ReferenceBackend
from npu.backends.xdna import moonshine_design
from npu.embedded import package_folder
from npu.lean import shipped_weights
from npu.moonshine import TINY
from npu.weights import Weights
from npu.xdna.design import Design
from npu.xdna.encoder import Encoder, EncoderDesign
from npu.xdna.failures import NpuUnavailable
from streaming.containers import decode_container
from streaming.window import SAMPLE_RATE

if TYPE_CHECKING:
    from npu.xdna.bringup import Bench

CLOSE = 0.999  # cosine of the states with those in float32

_CLIP, _SECONDS = "two_cities.wav", 2.0  # its beginning
_TIMES = 2  # the first wakes the NPU up, which is no part of what it takes


@dataclass(frozen=True, eq=False)
class KnownAnswers:
    """The overlay, before it is trusted with speech: what a daemon asks whenever it opens the NPU."""

    stacks: Mapping[str, int]  # what the kernels need, bytes by name
    name: str = "overlay"
    does: str = (
        "a product and an attention in bf16, by headers, on all sixteen cores; their answers are known"
    )

    @property
    def design(self) -> Design:
        """That of Moonshine's encoder."""
        return _encoder().design(self.stacks)

    def take(self, bench: Bench) -> str:
        """That they are right."""
        canary = _encoder().canary
        canary.ask(bench.npu, bench.package(self.design))
        values = sum(answer.expected.size for answer in canary.answers)
        return f"{values} values are right to a step of bf16"


@dataclass(frozen=True, eq=False)
class Speech:
    """A whole encoder."""

    stacks: Mapping[str, int]
    name: str = "pipeline"
    does: str = f"encodes {_SECONDS:g} s of speech with Moonshine tiny"

    @property
    def design(self) -> Design:
        """The same."""
        return _encoder().design(self.stacks)

    def take(self, bench: Bench) -> str:
        """How close the states are to those in float32, and how long they took."""
        audio = _speech()
        encoder = Encoder(bench.npu, bench.package(self.design), _encoder())
        taken = []
        for _ in range(_TIMES):
            begun = perf_counter()
            states = encoder.states(audio)
            taken.append(perf_counter() - begun)
        close = _cosine(states, ReferenceBackend(TINY, _weights()).encode(audio).states)
        if not close >= CLOSE:
            raise NpuUnavailable(
                f"what the encoder makes of speech differs from float32: cosine {close:.4f}, not {CLOSE} or more"
            )
        return f"cosine {close:.5f} with float32; {min(taken) * 1000:.1f} ms for {_SECONDS:g} s"


@cache
def _weights() -> Weights:
    return shipped_weights()


@cache
def _encoder() -> EncoderDesign:
    return moonshine_design(_weights())


def _speech() -> NDArray[np.float32]:
    """[n] at 16 kHz."""
    with (package_folder() / "assets" / _CLIP).open("rb") as file:
        return np.concatenate(list(decode_container(file)))[: round(_SECONDS * SAMPLE_RATE)]


def _cosine(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Of all values together; no number where one of them is none, zero where nothing was written but zeros."""
    a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    lengths = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / lengths if lengths else 0.0
