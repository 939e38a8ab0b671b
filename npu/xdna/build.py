"""From a design to a package that XRT loads: what `amanuensis npu build` does.

    kernels (*.cc)  --clang++ of Peano-->  objects  \\
    design as MLIR  ------------------------------->  aiecc  -->  instructions of each sequence
                                                            \\->  configuration  --bootgen-->  image
    image, metadata (`packaging`)  --xclbinutil-->  package (.xclbin)

The folder of a package (`packages`) is named by a hash of all it was made from, and is there completely or not at all.
The options are those of mlir-aie 1.4.4. No package was ever built with the real tools.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from npu.xdna import packaging
from npu.xdna.design import Design
from npu.xdna.host_kernels import FOLDER
from npu.xdna.packages import (
    LAYOUT,
    MANIFEST,
    Manifest,
    Source,
    digest,
    digest_of,
    folder_of_packages,
    read,
)
from npu.xdna.runtime import Built
from npu.xdna.toolchain import Toolchain
from streaming.errors import ModelError

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
_COMPLAINT = 3000  # characters of what a failing tool says
_UNFINISHED = "building-"
_ABANDONED_S = 24 * 3600  # no build takes so long


@dataclass(frozen=True)
class Delivered:
    """A package, and whether it had to be made."""

    built: Built
    made: bool


def build(
    design: Design,
    toolchain: Toolchain,
    text: Text,
    cache_dir: Path | None = None,
    watch: Watch | None = None,
) -> Delivered:
    """The package of a design, made where it is not there yet. ModelError says which tool failed, and its words."""
    written, tools = text(design), toolchain.versions()
    source = Source.of(design)
    inputs = digest(json.dumps([LAYOUT, written, asdict(source), tools, _COMPILE, _LOWER]).encode())
    packages = folder_of_packages(cache_dir)
    folder = packages / f"{design.name}-{inputs[:24]}"
    manifest = Manifest.read(folder)
    if manifest is not None and manifest.whole(folder):
        return Delivered(read(folder), made=False)
    packages.mkdir(parents=True, exist_ok=True)
    _sweep(packages)
    with tempfile.TemporaryDirectory(dir=packages, prefix=_UNFINISHED) as temporary:
        _put(_Making(design, toolchain, Path(temporary), watch).run(written, source, tools), folder)
    return Delivered(read(folder), made=True)


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

    def run(self, text: str, source: Source, tools: Mapping[str, str]) -> Path:
        """The folder of the result."""
        self._work.mkdir()
        self._result.mkdir()
        for kernel in self._kernels:
            self._compile(kernel)
        parts, streams = self._lower(text)
        image = self._join(parts)
        package = self._pack(image)
        instructions = {name: self._instructions(name, stream) for name, stream in streams.items()}
        files = {path.name: digest_of(path) for path in sorted(self._result.iterdir())}
        manifest = Manifest(
            LAYOUT,
            self._design.name,
            source,
            dict(tools),
            package.name,
            self._buffers,
            instructions,
            files,
        )
        (self._result / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1), "utf-8")
        return self._result

    @property
    def _buffers(self) -> int:
        most = max((len(each.arguments) for each in self._design.sequences), default=0)
        return packaging.declared_buffers(most)

    def _compile(self, kernel: str) -> None:
        self._tell(f"compiling {kernel} for the cores")
        target = self._work / Path(kernel).with_suffix(".o").name
        self._run(
            self._tools.compiler,
            *_COMPILE,
            f"-I{self._tools.headers}",
            "-c",
            FOLDER / kernel,
            "-o",
            target,
        )

    def _lower(self, text: str) -> tuple[list[Path], dict[str, Path]]:
        """The parts of the configuration, and the stream of instructions of each sequence."""
        self._tell("lowering the design")
        design = self._work / "design.mlir"  # beside the objects, which it names
        out, lowered = self._work / "out", self._work / "lowered"
        out.mkdir()
        design.write_text(text, "utf-8")
        shutil.copy(design, self._result)
        self._run(
            self._tools.aiecc,
            *_LOWER,
            f"--peano={self._tools.peano}",
            f"--tmpdir={lowered}",
            f"--output-dir={out}",
            design,
        )
        wanted = "*_aie_cdo_init.bin"
        found = sorted(out.rglob(wanted)) or sorted(lowered.rglob(wanted))
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


def _sweep(packages: Path) -> None:
    """Removes what builds left that were killed and could not."""
    for folder in packages.glob(f"{_UNFINISHED}*"):
        with suppress(FileNotFoundError):  # the build beside this one has just ended
            if time.time() - folder.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(folder)


def _put(made: Path, folder: Path) -> None:
    """In its place, whatever is there: another process may have been quicker, or what is there is damaged."""
    if folder.exists():
        spoilt = made.with_name("spoilt")  # in the temporary folder, and so removed with it
        folder.rename(spoilt)
    made.rename(folder)
