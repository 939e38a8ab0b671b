"""Recordings as a person names them on the command line: files, folders full of them, and standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streaming.audio import Samples
from streaming.containers import Readable
from streaming.recorded import RecordingReader, seconds_of_recording
from streaming.errors import AudioError

STDIN = "-"
BLOCK_S = 5.0  # audio decoded at a time
SUFFIXES = frozenset(  # what is taken for a recording in a folder; a file that is named can be called anything
    ".3gp .aac .ac3 .aif .aiff .amr .ape .au .avi .caf .dts .flac .flv .m4a .m4b .m4v .mka .mkv .mov .mp2 .mp3"
    " .mp4 .mpeg .mpg .oga .ogg .ogv .opus .ts .tta .voc .w64 .wav .weba .webm .wma .wmv .wv".split()
)


@dataclass(frozen=True)
class Recording:
    """Something to transcribe."""

    name: str  # as it was named, or found below what was named
    path: Path | None  # None for standard input
    below: Path = Path()  # the folder it was found in, relative to the one that was named

    @property
    def file_name(self) -> str:
        """Without its folder."""
        return "stdin" if self.path is None else self.path.name

    @property
    def seconds(self) -> float | None:
        """Of audio, as its header tells; None where it does not, or what is read once cannot be read again."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            with self._opened() as file:
                return seconds_of_recording(file)
        except AudioError:
            return None  # reading it will say so

    def blocks(self) -> Iterator[Samples]:
        """Its audio, BLOCK_S at a time. AudioError, in a sentence without its name."""
        with self._opened() as file:
            yield from decode_recording(file, BLOCK_S)

    @contextmanager
    def _opened(self) -> Iterator[Readable]:
        if self.path is None:
            yield sys.stdin.buffer
            return
        try:
            file = self.path.open("rb")
        except FileNotFoundError as error:
            raise AudioError("It does not exist; check the name.") from error
        except OSError as error:
            raise AudioError(f"It cannot be read: {error.strerror}.") from error
        with file:
            if self.path.stat().st_size == 0 and self.path.is_file():
                raise AudioError("There is nothing in it.")
            yield file


def find(named: Sequence[str]) -> list[Recording]:
    """The recordings named, in that order and each once; a folder stands for those below it, in order of name.

    AudioError where a folder holds none. A file that does not exist is among them: it concerns nobody else.
    """
    found: dict[Path | None, Recording] = {}
    for name in named:
        path = None if name == STDIN else Path(name)
        if path is not None and path.is_dir():
            for recording in _inside(path):
                found.setdefault(recording.path, recording)
        else:
            found.setdefault(path, Recording("standard input" if path is None else name, path))
    return list(found.values())


def _inside(folder: Path) -> list[Recording]:
    recordings = [
        Recording(str(path), path, path.parent.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file() and not _hidden(path.relative_to(folder))
    ]
    if not recordings:
        raise AudioError(
            f"There is no recording in the folder {folder}. A file of another kind can be named itself."
        )
    return recordings


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
