"""Where the tools that build are found, and what is said of those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu.xdna.toolchain import Toolchain
from streaming.errors import ModelError

TOOLS = ("Peano's clang++", "aiecc", "aie_api", "bootgen", "xclbinutil", "g++")
FILES = (
    "llvm-aie/bin/clang++",
    "mlir_aie/bin/aiecc",
    "mlir_aie/bin/bootgen",
    "mlir_aie/include/aie_api/aie.hpp",
    "path/xclbinutil",
    "path/g++",
)


def installed(root: Path, files: tuple[str, ...] = FILES) -> Path:
    """A machine that has these, which do nothing."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return root


def complaint(environment: dict[str, str], packages: Path) -> str:
    """What is said where something is missing."""
    with pytest.raises(ModelError) as caught:
        Toolchain.find(environment, packages)
    return str(caught.value)


def test_packages_of_this_environment(tmp_path: Path) -> None:
    """Are found without any variable."""
    root = installed(tmp_path)
    found = Toolchain.find({"PATH": str(root / "path")}, root)
    assert found.peano == root / "llvm-aie"
    assert found.compiler == root / "llvm-aie/bin/clang++"
    assert found.headers == root / "mlir_aie/include"
    assert (found.aiecc, found.bootgen) == (root / "mlir_aie/bin/aiecc", root / "mlir_aie/bin/bootgen")
    assert found.xclbinutil == root / "path/xclbinutil"


def test_variables(tmp_path: Path) -> None:
    """Decide against what else is there."""
    installed(tmp_path / "packages")
    chosen = installed(tmp_path / "chosen", (*FILES, "xrt/packer"))
    environment = {
        "PEANO_INSTALL_DIR": str(chosen / "llvm-aie"),
        "MLIR_AIE_INSTALL_DIR": str(chosen / "mlir_aie"),
        "AIE_XCLBINUTIL": str(chosen / "xrt/packer"),
        "PATH": str(tmp_path / "packages/path"),
    }
    found = Toolchain.find(environment, tmp_path / "packages")
    assert found.peano == chosen / "llvm-aie"
    assert found.aiecc == chosen / "mlir_aie/bin/aiecc"
    assert found.headers == chosen / "mlir_aie/include"
    assert found.xclbinutil == chosen / "xrt/packer"


def test_what_lies_beside_aiecc(tmp_path: Path) -> None:
    """Is taken with it, wherever PATH or a variable led."""
    root = installed(tmp_path)
    search = f"{root / 'path'}:{root / 'mlir_aie/bin'}"
    environments = ({"PATH": search}, {"PATH": str(root / "path"), "AIECC_PATH": str(root / FILES[1])})
    for environment in environments:
        found = Toolchain.find(
            environment | {"PEANO_INSTALL_DIR": str(root / "llvm-aie")}, tmp_path / "nowhere"
        )
        assert found.headers == root / "mlir_aie/include"
        assert found.bootgen == root / "mlir_aie/bin/bootgen"


def test_xrt_that_was_sourced(tmp_path: Path) -> None:
    """Has xclbinutil, also where PATH does not lead to it."""
    root = installed(tmp_path, (*FILES[:4], "xrt/bin/xclbinutil", "path/g++"))
    found = Toolchain.find({"PATH": str(root / "path"), "XILINX_XRT": str(root / "xrt")}, root)
    assert found.xclbinutil == root / "xrt/bin/xclbinutil"


def test_nothing(tmp_path: Path) -> None:
    """Every tool is named in one message, with its use, where it was looked for, and how to get it."""
    said = complaint({"PATH": str(tmp_path)}, tmp_path / "packages")
    assert said.startswith("6 tools are missing")
    assert all(tool in said for tool in TOOLS)
    assert "PEANO_INSTALL_DIR not set" in said
    assert str(tmp_path / "packages/llvm-aie/bin/clang++") in said
    assert "AIECC_PATH and MLIR_AIE_INSTALL_DIR not set" in said
    assert said.count("pip install mlir_aie") == 1  # brings three of them
    assert "pip install llvm-aie" in said
    assert "setup.sh" in said
    assert "docs/npu.md" in said


@pytest.mark.parametrize("at", range(len(FILES)))
def test_one_that_is_missing(at: int, tmp_path: Path) -> None:
    """Is the only one named, unless others lie beside it."""
    root = installed(tmp_path, FILES[:at] + FILES[at + 1 :])
    said = complaint({"PATH": str(root / "path")}, root)
    assert said.startswith("A tool is missing")
    assert sum(f"\n  {tool}" in said.split("To get")[0] for tool in TOOLS) == 1


def test_a_variable_that_leads_nowhere(tmp_path: Path) -> None:
    """Is said, and no other installation is taken in silence."""
    root = installed(tmp_path)
    said = complaint({"PATH": str(root / "path"), "PEANO_INSTALL_DIR": "/opt/gone"}, root)
    assert "PEANO_INSTALL_DIR leads to /opt/gone/bin/clang++, which is not there" in said


def test_versions(tmp_path: Path) -> None:
    """Differ where a program does."""
    root = installed(tmp_path)
    found = Toolchain.find({"PATH": str(root / "path")}, root)
    before = found.versions()
    (root / "mlir_aie/bin/aiecc").write_text("#!/bin/sh\n# newer\n")
    after = found.versions()
    assert {name for name in before if before[name] != after[name]} == {"aiecc"}
