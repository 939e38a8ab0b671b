"""Recordings as a person names them on the command line: files, folders full of them, and standard input."""

from __future__ import annotations

import os
import select
import stat
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streaming.audio import Samples
from streaming.containers import Readable
from streaming.errors import AudioError
from streaming.recorded import RecordingReader, seconds_of_recording

STDIN = "-"
BLOCK_S = 5.0  # audio decoded at a time
PATIENCE_S = 10.0  # for somebody to write into a named pipe
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
    track: int = 1  # of its audio tracks

    @property
    def file_name(self) -> str:
        """Without its folder."""
        return "stdin" if self.path is None else self.path.name

    @property
    def shown(self) -> str:
        """The name as it can be printed."""
        return printable(self.name)

    @property
    def title(self) -> str:
        """The file's name as it can be printed."""
        return printable(self.file_name)

    @property
    def seconds(self) -> float | None:
        """Of audio, as its header tells; None where it does not, or what is read once cannot be read again."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            with self._opened() as file:
                return seconds_of_recording(file, self.track)
        except AudioError:
            return None  # reading it will say so

    def reading(self, start: int = 0, seek: bool = True) -> Reading:
        """Its audio from a sample index on. seek: see `RecordingReader`."""
        return Reading(self, start, seek)

    @contextmanager
    def _opened(self) -> Iterator[Readable]:
        if self.path is None:
            yield sys.stdin.buffer
            return
        try:
            about = self.path.stat()
            if stat.S_ISDIR(about.st_mode):
                raise AudioError("It is a folder.")
            if stat.S_ISREG(about.st_mode) and not about.st_size:
                raise AudioError("There is nothing in it.")
            piped = stat.S_ISFIFO(about.st_mode)
            file = open(self.path, "rb", opener=_unblocked if piped else None)  # noqa: SIM115
        except FileNotFoundError as error:
            raise AudioError("It does not exist; check the name.") from error
        except OSError as error:
            raise AudioError(f"It cannot be read: {error.strerror}.") from error
        with file:
            yield file


class Reading:
    """The audio of a recording on its way in, BLOCK_S at a time. AudioError, in a sentence without its name."""

    def __init__(self, recording: Recording, start: int, seek: bool) -> None:
        self._recording = recording
        self._start = start
        self._seek = seek
        self._reader: RecordingReader | None = None

    @property
    def steady(self) -> bool:
        """Another reading may look for the place reached by the file's time stamps."""
        return self._reader is not None and self._reader.steady

    def __iter__(self) -> Iterator[Samples]:
        with self._recording._opened() as file:
            self._reader = RecordingReader(file, BLOCK_S, self._start, self._recording.track, self._seek)
            try:
                yield from self._reader
            except OSError as error:
                raise AudioError(f"Reading it failed: {error.strerror or error}.") from error


def _unblocked(path: str, flags: int) -> int:
    """Opens a named pipe, and waits for a while until something is in it."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    ready, _, _ = select.select([descriptor], [], [], 0)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not ready and not poll.poll(PATIENCE_S * 1000):
        os.close(descriptor)
        raise AudioError(f"It is a pipe, and nobody wrote into it for {PATIENCE_S:.0f} s.")
    os.set_blocking(descriptor, True)
    return descriptor


def printable(name: str) -> str:
    """A file's name without what a terminal would obey, or no encoding knows."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join("�" if unicodedata.category(each) in ("Cc", "Cf", "Cs") else each for each in text)


def find(named: Sequence[str], track: int = 1) -> list[Recording]:
    """The recordings named, in that order and each once; a folder stands for those below it, in order of name.

    AudioError where a folder holds none. A file that does not exist is among them: it concerns nobody else.
    """
    found: dict[Path | None, Recording] = {}
    for name in named:
        path = None if name == STDIN else Path(name)
        if path is not None and path.is_dir():
            for recording in _inside(path, track):
                found.setdefault(recording.path, recording)
        else:
            shown = "standard input" if path is None else name
            found.setdefault(path, Recording(shown, path, track=track))
    return list(found.values())


def _inside(folder: Path, track: int) -> list[Recording]:
    try:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise AudioError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    recordings = [
        Recording(str(path), path, path.parent.relative_to(folder), track)
        for path in paths
        if path.is_file() and not _hidden(path.relative_to(folder))
    ]
    if not recordings:
        raise AudioError(
            f"There is no recording in the folder {printable(str(folder))}. "
            "A file of another kind can be named itself."
        )
    return recordings


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
