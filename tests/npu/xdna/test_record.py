"""The record of a bring-up: what turns *measured* on, and what turns it off again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from npu.acceleration import Evidence, Mode
from npu.backends.designs import packages_of
from npu.xdna.bringup import Bench, attempt, designs_of, record_of, steps_of
from npu.xdna.design import Design
from npu.xdna.emulator import Emulator, Package, instructions
from npu.xdna.host_kernels import HostKernels
from npu.xdna.packages import built, folder_of_packages, key_of
from npu.xdna.record import Record, evidence_of, keep, measured, versions
from npu.xdna.runtime import Built, Npu
from npu.xdna.single_core import single_core
from npu.xdna.speech_steps import Candidate

DESIGN = single_core({"zero_i32": 64, "gemm_i8": 128})
Recorded = tuple[Record, Path]


@pytest.fixture(scope="module")
def kernels(portable: HostKernels) -> HostKernels:
    """Of one path."""
    return portable


@pytest.fixture
def recorded(machine: Any) -> Recorded:
    """A record over a package that was built, and its cache."""
    key = key_of(machine.build(DESIGN).built)
    date, packages = "2026-01-02T03:04:05+00:00", {DESIGN.name: key}
    model = ("moonshine-tiny", "cpu", "bf16")
    record = Record(date, *model, "RyzenAI-npu1", "1.5.5.391", None, packages, {"device": 0.1}, 0)
    keep(record, machine.cache)
    return record, machine.cache


def test_nothing_recorded(tmp_path: Path) -> None:
    """Nothing is measured."""
    assert not measured(tmp_path)


def test_a_record(recorded: Recorded) -> None:
    """Is read as it was kept, and takes the place of an earlier one of the same model and mode alone."""
    record, cache = recorded
    assert measured(cache) == (record,)
    other, again = replace(record, precision="int8"), replace(record, date="2026-02-03T04:05:06+00:00")
    keep(other, cache)
    assert measured(cache) == (record, other)
    keep(again, cache)
    assert measured(cache) == (other, again)


def _package_changes(cache: Path, key: str) -> None:
    next((folder_of_packages(cache) / key).glob("*.xclbin")).write_text("another")


def _package_goes(cache: Path, key: str) -> None:
    shutil.rmtree(folder_of_packages(cache) / key)


def _record_is_cut_off(cache: Path, key: str) -> None:
    path = folder_of_packages(cache) / "bringup.json"
    path.write_text(path.read_text()[:40])


def _record_speaks_of_none(cache: Path, key: str) -> None:
    path = folder_of_packages(cache) / "bringup.json"
    path.write_text(path.read_text().replace(f'"{DESIGN.name}": "{key}"', ""))


@pytest.mark.parametrize(
    "happens", [_package_changes, _package_goes, _record_is_cut_off, _record_speaks_of_none]
)
def test_what_voids_it(happens: Callable[[Path, str], None], recorded: Recorded) -> None:
    """Nothing is measured any more."""
    record, cache = recorded
    happens(cache, record.packages[DESIGN.name])
    assert not measured(cache)


def test_kernels_of_another_release(recorded: Recorded, sources: Path) -> None:
    """Void it: what was measured is not what would run."""
    _, cache = recorded
    assert measured(cache)
    (sources / "gemm_i8.cc").write_text("// changed\n")
    assert not measured(cache)


def test_evidence(recorded: Recorded) -> None:
    """Is measured for the package that was brought up, on that device; for no other, and for none that is emulated."""
    record, cache = recorded
    package = built(DESIGN, cache)
    assert evidence_of(record.device, package, cache) is Evidence.MEASURED
    assert evidence_of("NPU Phoenix", package, cache) is Evidence.NONE
    assert evidence_of(record.device, replace(package, package="other/it.xclbin"), cache) is Evidence.NONE
    assert evidence_of(f"{record.device} (emulated)", package, cache) is Evidence.EMULATED
    _package_goes(cache, record.packages[DESIGN.name])
    assert evidence_of(record.device, package, cache) is Evidence.NONE


def test_versions(tmp_path: Path) -> None:
    """Are what the driver says, and unknown where it says nothing."""
    device = tmp_path / "bus/pci/devices/0000:c5:00.1"
    device.mkdir(parents=True)
    (device / "fw_version").write_text("1.5.5.391\n")
    assert versions("0000:c5:00.1", tmp_path) == ("1.5.5.391", None)
    module = tmp_path / "module/amdxdna"
    module.mkdir(parents=True)
    (module / "version").write_text("2.20.0\n")
    assert versions("0000:00:00.0", tmp_path) == (None, "2.20.0")


def test_a_walk_that_passes(
    machine: Any, kernels: HostKernels, small_candidate: Callable[[Mode], Candidate]
) -> None:
    """Over packages that were built turns measured on for both that run in 8 bits. What stands in for hardware here is
    the emulator.
    """
    candidate = small_candidate(Mode(precision="int8"))
    steps = steps_of(kernels.stacks, candidate)
    made = {each.name: machine.build(each).built for each in designs_of(steps)}
    xrt = Emulator({made[each.name].package: Package(each, lambda: kernels) for each in designs_of(steps)})

    def package(design: Design) -> Built:
        streams = {each.name: instructions(design, each.name) for each in design.sequences}
        return replace(built(design, machine.cache), instructions=streams)

    bench = Bench(lambda: Npu(xrt), package)
    outcomes = [attempt(step, bench) for step in steps]
    assert not any(outcome.failure for outcome in outcomes)
    keep(record_of(bench, candidate, outcomes), machine.cache)
    (record,) = measured(machine.cache)
    assert record.packages == {name: key_of(each) for name, each in made.items()}
    assert list(record.seconds) == [
        "device",
        "context",
        "pass-through",
        "one kernel",
        "canary",
        "overlay",
        "8-bit overlay",
        "pipeline",
    ]
    assert (record.device, record.firmware, record.recoveries) == ("RyzenAI-npu1 (emulated)", None, 0)
    assert (record.decoder, record.precision, record.mode) == ("cpu", "int8", "encoder in int8")
    keep(replace(record, device="RyzenAI-npu1"), machine.cache)
    for composed in packages_of(candidate.parts):
        package = built(composed.design(kernels.stacks), machine.cache)
        assert evidence_of("RyzenAI-npu1", package, machine.cache) is Evidence.MEASURED
    assert datetime.now(UTC) - datetime.fromisoformat(record.date) < timedelta(minutes=1)
