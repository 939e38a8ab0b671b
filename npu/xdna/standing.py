"""How the NPU stands with a model, as there is to tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from npu.acceleration import Acceleration, Evidence, Mode, State
from npu.xdna.failures import NpuUnavailable, trials
from npu.xdna.record import evidence_of, versions
from npu.xdna.runtime import Built, Npu


def in_use(
    npu: Npu, packages: Sequence[Built], mode: Mode, cache_dir: Path | None = None
) -> Callable[[], Acceleration]:
    """What tells how a model stands that uses these packages; cache_dir: where they lie."""
    proofs = {evidence_of(npu.name, built, cache_dir) for built in packages}
    evidence = proofs.pop() if len(proofs) == 1 else Evidence.NONE
    found = on(
        npu, Acceleration(State.IN_USE, evidence=evidence, decoder=mode.decoder, precision=mode.precision)
    )
    return lambda: replace(found, dispatches=npu.dispatches, recoveries=npu.recoveries)


def on(npu: Npu, found: Acceleration) -> Acceleration:
    """With what an opened NPU says of itself."""
    firmware, driver = versions(npu.address)
    return replace(
        found,
        device=npu.name,
        firmware=firmware,
        driver=driver,
        dispatches=npu.dispatches,
        recoveries=npu.recoveries,
    )


def failed(found: Acceleration, reason: str) -> Acceleration:
    """After the NPU has failed for good."""
    remedies = trials(NpuUnavailable(reason))
    return replace(found, state=State.FAILED, reason=reason, remedies=remedies)
