"""Building packages with tools that stand in for the real ones (`tests/fixtures/stand_in_tools.py`): the order of the commands, what a
failing tool says, what an interrupted build leaves, and what the runtime reads back.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from npu.xdna import build as building
from npu.xdna.build import build, built, folder_of_packages, is_current, key_of
from npu.xdna.design import Block, Design, Element, Sequence
from npu.xdna.failures import NpuUnavailable
from npu.xdna.passthrough import passthrough
from npu.xdna.single_core import single_core
from npu.xdna.toolchain import Toolchain
from streaming.errors import ModelError

STACKS = {"zero_i32": 64, "gemm_i8": 128}


def text(design: Design) -> str:
    """As much of a design as the tools that stand in look at."""
    cores = "".join(f"aie.core({worker.tile})\n" for worker in design.workers)
    return cores + "".join(f"aie.runtime_sequence @{each.name}(\n" for each in design.sequences)


@dataclass(frozen=True)
class Machine:
    """One with tools that stand in, and a cache."""

    tools: Toolchain
    log: Path
    cache: Path

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


def test_the_order_of_commands(machine: Machine) -> None:
    """Each kernel's file once, the design, the image, the package, and a look at what it declares."""
    build(single_core(STACKS), machine.tools, text, machine.cache)
    compiling, lowering, joining, packing, reading = machine.calls()
    assert [each[0] for each in (compiling, lowering, joining)] == ["clang++", "aiecc", "bootgen"]
    assert "--target=aie2-none-unknown-elf" in compiling
    assert "-D__AIE__" in compiling  # otherwise the cores would run the portable path, and slowly
    assert f"-I{machine.tools.headers}" in compiling
    assert compiling[-3].endswith("npu/kernels/gemm_i8.cc") and compiling[-1].endswith("/gemm_i8.o")
    assert not any("kernels/host" in argument for argument in compiling)  # the real headers, not the shim
    assert {"--get-cdo", "--get-npu-insts", f"--peano={machine.tools.peano}"} < set(lowering)
    assert lowering[-1].endswith("design.mlir")
    assert joining[1:3] == ["-arch", "versal"]
    assert [argument.split(":")[0] for argument in packing[2::2]][:1] == ["MEM_TOPOLOGY"]
    assert "--add-kernel" in packing and any(each.startswith("AIE_PARTITION:JSON:") for each in packing)
    assert reading[1] == "--dump-section" and reading[2].startswith("EMBEDDED_METADATA:RAW:")


def test_the_result(machine: Machine) -> None:
    """Is what the runtime wants: a package, the kernel's name, and the instructions of each sequence."""
    made = build(passthrough(), machine.tools, text, machine.cache)
    assert made.made
    found = made.built
    assert (found.name, found.kernel) == ("passthrough", "MLIR_AIE")
    assert np.array_equal(found.instructions["passthrough"], [1, 2, 0])
    sections = json.loads(Path(found.package).read_text())
    assert sections["image"] == "init;"  # without cores there is nothing else to configure
    assert {"MEM_TOPOLOGY", "AIE_PARTITION", "kernels"} < set(sections)
    assert machine.left() == [key_of(found)]


def test_a_design_with_cores(machine: Machine) -> None:
    """Has their code first, then the configuration, then what starts them."""
    found = build(single_core(STACKS), machine.tools, text, machine.cache).built
    assert json.loads(Path(found.package).read_text())["image"] == "elfs;init;enable;"


def test_the_buffers(machine: Machine) -> None:
    """Are as many as the longest sequence has."""
    arguments = {f"x{i}": Block(Element.I32, (4,)) for i in range(7)}
    longer = replace(passthrough(), sequences=(*passthrough().sequences, Sequence("longer", arguments, ())))
    found = build(longer, machine.tools, text, machine.cache).built
    (kernel,) = json.loads(Path(found.package).read_text())["kernels"]["ps-kernels"]["kernels"]
    assert kernel["arguments"][-1]["name"] == "bo6"
    assert np.array_equal(found.instructions["longer"], [1, 2, 1])


def test_what_is_told(machine: Machine) -> None:
    """One line for each step, counted."""
    told: list[tuple[int, int, str]] = []
    build(single_core(STACKS), machine.tools, text, machine.cache, lambda *step: told.append(step))
    assert [done for done, _, _ in told] == [0, 1, 2, 3]
    assert {of for _, of, _ in told} == {4}
    assert told[0][2] == "compiling gemm_i8.cc for the cores"


def test_a_package_that_is_there(machine: Machine) -> None:
    """Is not made again."""
    first = build(passthrough(), machine.tools, text, machine.cache)
    machine.calls()
    again = build(passthrough(), machine.tools, text, machine.cache)
    assert not again.made
    assert again.built.package == first.built.package
    assert machine.calls() == []


@pytest.mark.parametrize("what", ["text", "tool", "kernel"])
def test_something_it_is_made_of_that_changes(
    what: str, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Makes it anew, beside the old one."""
    kernels = tmp_path / "kernels"
    shutil.copytree(building.FOLDER, kernels)
    monkeypatch.setattr(building, "FOLDER", kernels)
    design = single_core(STACKS)
    first = build(design, machine.tools, text, machine.cache).built
    emits = text
    if what == "text":
        emits = lambda design: text(design) + "// another release"  # noqa: E731
    elif what == "tool":
        machine.tools.aiecc.write_text(machine.tools.aiecc.read_text() + "# newer\n")
    else:
        (kernels / "fixed.h").write_text("// changed\n")
    second = build(design, machine.tools, emits, machine.cache)
    assert second.made
    assert key_of(second.built) != key_of(first)
    assert len(machine.left()) == 2


@pytest.mark.parametrize("tool", ["clang++", "aiecc", "bootgen", "xclbinutil"])
def test_a_tool_that_fails(tool: str, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is named with its words, nothing after it runs, and nothing is left."""
    monkeypatch.setenv("STAND_IN_FAILS", tool)
    with pytest.raises(ModelError, match=rf"{tool.replace('+', '.')} failed .* no member named 'mmul'"):
        build(single_core(STACKS), machine.tools, text, machine.cache)
    assert machine.calls()[-1][0] == tool
    assert machine.left() == []


def test_a_tool_that_cannot_be_run(machine: Machine) -> None:
    """Is named."""
    machine.tools.bootgen.chmod(0o644)
    with pytest.raises(ModelError, match="bootgen cannot be run"):
        build(passthrough(), machine.tools, text, machine.cache)
    assert machine.left() == []


def test_no_instructions(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are a failure, where aiecc says it went well."""
    monkeypatch.setenv("STAND_IN_ODD", "passthrough")
    with pytest.raises(ModelError, match="0 bytes of instructions for passthrough"):
        build(passthrough(), machine.tools, text, machine.cache)
    with pytest.raises(ModelError, match="no instructions for passthrough"):
        build(passthrough(), machine.tools, lambda design: "", machine.cache)
    assert machine.left() == []


def test_an_interrupted_build(machine: Machine, stand_in_tools: Path) -> None:
    """Leaves nothing behind, and ends at once."""
    code = (
        "import sys; from pathlib import Path; from npu.xdna.toolchain import Toolchain\n"
        "from npu.xdna.build import build; from npu.xdna.passthrough import passthrough\n"
        "root, cache = map(Path, sys.argv[1:])\n"
        "tools = Toolchain.find({'PATH': str(root / 'path')}, root)\n"
        "build(passthrough(), tools, lambda design: '', cache)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(stand_in_tools), str(machine.cache)],
        env=os.environ | {"STAND_IN_WAITS": "aiecc"},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 20
    while not (machine.log.exists() and "aiecc" in machine.log.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    assert len(machine.left()) == 1
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does: all of the group hear it
    _, said = process.communicate(timeout=10)
    assert b"KeyboardInterrupt" in said
    assert machine.left() == []


def test_what_the_runtime_finds(machine: Machine) -> None:
    """Is what was built; before that, what to do."""
    with pytest.raises(NpuUnavailable, match="passthrough is not built for the NPU: amanuensis npu build"):
        built(passthrough(), text, machine.cache)
    made = build(passthrough(), machine.tools, text, machine.cache).built
    found = built(passthrough(), text, machine.cache)
    assert found.package == made.package
    assert np.array_equal(found.instructions["passthrough"], made.instructions["passthrough"])
    assert is_current(key_of(found), machine.cache)


def test_a_design_that_has_changed(machine: Machine) -> None:
    """Has no package until it is built again."""
    build(passthrough(), machine.tools, text, machine.cache)
    with pytest.raises(NpuUnavailable, match="from what it was before: amanuensis npu build"):
        built(passthrough(), lambda design: "another", machine.cache)


def test_kernels_that_have_changed(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make their packages stale, also for whoever knows only their keys; others stay."""
    kernels = tmp_path / "kernels"
    shutil.copytree(building.FOLDER, kernels)
    monkeypatch.setattr(building, "FOLDER", kernels)
    with_core = build(single_core(STACKS), machine.tools, text, machine.cache).built
    without = build(passthrough(), machine.tools, text, machine.cache).built
    (kernels / "gemm_i8.cc").write_text("// changed\n")
    with pytest.raises(NpuUnavailable, match="from what it was before"):
        built(single_core(STACKS), text, machine.cache)
    assert not is_current(key_of(with_core), machine.cache)
    assert is_current(key_of(without), machine.cache)


def test_a_damaged_package(machine: Machine) -> None:
    """Is not loaded, and a build repairs it."""
    found = build(passthrough(), machine.tools, text, machine.cache).built
    Path(found.package).write_text("half")
    assert not is_current(key_of(found), machine.cache)
    with pytest.raises(NpuUnavailable, match="is damaged: amanuensis npu build"):
        built(passthrough(), text, machine.cache)
    assert build(passthrough(), machine.tools, text, machine.cache).made
    assert built(passthrough(), text, machine.cache).package == found.package
    assert machine.left() == [key_of(found)]


def test_a_manifest_of_another_release(machine: Machine) -> None:
    """Counts as none."""
    found = build(passthrough(), machine.tools, text, machine.cache).built
    manifest = Path(found.package).with_name("manifest.json")
    manifest.write_text(manifest.read_text().replace('"layout": 1', '"layout": 0'))
    with pytest.raises(NpuUnavailable, match="is not built"):
        built(passthrough(), text, machine.cache)
