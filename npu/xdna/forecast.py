"""What a whole model would take on the NPU, out of the costs of its stages: predicted, never measured.

An encoder is priced stage by stage. A decoder is not: it is taken to be as slow as what it reads, all its
weights once for each step and the keys and values of every window, whatever its kernels will be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from npu.xdna.cost import (
    CHAINED_S,
    PUBLISHED,
    UNPUBLISHED,
    Bound,
    Estimate,
    Machine,
    StageCost,
    Unit,
    slowest,
)
from npu.xdna.target import NPU1

MOST_BYTES = 28.1e9  # a second from the memory to the array: the most that anybody has seen (ignite-xdna)
TOKENS_A_SECOND = 3.0  # of speech that is neither hurried nor slow
_LAYER = re.compile(r"layer \d+ ")


class Precision(StrEnum):
    """How values are stored and multiplied."""

    BF16 = "bf16"
    INT8 = "int8"

    @property
    def bytes(self) -> int:
        """Of a value."""
        return 2 if self is Precision.BF16 else 1

    @property
    def unit(self) -> Unit:
        """What multiplies them."""
        return Unit.BF16 if self is Precision.BF16 else Unit.I8


@dataclass(frozen=True)
class Decoder:
    """What a step of it reads and multiplies, and what must be ready before the first."""

    weights: (
        int  # values that all windows of a batch share: matrices of the layers, and that of the vocabulary
    )
    cached: int  # keys and values of one window, of its states and of half its tokens
    products: int  # multiply-accumulates for one window
    prepared: int  # and those that make the states' keys and values, once for a window

    @classmethod
    def of(
        cls, width: int, layers: int, hidden: int, vocabulary: int, states: int, tokens: float, gated: bool
    ) -> Decoder:
        """Keys and values of the states are no part of a step; a gated network has three matrices, others two."""
        attention = 6 * width**2  # four of its own, query and output over the states
        weights = layers * (attention + (3 if gated else 2) * width * hidden) + vocabulary * width
        cached = round(2 * layers * width * (states + tokens / 2))
        return cls(weights, cached, weights + cached, 2 * layers * width**2 * states)

    def step(self, batch: int, precision: Precision, machine: Machine) -> Estimate:
        """One more token for each window of a batch."""
        moved = (self.weights + batch * self.cached) * precision.bytes
        memory = Estimate.of(moved / machine.bandwidth, UNPUBLISHED)
        at_best = moved / MOST_BYTES
        cores = _multiplied(batch * self.products, precision, machine)
        return slowest(memory, cores, Estimate(at_best, at_best, at_best)) + machine.dispatch

    def preparation(self, precision: Precision, machine: Machine) -> Estimate:
        """Of one window."""
        return _multiplied(self.prepared, precision, machine) + machine.dispatch


def _multiplied(products: int, precision: Precision, machine: Machine) -> Estimate:
    sustained = NPU1.cores * machine.products[precision.unit] * machine.clock
    return Estimate.of(products / sustained, UNPUBLISHED)


@dataclass(frozen=True)
class Row:
    """Stages of a kind together: those of all layers."""

    name: str
    stages: int
    products: int  # multiply-accumulates
    bytes: int  # both ways
    tasks: int
    time: Estimate
    bound: Bound  # of most of it


@dataclass(frozen=True)
class Encoding:
    """An encoder's window on a machine."""

    machine: Machine
    stages: tuple[StageCost, ...]
    dispatches: int
    units: int  # parts that could be runs of a list instead

    @property
    def dispatching(self) -> Estimate:
        """What dispatches add."""
        return self.machine.dispatch.times(self.dispatches)

    @property
    def listed(self) -> Estimate:
        """What a list of runs would add instead."""
        return self.machine.dispatch + Estimate.of(CHAINED_S * self.units, PUBLISHED)

    @property
    def time(self) -> Estimate:
        """All of it."""
        return total(stage.time for stage in self.stages) + self.dispatching

    def rows(self) -> tuple[Row, ...]:
        """Stages by what they do, in the order in which they first come."""
        kinds: dict[str, list[StageCost]] = {}
        for stage in self.stages:
            kinds.setdefault(_LAYER.sub("", stage.name), []).append(stage)
        return tuple(_row(name, stages) for name, stages in kinds.items())


def total(times: Iterable[Estimate]) -> Estimate:
    """One after the other."""
    return sum(times, Estimate(0, 0, 0))


def _row(name: str, stages: list[StageCost]) -> Row:
    return Row(
        name,
        len(stages),
        sum(stage.products for stage in stages),
        sum(stage.traffic.inward + stage.traffic.outward for stage in stages),
        sum(stage.traffic.tasks for stage in stages),
        total(stage.time for stage in stages),
        max(stages, key=lambda stage: stage.time.expected).bound,
    )


@dataclass(frozen=True)
class Transcription:
    """Recordings, whose windows are encoded one by one and decoded side by side."""

    encoding: Encoding
    decoder: Decoder
    seconds: float  # of a window
    tokens: int  # of a window
    batch: int  # windows side by side
    precision: Precision  # of the decoder

    @property
    def step(self) -> Estimate:
        """Of the whole batch."""
        return self.decoder.step(self.batch, self.precision, self.encoding.machine)

    @property
    def decoding(self) -> Estimate:
        """A window's share."""
        return self.step.times(self.tokens / self.batch)

    @property
    def preparation(self) -> Estimate:
        """Keys and values of the states."""
        return self.decoder.preparation(self.precision, self.encoding.machine)

    @property
    def time(self) -> Estimate:
        """A window's, from features to text."""
        return self.encoding.time + self.preparation + self.decoding


def times_real_time(seconds: float, time: Estimate) -> Estimate:
    """How much faster than it was spoken; the least first."""
    return Estimate(seconds / time.high, seconds / time.expected, seconds / time.low)
