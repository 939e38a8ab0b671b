"""What a model's folder must hold: size and hash of every file, and the commit they are of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from streaming.errors import ModelError

FILE = "amanuensis.json"  # its name, in the folder
_BLOCK = 1 << 22  # bytes read at a time


@dataclass(frozen=True)
class FileRecord:
    """A file as it was when it was fetched."""

    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of a model that was pulled."""

    repository: str  # on the hub
    revision: str  # commit
    files: Mapping[str, FileRecord]  # by name within the folder

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(record.size for record in self.files.values())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The one in a folder; ModelError where it is not there or not what it should be."""
        path = folder / FILE
        try:
            data = json.loads(path.read_text("utf-8"))
            files = {
                str(PurePosixPath(name)): FileRecord(int(record["size"]), str(record["sha256"]))
                for name, record in data["files"].items()
                if is_plain(name)
            }
            return cls(str(data["repository"]), str(data["revision"]), files)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"{path} is missing or damaged") from error

    def write(self, folder: Path) -> None:
        """Puts it into the folder. OSError where that fails."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    def damage(
        self, folder: Path, thorough: bool = False, advance: Callable[[int], None] | None = None
    ) -> Iterator[str]:
        """What is wrong with the folder, a phrase for each file: by size, or by the hash of its content.

        advance: gets the bytes that were looked at.
        """
        for name, record in self.files.items():
            path = folder / name
            try:
                size = path.stat().st_size
                if size != record.size:
                    yield f"{name} has {size:,} bytes in place of {record.size:,}"
                elif thorough and sha256_of(path, advance) != record.sha256:
                    yield f"{name} has another content than it had when it was pulled"
            except FileNotFoundError:
                yield f"{name} is missing"
            except OSError as error:
                yield f"{name} cannot be read ({error.strerror})"


def is_plain(name: str) -> bool:
    """Whether a file of this name stays within its folder."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def sha256_of(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """Hash of a file's content."""
    return _hash_of(path, hashlib.sha256(), advance)


def git_sha1_of(path: Path) -> str:
    """What git calls a file of this content (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects)."""
    return _hash_of(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False), None)


def _hash_of(path: Path, digest: hashlib._Hash, advance: Callable[[int], None] | None) -> str:
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            if advance is not None:
                advance(len(block))
    return digest.hexdigest()
