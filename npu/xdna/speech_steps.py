"""The last steps of a bring-up: what a model runs on, first with known answers, then with speech.

They are of the packages that a daemon uses for that model in that mode, so that what is recorded is what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from npu.acceleration import Mode
from npu.backends.designs import ModelDesign, model_design, packages_of
from npu.backends.xdna_whole import WholeDesign
from npu.catalog import Named
from npu.embedded import package_folder
from npu.weights import Array
from npu.xdna.canary import Canary
from npu.xdna.canary_i8 import Canary8
from npu.xdna.decoder import DecoderDesign
from npu.xdna.decoder_w8 import DecoderDesignW8
from npu.xdna.design import Design
from npu.xdna.encoder import Encoder
from npu.xdna.failures import NpuUnavailable
from npu.xdna.float_model import FloatModel, float_model
from npu.xdna.mixed_encoder import MixedDesign
from npu.xdna.quant_model import text
from streaming.containers import decode_container
from streaming.window import SAMPLE_RATE

if TYPE_CHECKING:
    from npu.xdna.bringup import Bench, Step

CLOSE = {"bf16": 0.999, "int8": 0.99}  # cosine of the states with those in float32, by what layers compute in
_CLOSE_LOGITS = 0.999

_CLIP, _SECONDS = "two_cities.wav", 2.0  # its beginning
_TIMES = 2  # the first wakes the NPU up, which is no part of what it takes
_MOST_TOKENS = 32  # of the text, those of its opening included


class Candidate:
    """A model as the NPU is to run it, and what it is compared with, which is read when that is needed."""

    def __init__(self, named: Named, mode: Mode, models_dir: Path | None, cache_dir: Path) -> None:
        """ModelError where it is not installed, NpuUnavailable where it was not quantised and must be."""
        self.name = named.name
        self.mode = mode
        self.parts: ModelDesign = model_design(named, mode, models_dir, cache_dir)
        self._read = partial(float_model, named, models_dir)

    @cached_property
    def exact(self) -> FloatModel:
        """The model in float32."""
        return self._read()


@dataclass(frozen=True, eq=False)
class KnownAnswers:
    """An overlay, before it is trusted with speech: what a daemon asks whenever it opens the NPU."""

    canary: Canary | Canary8
    designs: tuple[Design]

    @property
    def name(self) -> str:
        """Of which overlay."""
        return self.canary.overlay

    @property
    def does(self) -> str:
        """What it asks."""
        return f"{self.canary.asks}, by headers, on all sixteen cores; their answers are known"

    def take(self, bench: Bench) -> str:
        """That they are right."""
        (design,) = self.designs
        self.canary.ask(bench.npu, bench.package(design))
        values = sum(answer.expected.size for answer in self.canary.answers)
        return f"{values} values are {self.canary.right}"


@dataclass(frozen=True, eq=False)
class Encoding:
    """A whole encoder: on speech alone and, where the model has a context of its own, on all of that."""

    candidate: Candidate
    designs: tuple[Design, ...]
    name: str = "pipeline"

    @property
    def does(self) -> str:
        """With which model."""
        precision = "its layers in 8 bits" if self.candidate.mode.of_encoder == "int8" else "in bf16"
        return f"encodes {_SECONDS:g} s of speech with {self.candidate.name}, {precision}"

    def take(self, bench: Bench) -> str:
        """How close the states are to those in float32, and how long they took."""
        states, exact = self._states(bench), self.candidate.exact
        audio, close = _speech(), CLOSE[self.candidate.mode.of_encoder]
        said = []
        for short in (True, False):
            prepared = exact.architecture.prepare(audio, short)
            taken = []
            for _ in range(_TIMES):
                begun = perf_counter()
                found = states(audio, short)
                taken.append(perf_counter() - begun)
            cosine = _cosine(found, exact.encoder.states(prepared))
            if not cosine >= close:
                raise NpuUnavailable(
                    f"what the encoder makes of speech differs from float32: cosine {cosine:.4f}, not {close} or more"
                )
            said.append(
                f"cosine {cosine:.5f} with float32, {min(taken) * 1000:.1f} ms for {len(found)} states"
            )
            if exact.architecture.spectrogram is None:
                break
        return "; ".join(said)

    def _states(self, bench: Bench) -> Callable[[Array, bool], Array]:
        first, *more = (bench.package(each) for each in self.designs)
        parts = self.candidate.parts
        if isinstance(parts, MixedDesign):
            return parts.on(bench.npu, first, more[0]).states
        encoder = parts.encoder if isinstance(parts, WholeDesign) else parts
        return Encoder(bench.npu, first, encoder).states


@dataclass(frozen=True, eq=False)
class Decoding:
    """A decoder, over the states in float32: a text in one pass, and its last token once more on top of the others."""

    candidate: Candidate
    decoder: DecoderDesign | DecoderDesignW8
    designs: tuple[Design]
    name: str = "decoder"

    @property
    def does(self) -> str:
        """With which model."""
        return f"decodes what {self.candidate.name} hears in {_SECONDS:g} s of speech"

    def take(self, bench: Bench) -> str:
        """How close the logits are to those in float32, and how long one token took."""
        exact, audio = self.candidate.exact, _speech()
        encoded = exact.reference.encode(audio)
        tokens = text(exact, audio)[:_MOST_TOKENS]
        (design,) = self.designs
        decoder = self.decoder.on(bench.npu, bench.package(design))
        cache = decoder.window(encoded.states).start()
        together = decoder.extend(cache, tokens)
        cache.truncate(len(tokens) - 1)
        begun = perf_counter()
        alone = decoder.extend(cache, tokens[-1:])
        taken = perf_counter() - begun
        expected = exact.reference.extend(encoded.start(), tokens)
        close = min(_cosine(together, expected), _cosine(alone, expected[-1:]))
        if not close >= _CLOSE_LOGITS:
            raise NpuUnavailable(
                f"what the decoder makes of a text differs from float32: cosine {close:.4f}, not {_CLOSE_LOGITS} or more"
            )
        same = int(np.sum(together.argmax(axis=1) == expected.argmax(axis=1)))
        return (
            f"cosine {close:.5f} with float32, {same} of {len(tokens)} tokens chosen alike;"
            f" {taken * 1000:.1f} ms for one"
        )


def speech_steps(candidate: Candidate, stacks: Mapping[str, int]) -> tuple[Step, ...]:
    """All of them in order; stacks: what the kernels need, bytes by name."""
    packages = [(each.canary, each.design(stacks)) for each in packages_of(candidate.parts)]
    designs = tuple(design for _, design in packages)
    steps: list[Step] = [KnownAnswers(canary, (design,)) for canary, design in packages]
    steps.append(Encoding(candidate, designs))
    if isinstance(candidate.parts, WholeDesign):
        steps.append(Decoding(candidate, candidate.parts.decoder, (designs[0],)))
    return tuple(steps)


def _speech() -> NDArray[np.float32]:
    """[n] at 16 kHz."""
    with (package_folder() / "assets" / _CLIP).open("rb") as file:
        return np.concatenate(list(decode_container(file)))[: round(_SECONDS * SAMPLE_RATE)]


def _cosine(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """Of all values together; no number where one of them is none, zero where nothing was written but zeros."""
    a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    lengths = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / lengths if lengths else 0.0
