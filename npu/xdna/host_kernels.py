"""The kernels, compiled for this machine: what the emulated array runs, and where their use of stack is measured.

They are built with g++ when they are first needed, and kept in the cache. The vector path is the source that is built
for the cores, on a stand-in for the part of `aie::` it uses; the portable path is the same kernels in plain C++.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npu.embedded import default_cache_dir
from streaming.errors import ModelError

logger = logging.getLogger("amanuensis.npu")

FOLDER = Path(__file__).parent.parent / "kernels"
_HOST = FOLDER / "host"  # the stand-in for aie_api
_FLAGS = (
    "-std=c++17", "-O3", "-fPIC", "-Wall", "-Wextra", "-fstack-usage",
    # The cores have no C library to call, so loops do not become calls of it. In a freestanding environment every
    # std::memcpy of a float's bits would be one.
    "-fno-tree-loop-distribute-patterns",
    "-ffp-contract=off",  # float sums as they are written
)  # fmt: skip
_X86_FLAGS = ("-mno-red-zone",)  # otherwise functions use 128 bytes below their frame that nobody counts
_RETURN_ADDRESS = 8  # bytes that a call puts on the stack beside the frame

Bytes = NDArray[np.uint8]


def sources() -> tuple[str, ...]:
    """Every file of kernels, by name."""
    return tuple(sorted(path.name for path in FOLDER.glob("*.cc")))


class HostKernels:
    """Compiled functions of some files of kernels."""

    def __init__(
        self, files: Sequence[str] | None = None, vector: bool = False, cache_dir: Path | None = None
    ) -> None:
        """files: names under npu/kernels, None for all; ModelError where there is no g++, or it refuses them."""
        names = tuple(sources() if files is None else files)
        flags = (*_FLAGS, *(_X86_FLAGS if platform.machine() in ("x86_64", "AMD64") else ()))
        flags = (*flags, "-D__AIE__", f"-I{_HOST}") if vector else flags
        self.vector = vector
        self.folder = _built(names, flags, cache_dir or default_cache_dir(logger.warning))
        self._library = ctypes.CDLL(str(self.folder / "kernels.so"))
        self.stacks: Mapping[str, int] = json.loads((self.folder / "stacks.json").read_text())  # bytes

    def call(self, name: str, arguments: Sequence[Bytes | int]) -> None:
        """Runs a kernel on memory, which it may change, and on 32-bit integers."""
        function = getattr(self._library, name)
        function.restype = None
        function(*(_argument(each) for each in arguments))


def _argument(value: Bytes | int) -> ctypes.c_void_p | ctypes.c_int32:
    if isinstance(value, int):
        return ctypes.c_int32(value)
    if not value.flags.c_contiguous:
        raise ValueError("kernels take memory that lies in one piece")
    return ctypes.c_void_p(value.ctypes.data)


def _built(names: Sequence[str], flags: Sequence[str], cache_dir: Path) -> Path:
    """The folder with the library and the stacks of its functions; made if it is not there."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise ModelError(
            "the emulated NPU compiles its kernels with g++, which is not installed: install g++"
        )
    key = hashlib.sha256(_output(compiler, "--version").encode())
    for path in sorted((*FOLDER.rglob("*.h"), *FOLDER.rglob("*.hpp"), *(FOLDER / name for name in names))):
        key.update(path.name.encode() + path.read_bytes())
    key.update(" ".join((*names, *flags)).encode())
    folder = cache_dir / "kernels" / key.hexdigest()[:24]
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        built = Path(temporary) / "built"
        built.mkdir()
        objects, stacks = [], {}
        for name in names:
            objects.append(str(built / name) + ".o")
            _output(compiler, *flags, "-c", str(FOLDER / name), "-o", objects[-1])
            stacks.update(_stacks((built / (name + ".su")).read_text()))
        _output(compiler, "-shared", "-o", str(built / "kernels.so"), *objects)
        (built / "stacks.json").write_text(json.dumps(stacks))
        try:
            built.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was quicker, and made the same
                raise
    return folder


def _stacks(usage: str) -> dict[str, int]:
    """What g++ says of each function, "file:line:column:type name(types)<tab>bytes<tab>kind" -> bytes by name.

    Everything a kernel calls is inlined into it, or it is no kernel.
    """
    found = {}
    for line in usage.splitlines():
        signature, size, kind = line.split("\t")
        if kind != "static":
            raise ModelError(f"the stack of {signature} is not known before it runs ({kind})")
        found[signature.split("(")[0].split()[-1]] = int(size) + _RETURN_ADDRESS
    return found


def _output(*command: str) -> str:
    """What a command prints; ModelError with its complaint if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ModelError(f"{command[0]} failed on the kernels of the NPU: {done.stderr.strip()[:2000]}")
    return done.stdout
