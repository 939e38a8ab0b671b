"""Building packages with tools that stand in for the real ones (`tests/fixtures/stand_in_tools.py`): the order of the
commands, what a failing tool says, what an interrupted build leaves.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npu.xdna.design import Block, Element, Sequence
from npu.xdna.packages import folder_of_packages, key_of
from npu.xdna.passthrough import passthrough
from npu.xdna.single_core import single_core
from streaming.errors import ModelError

STACKS = {"zero_i32": 64, "gemm_i8": 128}


def test_the_order_of_commands(machine: Any) -> None:
    """Each kernel's file once, the design, the image, the package, and a look at what it declares."""
    machine.build(single_core(STACKS))
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


def test_the_result(machine: Any) -> None:
    """Is what the runtime wants: a package, the kernel's name, and the instructions of each sequence."""
    made = machine.build(passthrough())
    assert made.made
    found = made.built
    assert (found.name, found.kernel) == ("passthrough", "MLIR_AIE")
    assert np.array_equal(found.instructions["passthrough"], [1, 2, 0])
    sections = json.loads(Path(found.package).read_text())
    assert sections["image"] == "init;"  # without cores there is nothing else to configure
    assert {"MEM_TOPOLOGY", "AIE_PARTITION", "kernels"} < set(sections)
    assert machine.left() == [key_of(found)]


def test_a_design_with_cores(machine: Any) -> None:
    """Has their code first, then the configuration, then what starts them."""
    found = machine.build(single_core(STACKS)).built
    assert json.loads(Path(found.package).read_text())["image"] == "elfs;init;enable;"


def test_the_buffers(machine: Any) -> None:
    """Are as many as the longest sequence has."""
    arguments = {f"x{i}": Block(Element.I32, (4,)) for i in range(7)}
    longer = replace(passthrough(), sequences=(*passthrough().sequences, Sequence("longer", arguments, ())))
    found = machine.build(longer).built
    (kernel,) = json.loads(Path(found.package).read_text())["kernels"]["ps-kernels"]["kernels"]
    assert kernel["arguments"][-1]["name"] == "bo6"
    assert np.array_equal(found.instructions["longer"], [1, 2, 1])


def test_what_is_told(machine: Any) -> None:
    """One line for each step, counted."""
    told: list[tuple[int, int, str]] = []
    machine.build(single_core(STACKS), watch=lambda *step: told.append(step))
    assert [done for done, _, _ in told] == [0, 1, 2, 3]
    assert {of for _, of, _ in told} == {4}
    assert told[0][2] == "compiling gemm_i8.cc for the cores"


def test_a_package_that_is_there(machine: Any) -> None:
    """Is not made again."""
    first = machine.build(passthrough())
    machine.calls()
    again = machine.build(passthrough())
    assert not again.made
    assert again.built.package == first.built.package
    assert machine.calls() == []


@pytest.mark.parametrize("what", ["text", "tool", "kernel"])
def test_something_it_is_made_of_that_changes(what: str, machine: Any, sources: Path) -> None:
    """Makes it anew, beside the old one."""
    design = single_core(STACKS)
    first = machine.build(design).built
    if what == "tool":
        machine.tools.aiecc.write_text(machine.tools.aiecc.read_text() + "# newer\n")
    elif what == "kernel":
        (sources / "fixed.h").write_text("// changed\n")
    said = f"aie.runtime_sequence @{design.name}(\n"
    second = machine.build(design, **({"text": lambda _: said} if what == "text" else {}))
    assert second.made
    assert key_of(second.built) != key_of(first)
    assert len(machine.left()) == 2


@pytest.mark.parametrize("tool", ["clang++", "aiecc", "bootgen", "xclbinutil"])
def test_a_tool_that_fails(tool: str, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is named with its words, nothing after it runs, and nothing is left."""
    monkeypatch.setenv("STAND_IN_FAILS", tool)
    with pytest.raises(ModelError, match=rf"{tool.replace('+', '.')} failed .* no member named 'mmul'"):
        machine.build(single_core(STACKS))
    assert machine.calls()[-1][0] == tool
    assert machine.left() == []


def test_a_tool_that_cannot_be_run(machine: Any) -> None:
    """Is named."""
    machine.tools.bootgen.chmod(0o644)
    with pytest.raises(ModelError, match="bootgen cannot be run"):
        machine.build(passthrough())
    assert machine.left() == []


def test_no_instructions(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are a failure, where aiecc says it went well."""
    monkeypatch.setenv("STAND_IN_ODD", "passthrough")
    with pytest.raises(ModelError, match="0 bytes of instructions for passthrough"):
        machine.build(passthrough())
    with pytest.raises(ModelError, match="no instructions for passthrough"):
        machine.build(passthrough(), lambda design: "")
    assert machine.left() == []


def test_an_interrupted_build(machine: Any, stand_in_tools: Path) -> None:
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


def test_what_a_killed_build_left(machine: Any) -> None:
    """Is removed a day later; a build that runs beside this one stays."""
    old, running = (folder_of_packages(machine.cache) / f"building-{name}" for name in ("old", "running"))
    for folder in (old, running):
        folder.mkdir(parents=True)
    yesterday = time.time() - 90_000
    os.utime(old, (yesterday, yesterday))
    machine.build(passthrough())
    assert not old.exists() and running.exists()
