"""Shared by the tests of the NPU: its kernels, compiled for this machine, and a machine that builds packages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from npu.xdna import build as building
from npu.xdna import packages
from npu.xdna.build import Delivered, Watch, build
from npu.xdna.design import Design
from npu.xdna.host_kernels import HostKernels
from npu.xdna.packages import folder_of_packages
from npu.xdna.toolchain import Toolchain


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels are built, once for all tests."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session", params=["portable", "vector"])
def kernels(request: pytest.FixtureRequest, kernel_cache: Path) -> HostKernels:
    """All of them, on each path."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed; to run this: sudo apt install g++")
    return HostKernels(vector=request.param == "vector", cache_dir=kernel_cache)


def sketch(design: Design) -> str:
    """As much of a design's MLIR as the tools that stand in look at."""
    cores = "".join(f"aie.core({worker.tile})\n" for worker in design.workers)
    return cores + "".join(f"aie.runtime_sequence @{each.name}(\n" for each in design.sequences)


@dataclass(frozen=True)
class Machine:
    """One with tools that stand in for the real ones, and a cache."""

    tools: Toolchain
    log: Path
    cache: Path

    def build(
        self, design: Design, text: Callable[[Design], str] = sketch, watch: Watch | None = None
    ) -> Delivered:
        """Its package."""
        return build(design, self.tools, text, self.cache, watch)

    def calls(self) -> list[list[str]]:
        """What was called since the last time this was asked."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def left(self) -> list[str]:
        """What lies where packages do."""
        return sorted(path.name for path in folder_of_packages(self.cache).glob("*"))


@pytest.fixture
def machine(stand_in_tools: Path, tmp_path: Path) -> Machine:
    """With nothing built yet."""
    tools = Toolchain.find({"PATH": str(stand_in_tools / "path")}, stand_in_tools)
    return Machine(tools, stand_in_tools / "calls", tmp_path / "cache")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernels' files, to be changed."""
    copied = tmp_path / "kernels"
    shutil.copytree(packages.FOLDER, copied)
    for module in (building, packages):
        monkeypatch.setattr(module, "FOLDER", copied)
    return copied
