"""The runtime over the emulated XRT: results, and every failure of the catalogue with its sentence."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna.design import (
    Acquire,
    Await,
    Block,
    Call,
    Design,
    Element,
    Fifo,
    Function,
    Held,
    Release,
    Repeat,
    Start,
    Tile,
    Worker,
    whole,
)
from npu.xdna.design import Sequence as HostSequence
from npu.xdna.emulator import KERNEL, Emulator, Fault, Faults, Package, instructions
from npu.xdna.failures import NpuUnavailable
from npu.xdna.runtime import Built, Command, Npu

Bytes = NDArray[np.uint8]

BLOCK = Block(Element.I32, (256,))


class Doubling:
    """The kernel of this design."""

    def call(self, name: str, arguments: Sequence[Bytes | int]) -> None:
        x, y = arguments
        assert isinstance(x, np.ndarray) and isinstance(y, np.ndarray)
        y.view(np.int32)[:] = 2 * x.view(np.int32)


def doubling(name: str = "doubling") -> Design:
    """One core; what goes in comes out twice as large."""
    shim, core = Tile(0, 0), Tile(0, 2)
    body = (
        Acquire("in"),
        Acquire("out"),
        Call("double", (Held("in"), Held("out"))),
        Release("in"),
        Release("out"),
    )
    steps = (Start("in", "x", whole(BLOCK)), Start("out", "y", whole(BLOCK)), Await("out"))
    return Design(
        name,
        (Fifo("in", shim, (core,), BLOCK), Fifo("out", core, (shim,), BLOCK)),
        (),
        (Worker(core, (Repeat(None, body),)),),
        (Function("double", "", (BLOCK, BLOCK), 64),),
        (HostSequence("double", {"x": BLOCK, "y": BLOCK}, steps),),
    )


def emulated(count: int = 1, **faults: int | None) -> tuple[Emulator, list[Built]]:
    """XRT with so many packages, which fails so often in these ways."""
    designs = [doubling(f"doubling{i}") for i in range(count)]
    packages = {f"{design.name}.xclbin": Package(design, Doubling) for design in designs}
    built = [
        Built(each.name, f"{each.name}.xclbin", KERNEL, {"double": instructions(each, "double")})
        for each in designs
    ]
    return Emulator(packages, Faults({Fault[name]: times for name, times in faults.items()})), built


def doubled(npu: Npu, built: Built, times: int = 1) -> NDArray[np.int32]:
    """1, 2, 3 ... through the array so many times, each from the last one's output."""
    buffers = [npu.buffer(BLOCK.bytes) for _ in range(times + 1)]
    buffers[0].here.view(np.int32)[:] = np.arange(256)
    buffers[0].to_device()
    npu.run(built, [Command("double", pair) for pair in pairwise(buffers)])
    buffers[-1].to_host()
    return buffers[-1].here.view(np.int32).copy()


def test_a_command() -> None:
    """What was asked is done."""
    xrt, (built,) = emulated()
    assert np.array_equal(doubled(Npu(xrt), built), 2 * np.arange(256))


@pytest.mark.parametrize("lists", [True, False])
def test_commands_in_order(lists: bool) -> None:
    """More than a list takes, with lists and on an XRT that has none."""
    xrt, (built,) = emulated()
    if not lists:
        del xrt.runlist
    assert np.array_equal(doubled(Npu(xrt), built, 26), np.arange(256, dtype=np.int32) << 26)


def test_a_buffer_that_is_not_synchronised() -> None:
    """Keeps what lay there: the two sides are really two."""
    xrt, (built,) = emulated()
    npu = Npu(xrt)
    x, y = npu.buffer(BLOCK.bytes), npu.buffer(BLOCK.bytes)
    x.here.view(np.int32)[:] = 7
    npu.run(built, [Command("double", (x, y))])
    y.to_host()
    assert (y.here.view(np.int32) != 14).any()


def test_more_packages_than_contexts() -> None:
    """They take turns."""
    xrt, packages = emulated(9)
    npu = Npu(xrt)
    for built in (*packages, *packages):
        assert np.array_equal(doubled(npu, built), 2 * np.arange(256))
    assert npu.recoveries == 0


@pytest.mark.parametrize("fault", ["TIMEOUT", "ABORT", "LOST_CONTEXT", "NO_CONTEXT"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_command_that_fails_once(fault: str, times: int, caplog: pytest.LogCaptureFixture) -> None:
    """Is done on a fresh context, and that is logged."""
    xrt, (built,) = emulated(**{fault: 1})
    npu = Npu(xrt)
    with caplog.at_level(logging.WARNING, "amanuensis.npu"):
        assert np.array_equal(doubled(npu, built, times), np.arange(256, dtype=np.int32) << times)
    assert npu.recoveries == 1
    assert "is tried once more" in caplog.text


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("TIMEOUT", "did not end within 2000 ms"),
        ("ABORT", "firmware is too old"),
        ("LOST_CONTEXT", "lost the context"),
        ("NO_CONTEXT", "other programs use the NPU"),
        ("NO_KERNEL", "names no kernel"),
    ],
)
def test_a_command_that_keeps_failing(fault: str, sentence: str) -> None:
    """The NPU is unavailable, with the reason."""
    xrt, (built,) = emulated(**{fault: None})
    with pytest.raises(NpuUnavailable, match=sentence):
        doubled(Npu(xrt), built)


@pytest.mark.parametrize(
    ("fault", "sentence"), [("TIMEOUT", "did not end within"), ("ABORT", "firmware is too old")]
)
def test_a_list_that_keeps_failing(fault: str, sentence: str) -> None:
    """Has the same words, of which XRT itself gives less."""
    xrt, (built,) = emulated(**{fault: None})
    with pytest.raises(NpuUnavailable, match=sentence):
        doubled(Npu(xrt), built, 3)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [("NO_DEVICE", "is the amdxdna driver loaded"), ("NOT_PERMITTED", "group render")],
)
def test_a_device_that_cannot_be_opened(fault: str, sentence: str) -> None:
    """Why, and what to do."""
    xrt, _ = emulated(**{fault: None})
    with pytest.raises(NpuUnavailable, match=sentence):
        Npu(xrt)


def test_another_device() -> None:
    """Is refused: kernels of one generation give silent zeros on another."""
    xrt, _ = emulated()
    strix = SimpleNamespace(get_info=lambda what: "NPU Strix")
    fake = SimpleNamespace(device=lambda index: strix, xrt_info_device=xrt.xrt_info_device)
    with pytest.raises(NpuUnavailable, match="NPU Strix"):
        Npu(fake)


def test_no_memory() -> None:
    """What to raise."""
    xrt, _ = emulated(NO_MEMORY=None)
    with pytest.raises(NpuUnavailable, match="memlock"):
        Npu(xrt).buffer(64)


def test_no_module() -> None:
    """Here XRT is not installed."""
    with pytest.raises(NpuUnavailable, match=r"docs/npu\.md"):
        Npu.open()


def test_a_missing_package() -> None:
    """Is to be built."""
    xrt, _ = emulated()
    built = Built("other", "other.xclbin", KERNEL, {})
    with pytest.raises(NpuUnavailable, match="amanuensis npu build"):
        Npu(xrt).run(built, [Command("double", ())])


def test_too_many_buffers() -> None:
    """Are refused before XRT crashes on them."""
    xrt, (built,) = emulated()
    npu = Npu(xrt)
    buffers = tuple(npu.buffer(BLOCK.bytes) for _ in range(3))
    with pytest.raises(NpuUnavailable, match="3 buffers of 2"):
        npu.run(built, [Command("double", buffers)])
