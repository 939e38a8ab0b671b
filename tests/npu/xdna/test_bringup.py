"""Bringing up over the emulator: the walk that passes, and every fault at the step where it belongs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from npu.acceleration import Mode
from npu.xdna.array import Kernels
from npu.xdna.bringup import Bench, Outcome, Step, attempt, designs_of, emulated, hardware, steps_of
from npu.xdna.emulator import Fault, Faults
from npu.xdna.host_kernels import HostKernels
from npu.xdna.packages import built
from npu.xdna.rings import Bytes
from npu.xdna.speech_steps import Candidate

FIRST = ("device", "context", "pass-through", "one kernel", "canary")


@pytest.fixture(scope="module")
def kernels(portable: HostKernels) -> HostKernels:
    """Of one path."""
    return portable


@pytest.fixture(scope="module")
def candidate(small_candidate: Callable[[Mode], Candidate]) -> Candidate:
    """Its encoder in bf16."""
    return small_candidate(Mode())


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
    kernels: HostKernels,
    candidate: Candidate,
    faults: Faults | None = None,
    runs: Kernels | None = None,
    count: int | None = None,
) -> list[Outcome]:
    """All steps, or the first of them, until one fails."""
    steps = steps_of(kernels.stacks, candidate)[:count]
    bench = emulated(designs_of(steps), runs or kernels, faults)
    outcomes: list[Outcome] = []
    for step in steps:
        outcomes.append(attempt(step, bench))
        if outcomes[-1].failure:
            break
    bench.close()
    return outcomes


@pytest.mark.parametrize(
    ("mode", "last", "seen"),
    [
        (
            Mode(),
            ("overlay", "pipeline"),
            r"for 100 states; cosine 0.99\d+ with float32, .* ms for 500 states",
        ),
        (Mode("npu"), ("overlay", "pipeline", "decoder"), r"cosine 0.99\d+ with float32, (\d+) of \1 tokens"),
        (
            Mode("npu", "int8"),
            ("overlay", "pipeline", "decoder"),
            r"cosine 0.99\d+ with float32, (\d+) of \1 tokens",
        ),
    ],
)
def test_a_walk(
    kernels: HostKernels,
    small_candidate: Callable[[Mode], Candidate],
    mode: Mode,
    last: tuple[str, ...],
    seen: str,
) -> None:
    """Passes, step by step, each on what the last has shown, and ends with what runs in the mode that was chosen."""
    outcomes = walk(kernels, small_candidate(mode))
    assert tuple(each.step for each in outcomes) == FIRST + last
    assert re.search(seen, outcomes[-1].seen)
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
def test_a_fault(fault: Fault, kernels: HostKernels, candidate: Candidate) -> None:
    """Is shown at the step where it belongs, in words, and nothing comes after."""
    step, sentence = FAULTS[fault]
    last = walk(kernels, candidate, Faults({fault: None}))[-1]
    assert last.step == step
    assert sentence in str(last.failure)


@pytest.mark.parametrize(("first", "step"), [(1, "one kernel"), (2, "canary")])
def test_zeros_of_cores(first: int, step: str, kernels: HostKernels, candidate: Candidate) -> None:
    """Have their name at the step whose output they are."""
    last = walk(kernels, candidate, Later(Fault.ZEROS, first))[-1]
    assert (last.step, str(last.failure)[:34]) == (step, "every value of the product is zero")


@pytest.mark.parametrize(
    ("mode", "first", "step", "sentence"),
    [
        (Mode(), 3, "overlay", "every value of the product of the canary is zero"),
        (
            Mode(precision="int8"),
            4,
            "8-bit overlay",
            "every value of the product of the canary in 8 bits is zero",
        ),
    ],
)
def test_zeros_later(
    kernels: HostKernels,
    small_candidate: Callable[[Mode], Candidate],
    mode: Mode,
    first: int,
    step: str,
    sentence: str,
) -> None:
    """Are found at the step whose output they are, before speech is tried."""
    last = walk(kernels, small_candidate(mode), Later(Fault.ZEROS, first))[-1]
    assert last.step == step and sentence in str(last.failure)


def test_zeros_of_a_decoder(kernels: HostKernels, small_candidate: Callable[[Mode], Candidate]) -> None:
    """Are nothing like float32."""
    steps = steps_of(kernels.stacks, small_candidate(Mode("npu")))
    found = attempt(steps[-1], emulated(designs_of(steps), kernels, Faults({Fault.ZEROS: None})))
    assert found.step == "decoder"
    assert "what the decoder makes of a text differs from float32: cosine 0.0000" in str(found.failure)


def test_a_kernel_that_no_canary_asks(kernels: HostKernels, candidate: Candidate) -> None:
    """Is found by what becomes of speech."""
    last = walk(kernels, candidate, runs=Spoilt(kernels, "normalise_bf16"))[-1]
    assert last.step == "pipeline" and "makes of speech differs from float32: cosine" in str(last.failure)


@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.LOST_CONTEXT])
def test_a_recovery(fault: Fault, kernels: HostKernels, candidate: Candidate) -> None:
    """Is told of the step that needed it."""
    outcomes = walk(kernels, candidate, Faults({fault: 1}), count=5)
    assert [each.recoveries for each in outcomes] == [0, 0, 1, 0, 0]
    assert not any(each.failure for each in outcomes)


def test_a_kernel_that_is_wrong(kernels: HostKernels, candidate: Candidate) -> None:
    """Fails at one kernel, after data movement has passed."""
    last = walk(kernels, candidate, runs=Broken(kernels, "gemm_i8"))[-1]
    assert last.step == "one kernel"
    assert "differs from NumPy's in 1 of 4096 values" in str(last.failure)


def test_the_time_of_a_step(kernels: HostKernels, candidate: Candidate) -> None:
    """Is that of the clock."""
    (device, *_) = steps_of(kernels.stacks, candidate)
    ticks = iter((5.0, 7.5))
    assert attempt(device, emulated((), kernels), lambda: next(ticks)).seconds == 2.5


@pytest.mark.parametrize(
    ("mode", "overlays"),
    [(Mode(), ["overlay_bf16"]), (Mode(precision="int8"), ["overlay_bf16", "overlay_i8"])],
)
def test_designs(
    kernels: HostKernels, small_candidate: Callable[[Mode], Candidate], mode: Mode, overlays: list[str]
) -> None:
    """Are named once each: they are what has to be built."""
    steps: Sequence[Step] = steps_of(kernels.stacks, small_candidate(mode))
    assert [each.name for each in designs_of(steps)] == ["passthrough", "single_core", "gemm_i8", *overlays]


def test_hardware_that_is_not_there(kernels: HostKernels, candidate: Candidate) -> None:
    """Fails at the first step: here XRT is not installed."""
    (device, *_) = steps_of(kernels.stacks, candidate)
    outcome = attempt(device, hardware())
    assert "not installed for this Python" in str(outcome.failure)


def test_a_package_that_is_not_built(kernels: HostKernels, candidate: Candidate, tmp_path: Path) -> None:
    """Fails at the context, with the command that builds it."""
    steps = steps_of(kernels.stacks, candidate)
    working = emulated(designs_of(steps), kernels)
    bench = Bench(lambda: working.npu, lambda design: built(design, tmp_path))
    assert attempt(steps[0], bench).failure is None
    assert "amanuensis npu build" in str(attempt(steps[1], bench).failure)
