"""An encoder on the NPU: buffers, and two dispatches for a window."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.weights import Weights
from npu.whisper_weights import WhisperWeights
from npu.xdna.canary import Canary
from npu.xdna.composition import Constants
from npu.xdna.design import Design
from npu.xdna.design import Sequence as HostSequence
from npu.xdna.encoders import Plan, moonshine, moonshine_stem, whisper, whisper_stem
from npu.xdna.oracle import from_bf16
from npu.xdna.overlay import overlay
from npu.xdna.runtime import Built, Command, Npu
from streaming.errors import ModelError

Array = NDArray[Any]

_BYTES = 2  # of a value


class EncoderDesign:
    """A model's encoder for windows of several lengths: plans, what they share, and the design with their sequences."""

    def __init__(
        self,
        plan: Callable[[Constants, int], Plan],
        spans: Sequence[int],
        by_unit: bool = False,
        canary: Canary | None = None,
    ) -> None:
        """plan: makes the plan for so many spans of 256 states. by_unit: a dispatch for each unit, to be put in a list.
        canary: one that asks more than what encoders need.
        """
        self.constants = Constants()
        self.plans = [plan(self.constants, n) for n in sorted(spans)]
        self.work = max(plan.composer.work for plan in self.plans)
        self.canary = canary or Canary()
        self._by_unit = by_unit

    @classmethod
    def moonshine(
        cls,
        weights: Weights,
        heads: int,
        spans: Sequence[int],
        by_unit: bool = False,
        canary: Canary | None = None,
    ) -> EncoderDesign:
        """Moonshine's."""
        return cls(lambda constants, n: moonshine(weights, heads, constants, n), spans, by_unit, canary)

    @classmethod
    def moonshine_stem(cls, weights: Weights, spans: Sequence[int]) -> EncoderDesign:
        """Moonshine's convolutions alone."""
        return cls(partial(moonshine_stem, weights), spans)

    @classmethod
    def whisper(
        cls,
        weights: WhisperWeights,
        spans: Sequence[int],
        by_unit: bool = False,
        canary: Canary | None = None,
    ) -> EncoderDesign:
        """Whisper's."""
        return cls(partial(whisper, weights), spans, by_unit, canary)

    @classmethod
    def whisper_stem(cls, weights: WhisperWeights, spans: Sequence[int]) -> EncoderDesign:
        """Whisper's convolutions alone, with the positions."""
        return cls(partial(whisper_stem, weights), spans)

    def dispatches(self, plan: Plan) -> dict[str, tuple[str, ...]]:
        """Names of the sequences of a plan, and their units."""
        spans = self.plans.index(plan)
        parts = {unit: (unit,) for unit in plan.units} if self._by_unit else plan.dispatches()
        return {f"{name} {spans}".replace(",", "").replace(" ", "_"): units for name, units in parts.items()}

    def design(self, stacks: Mapping[str, int]) -> Design:
        """The overlay with all sequences. stacks: what the kernels need, bytes by name."""
        return overlay(stacks, self.sequences())

    def sequences(self) -> tuple[HostSequence, ...]:
        """All of them, the canary's among them."""
        encoders = (
            plan.composer.sequence(name, units, self.work)
            for plan in self.plans
            for name, units in self.dispatches(plan).items()
        )
        return (*encoders, self.canary.sequence())


class Encoder:
    """An encoder's buffers on the NPU, made once. Safe to call from several threads, one at a time."""

    def __init__(self, npu: Npu, built: Built, encoder: EncoderDesign) -> None:
        """built: the encoder's design; NpuUnavailable where there is no memory."""
        self._npu = npu
        self._built = built
        self._encoder = encoder
        self._one = threading.Lock()
        constants = encoder.constants.laid()
        headers = max(plan.composer.arguments(0)["headers"].bytes for plan in encoder.plans)
        sizes = {"constants": constants.nbytes, "headers": headers, "work": _BYTES * encoder.work}
        self._buffers = {name: npu.buffer(size) for name, size in sizes.items()}
        self._buffers["constants"].here[:] = constants.view(np.uint8)
        self._buffers["work"].here[:] = 0  # what is no number would spoil what it is masked from
        for buffer in self._buffers.values():
            buffer.to_device()

    def states(self, audio: Array, short: bool = False) -> NDArray[np.float32]:
        """audio [n] at 16 kHz, of a fixed context or `short` -> [states, width]; ModelError when it is too long,
        NpuUnavailable.
        """
        values, lengths = self._encoder.plans[0].laid(audio, short)
        fitting = [plan for plan in self._encoder.plans if plan.states >= lengths["states"]]
        if not fitting:
            raise ModelError(
                f"a window of {lengths['states']} states; the NPU takes {self._encoder.plans[-1].states}"
            )
        plan = fitting[0]
        with self._one:
            self._give("headers", 0, plan.composer.headers(lengths))
            room = np.zeros(plan.into.rows * plan.into.width, np.uint16)
            room[: values.size] = values
            self._give("work", plan.into.offset, room)
            for rows in plan.blank:
                self._give("work", rows.offset, np.zeros(rows.rows * rows.width, np.uint16))
            buffers = tuple(self._buffers.values())
            self._npu.run(self._built, [Command(name, buffers) for name in self._encoder.dispatches(plan)])
            return self._taken(plan, lengths["states"])

    def _give(self, name: str, offset: int, values: NDArray[np.uint16]) -> None:
        buffer, at = self._buffers[name], _BYTES * offset
        buffer.here[at : at + values.nbytes] = values.view(np.uint8)
        buffer.to_device(at, values.nbytes)

    def _taken(self, plan: Plan, states: int) -> NDArray[np.float32]:
        buffer, at, size = self._buffers["work"], _BYTES * plan.out.offset, _BYTES * states * plan.out.width
        buffer.to_host(at, size)
        rows = buffer.here[at : at + size].view(np.uint16).reshape(states, plan.out.width)
        return from_bf16(rows[:, : plan.width])
