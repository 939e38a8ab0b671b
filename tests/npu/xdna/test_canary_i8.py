"""The canary in 8 bits over the emulated NPU: it answers, and whatever is wrong with an array or a package shows in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from npu.xdna.array import Kernels
from npu.xdna.canary_i8 import Canary8
from npu.xdna.check import check
from npu.xdna.design import Design
from npu.xdna.emulated import emulated
from npu.xdna.emulator import Fault, Faults
from npu.xdna.failures import CanaryFailed, NpuUnavailable, trials
from npu.xdna.host_kernels import HostKernels
from npu.xdna.overlay_i8 import overlay
from npu.xdna.rings import Bytes
from npu.xdna.runtime import Npu


@pytest.fixture(scope="module")
def canary() -> Canary8:
    return Canary8()


def design_of(canary: Canary8, kernels: HostKernels) -> Design:
    return overlay(kernels.stacks, (canary.sequence(),))


def ask(canary: Canary8, kernels: Kernels, design: Design, faults: Faults | None = None) -> None:
    npu, (built,) = emulated(kernels, design, faults=faults)
    canary.ask(npu, built)
    assert npu.dispatches == 1


def test_an_array_that_works(canary: Canary8, kernels: HostKernels) -> None:
    """Answers, with one dispatch of a design that fits the hardware, and many different values."""
    design = design_of(canary, kernels)
    assert not check(design)
    ask(canary, kernels, design)
    assert [answer.what for answer in canary.answers] == ["product", "norm", "norm's scales", "attention"]
    assert all(len(np.unique(answer.expected)) > 200 for answer in canary.answers)


FAULTS = {
    Fault.ZEROS: (CanaryFailed, "every value of the product of the canary in 8 bits is zero"),
    Fault.TIMEOUT: (CanaryFailed, "did not end within 2000 ms"),
    Fault.NO_CONTEXT: (NpuUnavailable, "no hardware context is left"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault(canary: Canary8, portable: HostKernels, fault: Fault) -> None:
    """Has its name, and something to try; what cannot be asked has not failed."""
    kind, sentence = FAULTS[fault]
    with pytest.raises(NpuUnavailable, match=sentence) as caught:
        ask(canary, portable, design_of(canary, portable), Faults({fault: None}))
    assert type(caught.value) is kind and trials(caught.value)


def test_nothing_written(canary: Canary8, portable: HostKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told from zeros."""
    monkeypatch.setattr(Npu, "run", lambda *_: None)
    npu, (built,) = emulated(portable, design_of(canary, portable))
    with pytest.raises(CanaryFailed, match="the product of the canary in 8 bits was never written"):
        canary.ask(npu, built)


@pytest.mark.parametrize("fifo", ["a0", "a1", "b2", "b3", "C0"])
def test_wrong_strides(canary: Canary8, portable: HostKernels, fifo: str) -> None:
    """Of one memory tile are caught, wherever it is."""
    design = design_of(canary, portable)
    order = design.fifo(fifo).sent
    assert order is not None
    sizes, strides = ((each[1], each[0], *each[2:]) for each in (order.sizes, order.strides))
    changed = replace(design.fifo(fifo), sent=replace(order, sizes=sizes, strides=strides))
    wrong = replace(design, fifos=tuple(changed if each.name == fifo else each for each in design.fifos))
    with pytest.raises(CanaryFailed, match="the product of the canary in 8 bits differs from NumPy's in"):
        ask(canary, portable, wrong)


class Broken:
    """Kernels of which one makes the last byte of its last block another."""

    def __init__(self, kernels: Kernels, name: str) -> None:
        self._kernels, self._name = kernels, name

    def call(self, name: str, arguments: Sequence[Bytes | int]) -> None:
        self._kernels.call(name, arguments)
        if name == self._name:
            out = [each for each in arguments if isinstance(each, np.ndarray)][-1]
            out[-1:] += np.uint8(0x10)


@pytest.mark.parametrize(
    ("kernel", "answer"),
    [
        ("narrow_i16", "product"),
        ("quantise_i8", "product"),
        ("narrow_head_i8", "attention"),
        ("attention_finish_i8", "attention"),
    ],
)
def test_a_kernel_that_is_wrong(canary: Canary8, portable: HostKernels, kernel: str, answer: str) -> None:
    """Is told by the first answer that it spoils."""
    with pytest.raises(CanaryFailed, match=f"the {answer} of the canary in 8 bits differs"):
        ask(canary, Broken(portable, kernel), design_of(canary, portable))
