"""What the failures of driver, XRT and hardware mean, and what to do about each."""

from __future__ import annotations

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
    ("EXEC_CMD", "the driver lost the context of a command"),
)  # fmt: skip


class NpuUnavailable(ModelError):
    """The NPU cannot be used, or has failed twice; the message says why, and the CPU does its work."""


def explained(error: BaseException) -> NpuUnavailable:
    """An error of pyxrt with what it means."""
    said = str(error).strip() or type(error).__name__
    for symptom, remedy in _REMEDIES:
        if symptom in said:
            return NpuUnavailable(f"{remedy} ({said})")
    return NpuUnavailable(f"XRT failed: {said}")
