"""Records of bring-ups that passed on hardware, one for each model and mode. They alone turn *measured* on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from npu.acceleration import DecoderPlace, Evidence, NpuPrecision
from npu.embedded import write_atomically
from npu.xdna.packages import folder_of_packages, is_current, key_of
from npu.xdna.runtime import Built

_FILE = "bringup.json"
_SYSTEM = Path("/sys")


@dataclass(frozen=True)
class Record:
    """What passed, on what, when."""

    date: str  # ISO 8601, UTC
    model: str
    decoder: DecoderPlace  # where it was to run
    precision: NpuPrecision  # that was chosen
    device: str  # as XRT calls it
    firmware: str | None  # where the driver says
    driver: str | None
    packages: dict[str, str]  # their keys, by design
    seconds: dict[str, float]  # by step
    recoveries: int  # contexts that were made anew on the way

    @property
    def mode(self) -> str:
        """For people."""
        place = "decoder" if self.decoder == "npu" else "encoder"
        return f"{place} in {self.precision}"

    @property
    def of(self) -> tuple[str, ...]:
        """What there is one record of."""
        return self.device, self.model, self.decoder, self.precision


def keep(record: Record, cache_dir: Path | None = None) -> Path:
    """Writes it beside those that hold, in place of an earlier one of the same model and mode."""
    path = folder_of_packages(cache_dir) / _FILE
    others = [each for each in measured(cache_dir) if each.of != record.of]
    write_atomically(path, json.dumps([asdict(each) for each in (*others, record)], indent=1).encode())
    return path


def measured(cache_dir: Path | None = None) -> tuple[Record, ...]:
    """The records that hold, the latest last: every package they speak of is still there as it was, and made from the
    kernels of today.
    """
    try:
        found = json.loads((folder_of_packages(cache_dir) / _FILE).read_text("utf-8"))
        records = [Record(**each) for each in found]
    except (OSError, ValueError, TypeError):
        return ()
    return tuple(
        each
        for each in records
        if each.packages and all(is_current(key, cache_dir) for key in each.packages.values())
    )


def evidence_of(device: str, built: Built, cache_dir: Path | None = None) -> Evidence:
    """What stands behind a package on a device: measured is what was brought up there, and has not changed since."""
    if f"({Evidence.EMULATED})" in device:
        return Evidence.EMULATED
    proven = {key for each in measured(cache_dir) if each.device == device for key in each.packages.values()}
    return Evidence.MEASURED if key_of(built) in proven else Evidence.NONE


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
