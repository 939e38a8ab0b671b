"""What a whole model would take on the NPU, out of the costs of its stages: predicted, never measured.

Encoders are priced stage by stage, and so are decoders, see `decoder_forecast`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from npu.xdna.cost import (
    CHAINED_S,
    NOTHING,
    PUBLISHED,
    RECONFIGURATION_S,
    Bound,
    Estimate,
    Machine,
    StageCost,
)

TOKENS_A_SECOND = 3.0  # of speech that is neither hurried nor slow
_LAYER = re.compile(r"(decoder )?layer \d+ | from \d+$")


class Precision(StrEnum):
    """How values are stored and multiplied."""

    BF16 = "bf16"
    INT8 = "int8"


@dataclass(frozen=True)
class Lockstep:
    """Windows of recordings, decoded side by side."""

    states: int  # of each
    tokens: int  # of each
    batch: int  # windows
    opening: int  # tokens that are known before the first of these
    alone: int  # passes that a window has for itself, for its opening
    together: int  # and those that give a token of it to all windows


@dataclass(frozen=True)
class Decoding:
    """A decoder on a machine, with windows side by side."""

    preparation: Estimate  # keys and values of a window's states
    opening: Estimate  # what is known before, of a window
    steps: Estimate  # a token of each window, until all have theirs
    alone: Estimate  # a pass for one window
    batch: int
    stages: tuple[StageCost, ...]  # of the last step

    @property
    def share(self) -> Estimate:
        """A window's, of the steps."""
        return self.steps.times(1 / self.batch)

    @property
    def time(self) -> Estimate:
        """A window's."""
        return self.preparation + self.opening + self.share


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
    exchanges: int = 0  # times that another overlay is loaded

    @property
    def dispatching(self) -> Estimate:
        """What dispatches add."""
        return self.machine.dispatch.times(self.dispatches)

    @property
    def loading(self) -> Estimate:
        """What loading other overlays adds."""
        return Estimate.of(RECONFIGURATION_S * self.exchanges, PUBLISHED)

    @property
    def listed(self) -> Estimate:
        """What a list of runs would add instead."""
        return self.machine.dispatch + Estimate.of(CHAINED_S * self.units, PUBLISHED)

    @property
    def time(self) -> Estimate:
        """All of it."""
        return total(stage.time for stage in self.stages) + self.dispatching + self.loading


def total(times: Iterable[Estimate]) -> Estimate:
    """One after the other."""
    return sum(times, NOTHING)


def rows(stages: Iterable[StageCost]) -> tuple[Row, ...]:
    """Stages by what they do, in the order in which they first come."""
    kinds: dict[str, list[StageCost]] = {}
    for stage in stages:
        kinds.setdefault(_LAYER.sub("", stage.name), []).append(stage)
    return tuple(_row(name, alike) for name, alike in kinds.items())


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
    decoding: Decoding
    seconds: float  # of a window

    @property
    def time(self) -> Estimate:
        """A window's, from features to text."""
        return self.encoding.time + self.decoding.time

    @property
    def speed(self) -> Estimate:
        """How much faster than it was spoken; the least first."""
        return times_real_time(self.seconds, self.time)


def times_real_time(seconds: float, time: Estimate) -> Estimate:
    """How much faster than it was spoken; the least first."""
    return Estimate(seconds / time.high, seconds / time.expected, seconds / time.low)
