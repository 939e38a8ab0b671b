"""Whether this machine has an NPU at all: what can be seen without XRT."""

from __future__ import annotations

from pathlib import Path


def without_npu(root: Path = Path("/")) -> str:
    """Why there is none that could be used, in a few words; empty where there is one. root: where `dev` and `sys` are."""
    if not (root / "dev/accel/accel0").exists():
        return "there is no /dev/accel/accel0"
    driver = (root / "sys/class/accel/accel0/device/driver").resolve().name
    return "" if driver in ("driver", "amdxdna") else f"/dev/accel/accel0 belongs to {driver}"
