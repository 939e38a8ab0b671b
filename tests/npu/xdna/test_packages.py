"""Packages in the cache: the one that belongs to a design, and those that do not any more."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npu.xdna import packages
from npu.xdna.failures import NpuUnavailable
from npu.xdna.packages import WRITERS, Source, built, is_current, key_of
from npu.xdna.passthrough import passthrough
from npu.xdna.single_core import single_core

STACKS = {"zero_i32": 64, "gemm_i8": 128}


def test_what_the_runtime_finds(machine: Any) -> None:
    """Is what was built; before that, what to do."""
    with pytest.raises(NpuUnavailable, match="passthrough is not built for the NPU: amanuensis npu build"):
        built(passthrough(), machine.cache)
    made = machine.build(passthrough()).built
    found = built(passthrough(), machine.cache)
    assert found.package == made.package
    assert np.array_equal(found.instructions["passthrough"], made.instructions["passthrough"])
    assert is_current(key_of(found), machine.cache)


def test_a_design_that_has_changed(machine: Any) -> None:
    """Has no package until it is built again, and neither has one of that name for something else."""
    machine.build(passthrough())
    sentence = (
        "passthrough is built for the NPU, but for another model or mode, or before an update: amanuensis"
    )
    with pytest.raises(NpuUnavailable, match=sentence):
        built(replace(passthrough(), links=passthrough().links[::-1]), machine.cache)


def test_kernels_that_have_changed(machine: Any, sources: Path) -> None:
    """Make their packages stale, also for whoever knows only their keys; others stay."""
    with_core = machine.build(single_core(STACKS)).built
    without = machine.build(passthrough()).built
    (sources / "gemm_i8.cc").write_text("// changed\n")
    with pytest.raises(NpuUnavailable, match="was built before an update: amanuensis npu build"):
        built(single_core(STACKS), machine.cache)
    assert not is_current(key_of(with_core), machine.cache)
    assert is_current(key_of(without), machine.cache)


def test_a_damaged_package(machine: Any) -> None:
    """Is not loaded, and a build repairs it."""
    found = machine.build(passthrough()).built
    Path(found.package).write_text("half")
    assert not is_current(key_of(found), machine.cache)
    with pytest.raises(NpuUnavailable, match="is damaged: amanuensis npu build"):
        built(passthrough(), machine.cache)
    assert machine.build(passthrough()).made
    assert built(passthrough(), machine.cache).package == found.package
    assert machine.left() == [key_of(found)]


def test_a_manifest_of_another_release(machine: Any) -> None:
    """Counts as none."""
    found = machine.build(passthrough()).built
    manifest = Path(found.package).with_name("manifest.json")
    manifest.write_text(manifest.read_text().replace('"layout": 1', '"layout": 0'))
    with pytest.raises(NpuUnavailable, match="is not built"):
        built(passthrough(), machine.cache)


def test_the_stack_that_kernels_need() -> None:
    """Is measured anew on every machine, and makes no other package."""
    assert Source.of(single_core(STACKS)) == Source.of(single_core(dict.fromkeys(STACKS, 99)))


def test_another_way_to_write_mlir(machine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Makes packages stale."""
    found = machine.build(passthrough()).built
    monkeypatch.setattr(packages, "_HERE", tmp_path)
    assert not is_current(key_of(found), machine.cache)
    with pytest.raises(NpuUnavailable, match="was built before an update: amanuensis npu build"):
        built(passthrough(), machine.cache)


def test_what_writes_mlir() -> None:
    """Is all that `mlir` imports from here, but what belongs to designs themselves."""
    folder, found, ahead = Path(packages.__file__).parent, set(), {"mlir"}
    while ahead:
        name = ahead.pop()
        found.add(f"{name}.py")
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("npu.xdna."):
                ahead.add(node.module.removeprefix("npu.xdna."))
        ahead -= {each.removesuffix(".py") for each in found} | {"design", "programs", "target"}
    assert found == set(WRITERS)
