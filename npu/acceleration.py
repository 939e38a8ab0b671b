"""What a model has of the NPU: what is asked of it, whether it runs there, why not, and what there is to say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

DecoderPlace = Literal["cpu", "npu"]
NpuPrecision = Literal["bf16", "int8"]


@dataclass(frozen=True)
class Mode:
    """What the NPU does of a model where it is used. The encoder is there in any case."""

    decoder: DecoderPlace = "cpu"  # where it runs
    precision: NpuPrecision = "bf16"  # of the encoder's layers; with the decoder there, of that instead

    @property
    def of_encoder(self) -> NpuPrecision:
        """Of the encoder's layers."""
        return self.precision if self.decoder == "cpu" else "bf16"


class State(StrEnum):
    """Whether the NPU works for a model."""

    IN_USE = "in use"
    UNAVAILABLE = "unavailable"  # not there, not asked for, or without a package for this model
    FAILED = "failed"  # it was there, and gave no answers or wrong ones


class Evidence(StrEnum):
    """What stands behind the claim that it works."""

    NONE = "none"
    EMULATED = "emulated"  # no NPU: this machine does what it would do
    MEASURED = "measured"  # this package was brought up on this device, and that is recorded


@dataclass(frozen=True)
class Acceleration:
    """The NPU, as far as a model is concerned."""

    state: State = State.UNAVAILABLE
    reason: str | None = None  # why it is not in use
    remedies: tuple[str, ...] = ()  # what to try about that, the likeliest first
    device: str | None = None  # as XRT calls it
    firmware: str | None = None  # where the driver says
    driver: str | None = None
    dispatches: int = 0  # commands that were done
    recoveries: int = 0  # contexts that were made anew after a failure
    evidence: Evidence = Evidence.NONE
    decoder: DecoderPlace | None = None  # where it runs while the NPU is in use, or ran until that failed
    precision: NpuPrecision | None = None  # that was chosen


NOT_ASKED = Acceleration(reason='The NPU was not asked for; device = "auto" or "npu" in [model] does that.')


def of_all(models: Sequence[Acceleration]) -> Acceleration:
    """Of several resident models, the default one first: that of one that uses the NPU, else of one for which it has
    failed, else the first's. Dispatches and recoveries are everybody's.
    """
    told = min(models, key=lambda each: _WORTH_TELLING.index(each.state))
    dispatches, recoveries = sum(each.dispatches for each in models), sum(each.recoveries for each in models)
    return replace(told, dispatches=dispatches, recoveries=recoveries)


_WORTH_TELLING = (State.IN_USE, State.FAILED, State.UNAVAILABLE)
