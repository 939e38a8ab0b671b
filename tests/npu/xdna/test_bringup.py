"""Bringing up over the emulator: the walk that passes, and every fault at the step where it belongs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from npu.xdna.array import Kernels
from npu.xdna.bringup import Bench, Outcome, Step, attempt, designs_of, emulated, hardware, steps_of
from npu.xdna.emulator import Fault, Faults
from npu.xdna.host_kernels import HostKernels
from npu.xdna.packages import built
from npu.xdna.rings import Bytes


@pytest.fixture(scope="module")
def kernels(portable: HostKernels) -> HostKernels:
    """Of one path."""
    return portable


class Later(Faults):
    """A fault that is shown from the n-th time on that it could be."""

    def __init__(self, fault: Fault, first: int) -> None:
        super().__init__({})
        self._fault, self._first, self._times = fault, first, count()

    def strikes(self, fault: Fault) -> bool:
        return fault is self._fault and next(self._times) >= self._first


class Broken:
    """Kernels of which one does something else."""

    def __init__(self, kernels: Kernels, name: str) -> None:
        self._kernels, self._name = kernels, name

    def call(self, name: str, arguments: Sequence[Bytes | int]) -> None:
        self._kernels.call(name, arguments)
        if name == self._name:
            out = arguments[-1]
            assert isinstance(out, np.ndarray)
            out[0] += 1


class Spoilt(Broken):
    """Kernels of which one has the sign of every value of its last array wrong."""

    def call(self, name: str, arguments: Sequence[Bytes | int]) -> None:
        self._kernels.call(name, arguments)
        if name == self._name:
            out = [each for each in arguments if isinstance(each, np.ndarray)][-1]
            out[1::2] ^= 0x80


def walk(
    kernels: HostKernels, faults: Faults | None = None, runs: Kernels | None = None, count: int | None = None
) -> list[Outcome]:
    """All steps, or the first of them, until one fails."""
    steps = steps_of(kernels.stacks)[:count]
    bench = emulated(designs_of(steps), runs or kernels, faults)
    outcomes: list[Outcome] = []
    for step in steps:
        outcomes.append(attempt(step, bench))
        if outcomes[-1].failure:
            break
    bench.close()
    return outcomes


def test_a_walk(kernels: HostKernels) -> None:
    """Passes, step by step, each on what the last has shown."""
    outcomes = walk(kernels)
    assert [each.step for each in outcomes] == [
        "device",
        "context",
        "pass-through",
        "one kernel",
        "canary",
        "overlay",
        "pipeline",
    ]
    assert not any(each.failure or each.recoveries for each in outcomes)
    assert outcomes[0].seen == "RyzenAI-npu1 (emulated)"
    assert outcomes[2].seen == "64 KiB came back as they were"
    assert outcomes[4].seen == "65536 sums are NumPy's"


FAULTS = {
    Fault.NO_DEVICE: ("device", "no NPU was found"),
    Fault.NOT_PERMITTED: ("device", "group render"),
    Fault.NO_CONTEXT: ("context", "no hardware context is left"),
    Fault.NO_KERNEL: ("context", "names no kernel"),
    Fault.NO_MEMORY: ("context", "memlock"),
    Fault.TIMEOUT: ("pass-through", "did not end within 2000 ms"),
    Fault.ABORT: ("pass-through", "firmware is too old"),
    Fault.LOST_CONTEXT: ("pass-through", "lost the context"),
    Fault.ZEROS: ("pass-through", "every value of what came back is zero"),
}


def test_all_faults() -> None:
    """Have a step here."""
    assert set(FAULTS) == set(Fault)


@pytest.mark.parametrize("fault", Fault)
def test_a_fault(fault: Fault, kernels: HostKernels) -> None:
    """Is shown at the step where it belongs, in words, and nothing comes after."""
    step, sentence = FAULTS[fault]
    last = walk(kernels, Faults({fault: None}))[-1]
    assert last.step == step
    assert sentence in str(last.failure)


@pytest.mark.parametrize(("first", "step"), [(1, "one kernel"), (2, "canary")])
def test_zeros_of_cores(first: int, step: str, kernels: HostKernels) -> None:
    """Have their name at the step whose output they are."""
    last = walk(kernels, Later(Fault.ZEROS, first))[-1]
    assert (last.step, str(last.failure)[:34]) == (step, "every value of the product is zero")


def test_zeros_of_the_overlay(kernels: HostKernels) -> None:
    """Are found before speech is tried."""
    last = walk(kernels, Later(Fault.ZEROS, 3))[-1]
    assert (last.step, str(last.failure)[:48]) == (
        "overlay",
        "every value of the product of the canary is zero",
    )


def test_a_kernel_that_no_canary_asks(kernels: HostKernels) -> None:
    """Is found by what becomes of speech."""
    last = walk(kernels, runs=Spoilt(kernels, "normalise_bf16"))[-1]
    assert last.step == "pipeline" and "differs from float32: cosine 0." in str(last.failure)


@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.LOST_CONTEXT])
def test_a_recovery(fault: Fault, kernels: HostKernels) -> None:
    """Is told of the step that needed it."""
    outcomes = walk(kernels, Faults({fault: 1}), count=5)
    assert [each.recoveries for each in outcomes] == [0, 0, 1, 0, 0]
    assert not any(each.failure for each in outcomes)


def test_a_kernel_that_is_wrong(kernels: HostKernels) -> None:
    """Fails at one kernel, after data movement has passed."""
    last = walk(kernels, runs=Broken(kernels, "gemm_i8"))[-1]
    assert last.step == "one kernel"
    assert "differs from NumPy's in 1 of 4096 values" in str(last.failure)


def test_the_time_of_a_step(kernels: HostKernels) -> None:
    """Is that of the clock."""
    (device, *_) = steps_of(kernels.stacks)
    ticks = iter((5.0, 7.5))
    assert attempt(device, emulated((), kernels), lambda: next(ticks)).seconds == 2.5


def test_designs(kernels: HostKernels) -> None:
    """Are named once each: they are what has to be built."""
    steps: Sequence[Step] = steps_of(kernels.stacks)
    assert [each.name for each in designs_of(steps)] == [
        "passthrough",
        "single_core",
        "gemm_i8",
        "overlay_bf16",
    ]


def test_hardware_that_is_not_there(kernels: HostKernels) -> None:
    """Fails at the first step: here XRT is not installed."""
    (device, *_) = steps_of(kernels.stacks)
    outcome = attempt(device, hardware())
    assert "not installed for this Python" in str(outcome.failure)


def test_a_package_that_is_not_built(kernels: HostKernels, tmp_path: Path) -> None:
    """Fails at the context, with the command that builds it."""
    steps = steps_of(kernels.stacks)
    working = emulated(designs_of(steps), kernels)
    bench = Bench(lambda: working.npu, lambda design: built(design, tmp_path))
    assert attempt(steps[0], bench).failure is None
    assert "amanuensis npu build" in str(attempt(steps[1], bench).failure)
