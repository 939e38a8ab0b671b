"""Packages that were built, in the cache: where they lie, what each was made from, and whether it is that of a design.

Each has a folder of its own, with the file that XRT loads, the instructions of each sequence, and a manifest.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npu.embedded import default_cache_dir
from npu.xdna.design import Design
from npu.xdna.failures import NpuUnavailable
from npu.xdna.host_kernels import FOLDER
from npu.xdna.packaging import KERNEL
from npu.xdna.runtime import Built

logger = logging.getLogger("amanuensis.npu")

MANIFEST = "manifest.json"
LAYOUT = 1  # of the folder, its manifest and the recipe; another makes all packages anew
WRITERS = ("assembly.py", "core_program.py", "mlir.py", "operations.py", "transfers.py")  # of a design's MLIR

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Source:
    """What a package is made from, known without its MLIR, which takes seconds to write."""

    design: str  # SHA-256 of all that is in it
    writers: str  # SHA-256 of what writes its MLIR
    kernels: dict[str, str]  # SHA-256 of files, by name

    @classmethod
    def of(cls, design: Design) -> Source:
        """A design with the kernels of this release. How much stack they were measured to need is no part of it."""
        functions = tuple(replace(each, stack=0) for each in design.functions)
        names = {each.source for each in functions}
        if names:
            names |= {path.name for path in FOLDER.glob("*.h")}
        said = repr(replace(design, functions=functions))
        return cls(digest(said.encode()), _writers(), _present(sorted(names)))

    def is_of_this_release(self) -> bool:
        """Whether the files it was made from are as they are now."""
        return self.writers == _writers() and self.kernels == _present(self.kernels)


@dataclass(frozen=True)
class Manifest:
    """A package: what it was made from, and its files."""

    layout: int
    name: str  # of the design
    source: Source
    tools: dict[str, str]  # SHA-256 of programs, by name
    package: str  # name of the .xclbin
    buffers: int  # that it declares
    instructions: dict[str, str]  # names of files, by sequence
    files: dict[str, str]  # SHA-256, by name

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """None where there is none that this release can read."""
        try:
            found = json.loads((folder / MANIFEST).read_text("utf-8"))
            if found["layout"] != LAYOUT:
                return None
            return cls(**(found | {"source": Source(**found["source"])}))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def whole(self, folder: Path) -> bool:
        """Whether the files are there and as they were written."""
        return all(digest_of(folder / name) == wanted for name, wanted in self.files.items())


def folder_of_packages(cache_dir: Path | None = None) -> Path:
    """Where packages lie."""
    return (cache_dir or default_cache_dir(logger.warning)) / "npu"


def key_of(built: Built) -> str:
    """What tells this package from every other: the name of its folder, which ends in a hash of all it is made from."""
    return Path(built.package).parent.name


def built(design: Design, cache_dir: Path | None = None) -> Built:
    """The package of a design as it is now; NpuUnavailable where there is none."""
    source, of_this_release = Source.of(design), []
    for folder in _newest_first(folder_of_packages(cache_dir), design.name):
        manifest = Manifest.read(folder)
        if manifest is None or manifest.name != design.name:
            continue
        if manifest.source == source:
            if manifest.whole(folder):
                return read(folder)
            raise NpuUnavailable(f"the package in {folder} is damaged: amanuensis npu build")
        of_this_release.append(manifest.source.is_of_this_release())
    if any(of_this_release):
        state = "is built for the NPU, but for another model or mode, or before an update"
    else:
        state = "was built before an update" if of_this_release else "is not built for the NPU"
    raise NpuUnavailable(f"{design.name} {state}: amanuensis npu build")


def is_current(key: str, cache_dir: Path | None = None) -> bool:
    """Whether a package is there, whole, and made from the files of this release."""
    folder = folder_of_packages(cache_dir) / key
    manifest = Manifest.read(folder)
    return manifest is not None and manifest.source.is_of_this_release() and manifest.whole(folder)


def read(folder: Path) -> Built:
    """What the runtime wants of a package; NpuUnavailable where its manifest is gone."""
    manifest = Manifest.read(folder)
    if manifest is None:
        raise NpuUnavailable(f"the package in {folder} is damaged: amanuensis npu build")
    instructions: dict[str, NDArray[np.uint32]] = {
        name: np.fromfile(folder / file, np.uint32) for name, file in manifest.instructions.items()
    }
    return Built(manifest.name, str(folder / manifest.package), KERNEL, instructions)


def digest(data: bytes) -> str:
    """SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file; empty where there is none."""
    try:
        return digest(path.read_bytes())
    except OSError:
        return ""


def _newest_first(packages: Path, name: str) -> Iterator[Path]:
    found = [folder for folder in packages.glob(f"{name}-*") if folder.is_dir()]
    yield from sorted(found, key=lambda folder: folder.stat().st_mtime, reverse=True)


def _writers() -> str:
    return digest("".join(digest_of(_HERE / name) for name in WRITERS).encode())


def _present(names: Iterable[str]) -> dict[str, str]:
    return {name: digest_of(FOLDER / name) for name in names}
