"""Kernels are compiled when they are first needed, kept, and refused with what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from npu.xdna import host_kernels
from npu.xdna.host_kernels import HostKernels
from streaming.errors import ModelError


def test_kept(kernel_cache: Path) -> None:
    """The second time nothing is built; another path, or other files, are other libraries."""
    first = HostKernels(["gemv_i8.cc"], cache_dir=kernel_cache)
    built = (first.folder / "kernels.so").stat().st_mtime_ns
    again = HostKernels(["gemv_i8.cc"], cache_dir=kernel_cache)
    assert (again.folder / "kernels.so").stat().st_mtime_ns == built
    assert HostKernels(["gemv_i8.cc"], vector=True, cache_dir=kernel_cache).folder != first.folder
    assert HostKernels(["rope_bf16.cc"], cache_dir=kernel_cache).folder != first.folder


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match=r"install g\+\+"):
        HostKernels(cache_dir=tmp_path)


def test_broken_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what the compiler says, and leaves nothing behind."""
    monkeypatch.setattr(host_kernels, "FOLDER", tmp_path)
    (tmp_path / "broken.cc").write_text('extern "C" void broken() { nonsense }')
    with pytest.raises(ModelError, match="nonsense"):
        HostKernels(["broken.cc"], cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache" / "kernels").iterdir())


def test_arrays_on_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are seen in what is measured."""
    monkeypatch.setattr(host_kernels, "FOLDER", tmp_path)
    code = 'extern "C" void deep(int *p) { volatile int x[1000]; for (int i = 0; i < 1000; ++i) x[i] = *p; *p = x[7]; }'
    (tmp_path / "deep.cc").write_text(code)
    assert HostKernels(["deep.cc"], cache_dir=tmp_path / "cache").stacks["deep"] > 4000


def test_memory_in_pieces(kernel_cache: Path) -> None:
    """Is refused: a kernel would read between them."""
    kernels = HostKernels(["gemv_i8.cc"], cache_dir=kernel_cache)
    with pytest.raises(ValueError, match="one piece"):
        kernels.call("gemv_i8", [np.zeros(128, np.uint8)[::2]])


def test_calls(kernels: HostKernels) -> None:
    """There are none, as there is no C library on a core: all that is undefined is what every library has."""
    library = str(kernels.folder / "kernels.so")
    undefined = subprocess.run(
        ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
    )
    names = [line.split()[-1] for line in undefined.stdout.splitlines()]
    assert not [name for name in names if not name.startswith("_")]
