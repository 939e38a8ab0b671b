"""The programs that turn a design into a package, where they are on this machine, and what to do about those that are
not.

They are found as mlir-aie 1.4 finds them (`python/utils/config.py` and `configure.py.in` there, `tools/aiecc`): by an
environment variable, beside the Python packages of this environment, or on PATH. A variable that is set decides:
nothing else is tried where it leads nowhere.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streaming.errors import ModelError

MLIR_AIE = "1.4.4"  # the release whose options `build` gives to aiecc

_WHEELS = "https://github.com/Xilinx/{}/releases/expanded_assets/{}"
_GET_PEANO = f"pip install llvm-aie -f {_WHEELS.format('llvm-aie', 'nightly')}"
_GET_MLIR_AIE = f"pip install mlir_aie -f {_WHEELS.format('mlir-aie', f'v{MLIR_AIE}')}"
_GET_XRT = "install XRT (github.com/amd/xdna-driver builds it), then: source /opt/xilinx/xrt/setup.sh"


@dataclass(frozen=True)
class Place:
    """Somewhere a tool may be."""

    path: Path
    variable: str = ""  # the environment variable that leads there; none: it is tried anyway


@dataclass(frozen=True)
class Tool:
    """A program, or a file, that building needs."""

    name: str
    use: str  # what it does here
    remedy: str  # how to get it
    places: tuple[Place, ...]  # in the order in which they are tried
    variables: tuple[str, ...] = ()  # that could lead to it
    on_path: str = ""  # its name on PATH, which is tried last; none: another program may be called so there

    def find(self, search: str | None) -> Path | None:
        """Where it is; search: PATH. A place that a variable names is the only one."""
        chosen = [place for place in self.places if place.variable]
        for place in chosen[:1] or self.places:
            if place.path.is_file():
                return place.path
        found = shutil.which(self.on_path, path=search) if self.on_path and not chosen else None
        return Path(found) if found else None

    def sought(self) -> str:
        """Where it was looked for, as a sentence."""
        chosen = next((place for place in self.places if place.variable), None)
        if chosen is not None:
            return f"{chosen.variable} leads to {chosen.path}, which is not there"
        unset = f"{' and '.join(self.variables)} not set; " if self.variables else ""
        tried = [f"for {place.path}" for place in self.places]
        return f"{unset}looked {' and '.join([*tried, *(['on PATH'] if self.on_path else [])])}"


@dataclass(frozen=True)
class Toolchain:
    """All of them, found."""

    peano: Path  # folder of llvm-aie
    compiler: Path  # clang++ for the cores
    headers: Path  # folder that holds aie_api
    aiecc: Path
    bootgen: Path
    xclbinutil: Path

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ, packages: Path | None = None) -> Toolchain:
        """ModelError names every tool that is missing, where it was looked for, and how to get it.

        packages: folder of Python packages; None: this environment's.
        """
        tools = {tool.name: tool for tool in _wanted(environment, packages or _PACKAGES)}
        found = {name: tool.find(environment.get("PATH")) for name, tool in tools.items()}
        missing = [tools[name] for name, path in found.items() if path is None]
        if missing:
            raise ModelError(_told(missing))
        at = {name: path.absolute() for name, path in found.items() if path is not None}
        return cls(
            at[_PEANO].parent.parent,
            at[_PEANO],
            at[_HEADERS].parent.parent,
            at[_AIECC],
            at[_BOOTGEN],
            at[_XCLBINUTIL],
        )

    def versions(self) -> dict[str, str]:
        """What tells one installation from another: the SHA-256 of each program, by its name."""
        programs = (self.compiler, self.aiecc, self.bootgen, self.xclbinutil)
        return {path.name: _digest(path) for path in programs}


_PEANO, _HEADERS, _AIECC, _BOOTGEN, _XCLBINUTIL = (
    "Peano's clang++",
    "aie_api",
    "aiecc",
    "bootgen",
    "xclbinutil",
)
_PACKAGES = Path(sysconfig.get_path("platlib"))


def _wanted(environment: Mapping[str, str], packages: Path) -> tuple[Tool, ...]:
    """Every tool that building needs, with the places where there may be one."""
    root = _installed(environment, "MLIR_AIE_INSTALL_DIR")
    aiecc = Tool(
        _AIECC,
        "turns the design into the configuration of the array and streams of instructions",
        _GET_MLIR_AIE,
        (
            *_installed(environment, "AIECC_PATH"),
            *_below(root, "bin/aiecc"),
            Place(packages / "mlir_aie/bin/aiecc"),
        ),
        ("AIECC_PATH", "MLIR_AIE_INSTALL_DIR"),
        "aiecc",
    )
    beside = aiecc.find(environment.get("PATH"))
    near = () if beside is None else (Place(beside.resolve().parent.parent),)
    roots = (*root, *near, Place(packages / "mlir_aie"))
    return (
        Tool(
            _PEANO,
            "compiles the kernels for the cores",
            _GET_PEANO,
            (
                *_below(_installed(environment, "PEANO_INSTALL_DIR"), "bin/clang++"),
                Place(packages / "llvm-aie/bin/clang++"),
            ),
            ("PEANO_INSTALL_DIR",),
        ),
        aiecc,
        Tool(
            _HEADERS,
            "(headers) is what the kernels include",
            _GET_MLIR_AIE,
            _below(roots, "include/aie_api/aie.hpp"),
            ("MLIR_AIE_INSTALL_DIR",),
        ),
        Tool(
            _BOOTGEN,
            "joins the configuration of the array into one image",
            _GET_MLIR_AIE,
            tuple(Place(place.path) for place in _below(roots, "bin/bootgen")),
            on_path="bootgen",
        ),
        Tool(
            _XCLBINUTIL,
            "makes the package that XRT loads",
            _GET_XRT,
            (
                *_installed(environment, "AIE_XCLBINUTIL"),
                *(
                    Place(each.path)
                    for each in _below(_installed(environment, "XILINX_XRT"), "bin/xclbinutil")
                ),
                Place(Path("/opt/xilinx/xrt/bin/xclbinutil")),
            ),
            ("AIE_XCLBINUTIL", "XILINX_XRT"),
            "xclbinutil",
        ),
        Tool(
            "g++",
            "measures how much stack each kernel needs",
            "sudo apt install g++",
            (),
            on_path="g++",
        ),
    )


def _installed(environment: Mapping[str, str], variable: str) -> tuple[Place, ...]:
    value = environment.get(variable)
    return (Place(Path(value).expanduser(), variable),) if value else ()


def _below(places: tuple[Place, ...], path: str) -> tuple[Place, ...]:
    return tuple(Place(place.path / path, place.variable) for place in places)


def _told(missing: Sequence[Tool]) -> str:
    """Each with what it is for and where it was looked for, then what to do, once for all that it brings."""
    one = len(missing) == 1
    lines = [f"{'A tool is' if one else f'{len(missing)} tools are'} missing to build for the NPU:"]
    for tool in missing:
        lines += [f"  {tool.name} {tool.use}", f"      {tool.sought()}"]
    lines.append(f"To get {'it' if one else 'them'} (docs/npu.md says more):")
    for remedy in dict.fromkeys(tool.remedy for tool in missing):
        names = ", ".join(tool.name for tool in missing if tool.remedy == remedy)
        lines += [f"  {names}", f"      {remedy}"]
    return "\n".join(lines)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
