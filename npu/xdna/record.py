"""The record of a bring-up that passed on hardware. It alone turns *measured* on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from npu.acceleration import Evidence
from npu.embedded import write_atomically
from npu.xdna.packages import folder_of_packages, is_current, key_of
from npu.xdna.runtime import Built

_FILE = "bringup.json"
_SYSTEM = Path("/sys")


@dataclass(frozen=True)
class Record:
    """What passed, on what, when."""

    date: str  # ISO 8601, UTC
    device: str  # as XRT calls it
    firmware: str | None  # where the driver says
    driver: str | None
    packages: dict[str, str]  # their keys, by design
    seconds: dict[str, float]  # by step
    recoveries: int  # contexts that were made anew on the way


def keep(record: Record, cache_dir: Path | None = None) -> Path:
    """Writes it, in place of an earlier one."""
    path = folder_of_packages(cache_dir) / _FILE
    write_atomically(path, json.dumps(asdict(record), indent=1).encode())
    return path


def measured(cache_dir: Path | None = None) -> Record | None:
    """The record, while every package it speaks of is still there as it was, and made from the kernels of today."""
    try:
        record = Record(**json.loads((folder_of_packages(cache_dir) / _FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    current = all(is_current(key, cache_dir) for key in record.packages.values())
    return record if current and record.packages else None


def evidence_of(device: str, built: Built, cache_dir: Path | None = None) -> Evidence:
    """What stands behind a package on a device: measured is what was brought up there, and has not changed since."""
    if f"({Evidence.EMULATED})" in device:
        return Evidence.EMULATED
    record = measured(cache_dir)
    proven = record is not None and record.device == device and key_of(built) in record.packages.values()
    return Evidence.MEASURED if proven else Evidence.NONE


def versions(address: str, system: Path = _SYSTEM) -> tuple[str | None, str | None]:
    """Of the firmware and the driver of the device at a PCI address, as the driver tells them (`amdxdna_sysfs.c`)."""
    return _line(system / "bus/pci/devices" / address / "fw_version"), _line(
        system / "module/amdxdna/version"
    )


def _line(path: Path) -> str | None:
    try:
        return path.read_text("utf-8").strip() or None
    except OSError:
        return None
