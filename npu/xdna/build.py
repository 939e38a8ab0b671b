"""From a design to a package that XRT loads: what `amanuensis npu build` does, and where the runtime finds the result.

    kernels (*.cc)  --clang++ of Peano-->  objects  \\
    design as MLIR  ------------------------------->  aiecc  -->  instructions of each sequence
                                                            \\->  configuration  --bootgen-->  image
    image, metadata (`packaging`)  --xclbinutil-->  package (.xclbin)

A package lies in the cache in a folder of its own, named by a hash of all it was made from, together with a manifest.
It is there completely or not at all. The options are those of mlir-aie 1.4; no package was ever built with the real
tools.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npu.embedded import default_cache_dir
from npu.xdna import packaging
from npu.xdna.design import Design
from npu.xdna.failures import NpuUnavailable
from npu.xdna.host_kernels import FOLDER
from npu.xdna.runtime import Built
from npu.xdna.toolchain import Toolchain
from streaming.errors import ModelError

logger = logging.getLogger("amanuensis.npu")

Text = Callable[[Design], str]  # a design as MLIR
Watch = Callable[[int, int, str], None]  # steps that are done, all steps, and what is done now

_COMPILE = (
    "--target=aie2-none-unknown-elf", "-std=c++20", "-O2", "-DNDEBUG",
    "-D__AIE__",  # the vector path: Peano itself defines __AIENGINE__ and __aie__
    "-D__AIE_API_AIE_ADF_HPP__",  # leaves out a header of the vendor's that Peano does not have
    "-Wno-parentheses", "-Wno-attributes", "-Wno-macro-redefined", "-Wno-empty-body",
)  # fmt: skip
_LOWER = ("--get-cdo", "--get-npu-insts", "--npu-insts-name=insts_{0}.bin")
_CONFIGURATION = ("elfs", "init", "enable")  # parts of it, in the order in which the array takes them
_MANIFEST = "manifest.json"
_LAYOUT = 1  # of the folder, its manifest and the recipe; another makes all packages anew
_COMPLAINT = 3000  # characters of what a failing tool says


@dataclass(frozen=True)
class Manifest:
    """What a package was made from, and its files."""

    layout: int
    design: str  # name
    text: str  # SHA-256 of its MLIR
    sources: dict[str, str]  # SHA-256 of the kernels' files, by name
    tools: dict[str, str]  # SHA-256 of programs, by name
    package: str  # name of the .xclbin
    buffers: int  # that it declares
    instructions: dict[str, str]  # names of files, by sequence
    files: dict[str, str]  # SHA-256, by name

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """None where there is none that this release can read."""
        try:
            found = json.loads((folder / _MANIFEST).read_text("utf-8"))
            return cls(**found) if found["layout"] == _LAYOUT else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def whole(self, folder: Path) -> bool:
        """Whether the files are there and as they were written."""
        return all(_digest_of(folder / name) == digest for name, digest in self.files.items())


@dataclass(frozen=True)
class Delivered:
    """A package, and whether it had to be made."""

    built: Built
    made: bool


def folder_of_packages(cache_dir: Path | None = None) -> Path:
    """Where packages lie."""
    return (cache_dir or default_cache_dir(logger.warning)) / "npu"


def key_of(built: Built) -> str:
    """What tells this package from every other: the name of its folder, which ends in a hash of all it is made from."""
    return Path(built.package).parent.name


def build(
    design: Design,
    toolchain: Toolchain,
    text: Text,
    cache_dir: Path | None = None,
    watch: Watch | None = None,
) -> Delivered:
    """The package of a design, made where it is not there yet. ModelError says which tool failed, and its words."""
    written, tools = text(design), toolchain.versions()
    inputs = _digest(json.dumps([_LAYOUT, written, _sources(design), tools, _COMPILE, _LOWER]).encode())
    packages = folder_of_packages(cache_dir)
    folder = packages / f"{design.name}-{inputs[:24]}"
    manifest = Manifest.read(folder)
    if manifest is not None and manifest.whole(folder):
        return Delivered(_read(folder), made=False)
    packages.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=packages, prefix="building-") as temporary:
        _put(_Making(design, toolchain, Path(temporary), watch).run(written, tools), folder)
    return Delivered(_read(folder), made=True)


def built(design: Design, text: Text, cache_dir: Path | None = None) -> Built:
    """The package of a design as it is now; NpuUnavailable where there is none."""
    wanted, sources, stale = _digest(text(design).encode()), _sources(design), False
    for folder in _newest_first(folder_of_packages(cache_dir), design.name):
        manifest = Manifest.read(folder)
        if manifest is None or manifest.design != design.name:
            continue
        if (manifest.text, manifest.sources) == (wanted, sources):
            if manifest.whole(folder):
                return _read(folder)
            raise NpuUnavailable(f"the package in {folder} is damaged: amanuensis npu build")
        stale = True
    state = "was built for the NPU from what it was before" if stale else "is not built for the NPU"
    raise NpuUnavailable(f"{design.name} {state}: amanuensis npu build")


def is_current(key: str, cache_dir: Path | None = None) -> bool:
    """Whether a package is there, whole, and made from the kernels of this release."""
    folder = folder_of_packages(cache_dir) / key
    manifest = Manifest.read(folder)
    return manifest is not None and manifest.sources == _present(manifest.sources) and manifest.whole(folder)


class _Making:
    """One build in a temporary folder: tools run one after the other, each step told."""

    def __init__(self, design: Design, toolchain: Toolchain, folder: Path, watch: Watch | None) -> None:
        self._design = design
        self._tools = toolchain
        self._work = folder / "work"
        self._result = folder / "result"
        self._watch = watch or (lambda done, of, what: None)
        self._kernels = sorted({function.source for function in design.functions})
        self._done, self._steps = 0, len(self._kernels) + 3

    def run(self, text: str, tools: Mapping[str, str]) -> Path:
        """The folder of the result."""
        self._work.mkdir()
        self._result.mkdir()
        for source in self._kernels:
            self._compile(source)
        parts, streams = self._lower(text)
        image = self._join(parts)
        package = self._pack(image)
        instructions = {name: self._instructions(name, stream) for name, stream in streams.items()}
        files = {path.name: _digest_of(path) for path in sorted(self._result.iterdir())}
        manifest = Manifest(
            _LAYOUT,
            self._design.name,
            _digest(text.encode()),
            _sources(self._design),
            dict(tools),
            package.name,
            self._buffers,
            instructions,
            files,
        )
        (self._result / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=1), "utf-8")
        return self._result

    @property
    def _buffers(self) -> int:
        most = max((len(each.arguments) for each in self._design.sequences), default=0)
        return packaging.declared_buffers(most)

    def _compile(self, source: str) -> None:
        self._tell(f"compiling {source} for the cores")
        target = self._work / Path(source).with_suffix(".o").name
        self._run(
            self._tools.compiler,
            *_COMPILE,
            f"-I{self._tools.headers}",
            "-c",
            FOLDER / source,
            "-o",
            target,
        )

    def _lower(self, text: str) -> tuple[list[Path], dict[str, Path]]:
        """The parts of the configuration, and the stream of instructions of each sequence."""
        self._tell("lowering the design")
        out, design = self._work / "out", self._work / "design.mlir"  # beside the objects, which it names
        out.mkdir()
        design.write_text(text, "utf-8")
        shutil.copy(design, self._result)
        self._run(
            self._tools.aiecc,
            *_LOWER,
            f"--peano={self._tools.peano}",
            f"--tmpdir={self._work / 'lowered'}",
            f"--output-dir={out}",
            design,
        )
        found = sorted(out.rglob("*_aie_cdo_init.bin"))
        if len(found) != 1:
            raise ModelError(f"aiecc left {len(found)} configurations of {self._design.name}, one is needed")
        device = found[0].name.removesuffix("_aie_cdo_init.bin")
        parts = [found[0].with_name(f"{device}_aie_cdo_{part}.bin") for part in _CONFIGURATION]
        streams = {each.name: out / f"insts_{device}_{each.name}.bin" for each in self._design.sequences}
        missing = [name for name, path in streams.items() if not path.is_file()]
        if missing:
            raise ModelError(f"aiecc left no instructions for {', '.join(missing)}")
        return [part for part in parts if part.is_file()], streams  # without cores there is less to configure

    def _join(self, parts: Sequence[Path]) -> Path:
        self._tell("joining the configuration")
        description, image = self._work / "image.bif", self._work / "image.pdi"
        description.write_text(packaging.image_description(parts), "utf-8")
        self._run(self._tools.bootgen, "-arch", "versal", "-image", description, "-o", image, "-w")
        return self._made(image, "bootgen")

    def _pack(self, image: Path) -> Path:
        self._tell("packing")
        package, metadata = self._result / f"{self._design.name}.xclbin", self._work / "metadata.xml"
        sections = {
            "memories": packaging.memories(),
            "kernels": packaging.kernels(self._buffers),
            "partition": packaging.partition(image),
        }
        for name, section in sections.items():
            (self._work / f"{name}.json").write_text(json.dumps(section, indent=1), "utf-8")
        self._run(
            self._tools.xclbinutil,
            "--add-replace-section",
            f"MEM_TOPOLOGY:JSON:{self._work / 'memories.json'}",
            "--add-kernel",
            self._work / "kernels.json",
            "--add-replace-section",
            f"AIE_PARTITION:JSON:{self._work / 'partition.json'}",
            "--force",
            "--output",
            package,
        )
        self._made(package, "xclbinutil")
        self._run(
            self._tools.xclbinutil,
            "--dump-section",
            f"EMBEDDED_METADATA:RAW:{metadata}",
            "--force",
            "--input",
            package,
        )
        said = self._made(metadata, "xclbinutil").read_text("utf-8").strip("\0 \n")
        packaging.must_declare(said, self._buffers)
        return package

    def _instructions(self, name: str, stream: Path) -> str:
        size = stream.stat().st_size
        if not size or size % np.dtype(np.uint32).itemsize:
            raise ModelError(f"aiecc left {size} bytes of instructions for {name}: no whole words")
        target = self._result / f"{name}.bin"
        target.write_bytes(stream.read_bytes())
        return target.name

    def _tell(self, what: str) -> None:
        self._watch(self._done, self._steps, what)
        self._done += 1

    def _made(self, path: Path, tool: str) -> Path:
        if not path.is_file():
            raise ModelError(f"{tool} ended well and left no {path.name}")
        return path

    def _run(self, program: Path, *arguments: str | Path) -> None:
        """ModelError with its complaint where it fails."""
        command = [str(program), *map(str, arguments)]
        environment = os.environ | {"PEANO_INSTALL_DIR": str(self._tools.peano)}
        try:
            done = subprocess.run(
                command, cwd=self._work, env=environment, capture_output=True, text=True, errors="replace"
            )
        except OSError as error:
            raise ModelError(f"{program} cannot be run ({error.strerror})") from error
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[:_COMPLAINT]
            raise ModelError(
                f"{program.name} failed on {self._design.name} (status {done.returncode}): {said}"
            )


def _put(made: Path, folder: Path) -> None:
    """In its place, whatever is there: another process may have been quicker, or what is there is damaged."""
    if folder.exists():
        spoilt = made.with_name("spoilt")  # in the temporary folder, and so removed with it
        folder.rename(spoilt)
    made.rename(folder)


def _read(folder: Path) -> Built:
    manifest = Manifest.read(folder)
    if manifest is None:
        raise NpuUnavailable(f"the package in {folder} is damaged: amanuensis npu build")
    instructions: dict[str, NDArray[np.uint32]] = {
        name: np.fromfile(folder / file, np.uint32) for name, file in manifest.instructions.items()
    }
    return Built(manifest.design, str(folder / manifest.package), packaging.KERNEL, instructions)


def _newest_first(packages: Path, name: str) -> Iterator[Path]:
    found = [folder for folder in packages.glob(f"{name}-*") if folder.is_dir()]
    yield from sorted(found, key=lambda folder: folder.stat().st_mtime, reverse=True)


def _sources(design: Design) -> dict[str, str]:
    """The files of its kernels and the headers they may include."""
    names = {function.source for function in design.functions}
    if names:
        names |= {path.name for path in FOLDER.glob("*.h")}
    return _present(sorted(names))


def _present(names: Iterator[str] | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    return {name: _digest_of(FOLDER / name) for name in names}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of(path: Path) -> str:
    """Empty where there is none."""
    try:
        return _digest(path.read_bytes())
    except OSError:
        return ""
