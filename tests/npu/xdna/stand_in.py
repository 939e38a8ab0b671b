"""Stands in for the tools that build packages: `stand_in.py TOOL ARGUMENT...` notes its arguments and leaves files where
the real one would. Nothing of it comes from the real tools, and the product knows nothing of it.

STAND_IN_LOG: file that calls are noted in. STAND_IN_FAILS: the tool that complains and fails. STAND_IN_WAITS: the one
that never ends.
"""

import json
import os
import re
import sys
import time
from pathlib import Path


def main(tool: str, arguments: list[str]) -> int:
    with Path(os.environ["STAND_IN_LOG"]).open("a") as log:
        log.write(json.dumps([tool, *arguments]) + "\n")
    if os.environ.get("STAND_IN_FAILS") == tool:
        sys.stderr.write(f"{tool}: error: no member named 'mmul'\n")
        return 3
    if os.environ.get("STAND_IN_WAITS") == tool:
        time.sleep(60)
    {"clang++": compiled, "aiecc": lowered, "bootgen": joined, "xclbinutil": packed}[tool](arguments)
    return 0


def compiled(arguments: list[str]) -> None:
    """An object."""
    Path(after("-o", arguments)).write_text(f"object of {after('-c', arguments)}")


def lowered(arguments: list[str]) -> None:
    """A configuration, and instructions for each sequence of the design."""
    out = Path(next(each for each in arguments if each.startswith("--output-dir=")).split("=")[1])
    text = Path(arguments[-1]).read_text()
    configuration = out / "cdo_main"
    configuration.mkdir()
    for part in ("elfs", "init", "enable") if "aie.core" in text else ("init",):
        (configuration / f"main_aie_cdo_{part}.bin").write_text(f"{part};")
    for at, name in enumerate(re.findall(r"runtime_sequence @(\w+)", text)):
        words = [1, 2, at] if name != os.environ.get("STAND_IN_ODD") else []
        (out / f"insts_main_{name}.bin").write_bytes(b"".join(word.to_bytes(4, "little") for word in words))


def joined(arguments: list[str]) -> None:
    """An image of the files that the description names."""
    description = Path(after("-image", arguments)).read_text()
    parts = re.findall(r"file=(\S+)", description)
    Path(after("-o", arguments)).write_text("".join(Path(part).read_text() for part in parts))


def packed(arguments: list[str]) -> None:
    """A package that holds the sections it was given, or a section of one."""
    if "--dump-section" in arguments:
        kernels = json.loads(Path(after("--input", arguments)).read_text())["kernels"]["ps-kernels"][
            "kernels"
        ]
        Path(after("--dump-section", arguments).split(":")[2]).write_text(metadata(kernels))
        return
    sections = {"kernels": json.loads(Path(after("--add-kernel", arguments)).read_text())}
    for at, argument in enumerate(arguments):
        if argument == "--add-replace-section":
            name, _, path = arguments[at + 1].split(":")
            sections[name] = json.loads(Path(path).read_text())
    (image,) = sections["AIE_PARTITION"]["aie_partition"]["PDIs"]
    sections["image"] = Path(image["file_name"]).read_text()
    Path(after("--output", arguments)).write_text(json.dumps(sections))


def metadata(kernels: list[dict]) -> str:
    """EMBEDDED_METADATA."""
    said = ""
    for kernel in kernels:
        number = kernel["extended-data"]["dpu_kernel_id"]
        arguments = "".join(f'<arg name="{each["name"]}"/>' for each in kernel["arguments"])
        said += (
            f'<kernel name="{kernel["name"]}"><extended-data dpu_kernel_id="{number}"/>{arguments}</kernel>'
        )
    return f"<project><core>{said}</core></project>"


def after(option: str, arguments: list[str]) -> str:
    return arguments[arguments.index(option) + 1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
