"""What the failures of driver, XRT and hardware mean, and what to do about each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna.oracle import Bits, from_bf16
from streaming.errors import ModelError

_REMEDIES = (  # what XRT says, and what that means
    ("No module named 'pyxrt'", "XRT's Python module is not installed for this Python; see docs/npu.md"),
    ("No such device", "no NPU was found: is the amdxdna driver loaded (lsmod), and XRT's plug-in for it installed?"),
    ("/dev/accel/accel0 failed", "the NPU may not be opened: add this user to the group render, and log in again"),
    ("mmap", "memory could not be locked: raise memlock to unlimited in /etc/security/limits.conf"),
    ("Failed to open file", "the package of kernels is missing: amanuensis npu build"),
    ("Invalid xclbin", "the package of kernels is damaged: amanuensis npu build"),
    ("No valid DPU kernel", "the package names no kernel: its metadata is missing; amanuensis npu build"),
    ("No compute units matching", "the package holds another kernel: amanuensis npu build"),
    ("Failed to create context", "no hardware context is left: other programs use the NPU"),
    ("ERT_CMD_STATE_TIMEOUT", "a list of commands did not end within the driver's limit"),
    ("ERT_CMD_STATE_ABORT", "a list of commands was aborted: the NPU's firmware is too old for it"),
    ("EXEC_CMD", "the driver lost the context of a command"),
)  # fmt: skip


_RELOAD = "Reload the driver: sudo modprobe -r amdxdna && sudo modprobe amdxdna"
_LOG = "See what the driver says: sudo dmesg | grep -i amdxdna"
_REBUILD = "Build again: amanuensis npu build"
_TRIALS = (  # words of a failure, and what to try, the likeliest first
    ("not installed for this Python", (
        "In the shell that starts this: source /opt/xilinx/xrt/setup.sh",
        "pyxrt is made for one version of Python: use that one, or build XRT with this one",
    )),
    ("no NPU was found", (
        "Is the driver loaded? lsmod | grep amdxdna; if not: sudo modprobe amdxdna",
        "Does XRT see the device? xrt-smi examine; if it lists none, its plug-in (xrt_plugin, amdxdna) is missing",
        "Is the NPU enabled in the firmware of the machine? It may be called IPU there",
    )),
    ("may not be opened", ("sudo usermod -aG render $USER, then log out and in", "Look at: ls -l /dev/accel")),
    ("could not be locked", (
        "Add to /etc/security/limits.conf: * soft memlock unlimited, and: * hard memlock unlimited; log in again",
        "Under systemd: LimitMEMLOCK=infinity",
    )),
    ("other programs use the NPU", ("Who has it open? sudo fuser -v /dev/accel/accel0", _LOG, _RELOAD)),
    ("amanuensis models quantize", ("Quantise it with that command, then: amanuensis npu build MODEL",)),
    ("amanuensis npu build", (_REBUILD, "A model that is not the default one: amanuensis npu build MODEL")),
    ("did not end within", (
        "Somewhere the array waits for what never comes",
        _RELOAD,
        _LOG,
        "If earlier steps passed, suspect the design or the code of its cores; if this was the first, the firmware",
    )),
    ("firmware is too old", (
        "Install the firmware that belongs to the driver: its package, or a newer linux-firmware, then reboot",
        _LOG,
    )),
    ("lost the context", (_LOG, _RELOAD)),
    ("Phoenix and Hawk Point", ("There is nothing to try: this NPU needs other kernels",)),
    ("is zero", (
        "Was the package built for npu1? On another generation everything is zero",
        "Does a kernel need more stack than its core reserves? It overwrites the buffers in silence",
        _REBUILD,
    )),
    ("was never written", (
        "A transfer to the host went elsewhere, or nowhere: suspect the design's sequence and the package",
        _REBUILD,
    )),
    ("differs", (
        "If pass-through was right, suspect the code of the cores: compare the kernels' vector path with the compiler's",
        _REBUILD,
    )),
)  # fmt: skip


class NpuUnavailable(ModelError):
    """The NPU cannot be used, or has failed twice; the message says why, and the CPU does its work."""


class CanaryFailed(NpuUnavailable):
    """The NPU is there, and does not give the answers that are known."""


def explained(error: BaseException) -> NpuUnavailable:
    """An error of pyxrt with what it means."""
    said = str(error).strip() or type(error).__name__
    for symptom, remedy in _REMEDIES:
        if symptom in said:
            return NpuUnavailable(f"{remedy} ({said})")
    return NpuUnavailable(f"XRT failed: {said}")


def trials(error: NpuUnavailable) -> tuple[str, ...]:
    """What to try about a failure, the likeliest first."""
    said = str(error)
    return next((steps for words, steps in _TRIALS if words in said), (_LOG, _RELOAD))


UNWRITTEN = 0xA5  # what the bytes of an output are set to before a command


def must_equal(what: str, found: NDArray[Any], expected: NDArray[Any]) -> None:
    """NpuUnavailable where an output is not what it must be; nothing but zeros, and nothing at all, have names."""
    if np.array_equal(found, expected):
        return
    _must_be_something(what, found)
    wrong = np.flatnonzero(found.ravel() != expected.ravel())
    raise NpuUnavailable(
        f"{what} differs from NumPy's in {wrong.size} of {expected.size} values, the first at {wrong[0]}: "
        f"{found.ravel()[wrong[0]]}, not {expected.ravel()[wrong[0]]}"
    )


def must_agree(what: str, found: Bits, expected: Bits) -> None:
    """The same for values in bf16, each of which may be one step off."""
    steps = np.abs(_steps(found) - _steps(expected))
    if steps.max() <= 1:
        return
    _must_be_something(what, found)
    wrong = np.flatnonzero(steps > 1)
    given, wanted = (float(from_bf16(each.ravel()[wrong[:1]])[0]) for each in (found, expected))
    raise NpuUnavailable(
        f"the NPU computes wrongly: {what} differs in {wrong.size} of {expected.size} values, the first at "
        f"{wrong[0]}: {given:g}, not {wanted:g}"
    )


def _steps(values: Bits) -> NDArray[np.int32]:
    """bf16 as whole numbers of which neighbours differ by one; both zeros are one."""
    wide = values.ravel().astype(np.int32)
    return np.where(wide & 0x8000, -(wide & 0x7FFF), wide)


def _must_be_something(what: str, found: NDArray[Any]) -> None:
    if (np.ascontiguousarray(found).view(np.uint8) == UNWRITTEN).all():
        raise NpuUnavailable(
            f"{what} was never written: the command ended, and its output is as it was before"
        )
    if not found.any():
        raise NpuUnavailable(f"every value of {what} is zero: the array ran and wrote nothing that arrived")
