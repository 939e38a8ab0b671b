"""Whether a model runs on the NPU: where that is asked for, where there is one, and where it proves itself."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from npu.acceleration import Acceleration, State
from npu.backends.failover import FailoverBackend
from npu.backends.onnx import OnnxBackend
from npu.backends.xdna import Composed, Opener
from npu.xdna.failures import CanaryFailed, NpuUnavailable, trials
from npu.xdna.packages import built
from npu.xdna.presence import without_npu
from npu.xdna.runtime import Built, Npu
from npu.xdna.standing import on
from streaming.errors import ModelError

NPU, AUTO = "npu", "auto"  # devices that ask for it

_UNMEASURED: Mapping[str, int] = defaultdict(int)  # stacks of kernels: for the checker, no part of a package

Resident = OnnxBackend | FailoverBackend

logger = logging.getLogger("amanuensis.npu")


def selected(
    device: str,
    cache_dir: Path,
    accelerated: Callable[[Opener], Resident],
    plain: Callable[[], OnnxBackend],
) -> Resident:
    """`accelerated` where the device asks for the NPU and it can be used; `plain` otherwise, which is told why.

    The NPU is opened before anything is read or composed: where there is none that takes less than a millisecond.
    """
    if device not in (NPU, AUTO):
        return plain()
    npu: Npu | None = None
    try:
        npu = Npu.open()
        return accelerated(_opener(npu, cache_dir))
    except NpuUnavailable as error:
        found = _without(error, npu)
    level = logging.WARNING if found.state is State.FAILED or device == NPU else logging.INFO
    if device == AUTO and npu is None and (absent := without_npu()):
        found, level = Acceleration(reason=f"no NPU found: {absent}"), logging.DEBUG  # nobody expected one
    logger.log(level, "the CPU does the work: %s", found.reason)
    backend = plain()
    backend.unaccelerated = found
    return backend


def _without(error: NpuUnavailable, npu: Npu | None) -> Acceleration:
    """Why it is not used; npu: where it could be opened."""
    state = State.FAILED if isinstance(error, CanaryFailed) else State.UNAVAILABLE
    found = Acceleration(state, str(error), trials(error))
    return found if npu is None else on(npu, found)


def _opener(npu: Npu, cache_dir: Path) -> Opener:
    """Finds what was built for it."""

    def opened(composed: Composed) -> tuple[Npu, Built]:
        try:
            return npu, built(composed.design(_UNMEASURED), cache_dir)
        except NpuUnavailable:
            raise
        except ModelError as error:
            raise NpuUnavailable(f"this model cannot be put on the NPU: {error}") from error

    return opened
