"""The canary over the emulated NPU: it answers, and whatever is wrong with an array or a package shows in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from npu.xdna.array import Kernels
from npu.xdna.canary import Canary
from npu.xdna.canary_w8 import CanaryW8
from npu.xdna.check import check
from npu.xdna.design import Design
from npu.xdna.emulated import emulated
from npu.xdna.emulator import Fault, Faults
from npu.xdna.failures import CanaryFailed, NpuUnavailable, trials
from npu.xdna.host_kernels import HostKernels
from npu.xdna.overlay import overlay
from npu.xdna.rings import Bytes


@pytest.fixture(scope="module")
def canary() -> Canary:
    return Canary()


def design_of(canary: Canary, kernels: HostKernels) -> Design:
    return overlay(kernels.stacks, (canary.sequence(),))


def ask(canary: Canary, kernels: Kernels, design: Design, faults: Faults | None = None) -> None:
    npu, (built,) = emulated(kernels, design, faults=faults)
    canary.ask(npu, built)
    assert npu.dispatches == 1


@pytest.mark.parametrize("kind", [Canary, CanaryW8])
def test_an_array_that_works(kernels: HostKernels, kind: type[Canary]) -> None:
    """Answers, with one dispatch of a design that fits the hardware; the emulated one bit for bit."""
    canary = kind()
    design = design_of(canary, kernels)
    assert not check(design)
    ask(canary, kernels, design)
    npu, (built,) = emulated(kernels, design)
    found = canary.answered(npu, built)
    for answer in canary.answers:
        assert np.array_equal(answer.found(found), answer.expected)
        assert len(np.unique(answer.expected)) > 200


FAULTS = {
    Fault.ZEROS: (CanaryFailed, "every value of the product of the canary is zero"),
    Fault.TIMEOUT: (CanaryFailed, "did not end within 2000 ms"),
    Fault.ABORT: (CanaryFailed, "firmware is too old"),
    Fault.LOST_CONTEXT: (CanaryFailed, "lost the context"),
    Fault.NO_CONTEXT: (NpuUnavailable, "no hardware context is left"),
    Fault.NO_KERNEL: (NpuUnavailable, "names no kernel"),
    Fault.NO_MEMORY: (NpuUnavailable, "memlock"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault(canary: Canary, kernels: HostKernels, fault: Fault) -> None:
    """Has its name, and something to try; what cannot be asked has not failed."""
    kind, sentence = FAULTS[fault]
    with pytest.raises(NpuUnavailable, match=sentence) as caught:
        ask(canary, kernels, design_of(canary, kernels), Faults({fault: None}))
    assert type(caught.value) is kind and trials(caught.value)


def test_a_fault_that_passes(canary: Canary, kernels: HostKernels) -> None:
    """Is recovered from, as in all that runs there."""
    ask(canary, kernels, design_of(canary, kernels), Faults({Fault.TIMEOUT: 1}))


@pytest.mark.parametrize("fifo", ["a0", "a1", "b2", "b3", "C0"])
def test_wrong_strides(canary: Canary, kernels: HostKernels, fifo: str) -> None:
    """Of one memory tile are caught, wherever it is."""
    design = design_of(canary, kernels)
    order = design.fifo(fifo).sent
    assert order is not None
    sizes, strides = ((each[1], each[0], *each[2:]) for each in (order.sizes, order.strides))
    changed = replace(design.fifo(fifo), sent=replace(order, sizes=sizes, strides=strides))
    wrong = replace(design, fifos=tuple(changed if each.name == fifo else each for each in design.fifos))
    with pytest.raises(CanaryFailed, match="the NPU computes wrongly: the product of the canary differs in"):
        ask(canary, kernels, wrong)


class Broken:
    """Kernels of which one leaves a half word of its output as it was not."""

    def __init__(self, kernels: Kernels, name: str, at: int) -> None:
        self._kernels, self._name, self._at = kernels, name, at

    def call(self, name: str, arguments: Sequence[Bytes | int]) -> None:
        self._kernels.call(name, arguments)
        if name == self._name:
            out = arguments[-1]
            assert isinstance(out, np.ndarray)
            out.view(np.uint16)[self._at] += 2


@pytest.mark.parametrize(
    ("name", "at", "what"),
    [
        ("attention_finish_bf16", -1, "attention"),
        ("few_finish", 1, "product of few rows"),  # the upper half of a float
        ("windows_finish", 0, "attention to windows"),
    ],
)
def test_a_kernel_that_is_wrong(portable: HostKernels, name: str, at: int, what: str) -> None:
    """Is told by what it spoils, two steps of bf16 in one value of a core."""
    canary = CanaryW8()
    with pytest.raises(CanaryFailed, match=f"the {what} of the canary differs in"):
        ask(canary, Broken(portable, name, at), design_of(canary, portable))
