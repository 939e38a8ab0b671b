"""Shared by the tests of the NPU: its kernels, compiled for this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from npu.xdna.host_kernels import HostKernels


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
