"""The `npu` commands as a person meets them. The tools that build are stand-ins (`tests/fixtures/stand_in_tools.py`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SMALL = ROOT / "tests/fixtures/whisper-small-talk"

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="g++ is not installed; to run this: sudo apt install g++"
)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the kernels are compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cache(kernels: Path) -> Path:
    """The same, without packages and records."""
    shutil.rmtree(kernels / "amanuensis/npu", ignore_errors=True)
    return kernels


@pytest.fixture
def tools(stand_in_tools: Path) -> dict[str, str]:
    """Variables that lead to tools."""
    return {
        "PEANO_INSTALL_DIR": str(stand_in_tools / "llvm-aie"),
        "MLIR_AIE_INSTALL_DIR": str(stand_in_tools / "mlir_aie"),
        "AIE_XCLBINUTIL": str(stand_in_tools / "path/xclbinutil"),
    }


def npu(cache: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command."""
    own = {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(
        [sys.executable, "-m", "daemon", "npu", *words],
        env={**os.environ, **own, **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def packages(cache: Path) -> list[str]:
    """Names of what lies where packages and records do."""
    return sorted(path.name.rsplit("-", 1)[0] for path in (cache / "amanuensis/npu").glob("*"))


def test_help(cache: Path) -> None:
    """Says what there is, what three words mean, and where to begin."""
    said = npu(cache, "--help").stdout
    for word in ("build", "bringup", "emulated", "predicted", "measured", "Examples", "--emulated"):
        assert word in said, said


def test_an_emulated_walk(cache: Path) -> None:
    """Passes, says on every line what it is, and records nothing."""
    result = npu(cache, "bringup", "--emulated")
    assert result.returncode == 0, result
    lines = result.stdout.splitlines()
    assert all(line.startswith("EMULATED ") for line in lines)
    assert sum("passed" in line for line in lines) == 8  # seven steps, and the last sentence
    assert "says nothing of hardware" in lines[-1]
    assert packages(cache) == []


def test_a_machine_without_xrt(cache: Path) -> None:
    """Fails at the first step, with what to try."""
    result = npu(cache, "bringup")
    assert result.returncode == 1
    assert "EMULATED" not in result.stdout
    assert "failed" in result.stdout and "not installed for this Python" in result.stdout
    assert "try" in result.stdout and "setup.sh" in result.stdout
    assert "context" not in result.stdout
    assert packages(cache) == []


def test_a_machine_without_tools(cache: Path) -> None:
    """Is told all that is missing, and how to get it, before anything is done."""
    nowhere = dict.fromkeys(("PEANO_INSTALL_DIR", "MLIR_AIE_INSTALL_DIR", "AIE_XCLBINUTIL"), "/nowhere")
    result = npu(cache, "build", **nowhere)
    assert result.returncode == 1
    assert result.stderr.startswith("amanuensis: ")
    for tool in ("Peano's clang++", "aiecc", "aie_api", "xclbinutil", "pip install", "docs/npu.md"):
        assert tool in result.stderr, result.stderr
    assert packages(cache) == []


def test_a_build(cache: Path, tools: dict[str, str]) -> None:
    """Makes what bringing up needs, step by step; the second time there is nothing to do."""
    result = npu(cache, "build", **tools)
    assert result.returncode == 0, result
    assert packages(cache) == ["gemm_i8", "overlay_bf16", "passthrough", "single_core"]
    assert "passthrough: 1 of 3, lowering the design" in result.stderr
    assert "single_core: 1 of 4, compiling gemm_i8.cc for the cores" in result.stderr
    assert result.stdout.count("is built: ") == 4
    again = npu(cache, "build", **tools)
    assert again.stdout.count("nothing has changed") == 4
    assert "lowering" not in again.stderr


def test_a_tool_that_fails(cache: Path, tools: dict[str, str]) -> None:
    """Is quoted, and what was built before it stays."""
    result = npu(cache, "build", STAND_IN_FAILS="clang++", **tools)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("amanuensis: clang++ failed on single_core")
    assert "no member named 'mmul'" in result.stderr
    assert packages(cache) == ["passthrough"]


def test_a_model_of_ones_own(cache: Path, tools: dict[str, str]) -> None:
    """Has its encoder built, and what bringing it up needs, which is the next thing to do."""
    result = npu(cache, "build", str(SMALL), **tools)
    assert result.returncode == 0, result
    assert packages(cache) == ["gemm_i8", "overlay_bf16", "passthrough", "single_core"]
    assert result.stdout.splitlines()[-1] == f"Now try it: amanuensis npu bringup {SMALL}"
    refused = npu(cache, "build", "parakeet", **tools)
    assert refused.returncode == 1 and "No model is called 'parakeet'" in refused.stderr


def test_the_chosen_mode(cache: Path, tools: dict[str, str], tmp_path: Path) -> None:
    """Is what is built of a model: here its decoder too. Of 8 bits it is told where they come from."""
    config = tmp_path / "amanuensis" / "config.toml"
    config.parent.mkdir()
    config.write_text("[model]\nnpu_decoder = 'npu'\n")
    chosen = {**tools, "XDG_CONFIG_HOME": str(tmp_path)}
    result = npu(cache, "build", str(SMALL), **chosen)
    assert result.returncode == 0, result
    (manifest,) = (cache / "amanuensis/npu").glob("overlay_bf16-*/manifest.json")
    sequences = json.loads(manifest.read_text())["instructions"]
    assert {"canary", "layers_0", "crossing_1", "pass_0_8"} <= set(sequences)
    tried = npu(cache, "bringup", "--emulated", str(SMALL), **chosen)
    assert tried.returncode == 0, tried
    assert f"EMULATED  decoder       decodes what {SMALL} hears in 2 s of speech" in tried.stdout
    config.write_text(f"[model]\nname = '{SMALL}'\nnpu_precision = 'int8'\n")
    refused = npu(cache, "build", **chosen)
    assert refused.returncode == 1 and f"amanuensis models quantize {SMALL}" in refused.stderr
