"""The models by name: what the catalogue knows of each, and what a name that somebody typed stands for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streaming.errors import ModelError

EMBEDDED = "moonshine-tiny"  # installed with the package
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_SUGGESTED = 3  # names, in the sentence about an unknown one


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue, as its makers describe it."""

    name: str  # ours, e.g. "whisper-base"
    repository: str  # "owner/name" on the hub; empty: installed with the package
    parameters: int  # millions
    download: int  # MB, roughly: the weights as they are stored there, and the small files
    english_only: bool
    licence: str  # SPDX


@dataclass(frozen=True)
class Named:
    """What a name stands for. Exactly one of `embedded`, `repository` and `folder` says where the model is from."""

    name: str  # as it is shown: of the catalogue, "owner/name", or the folder as it was named
    embedded: bool = False
    repository: str = ""  # on the hub
    folder: Path | None = None  # of this machine
    entry: Entry | None = None  # where the catalogue has it

    @property
    def key(self) -> str:
        """The name as that of a folder."""
        return self.name.replace("/", "--")


def _whisper(size: str, parameters: int, download: int, licence: str = "Apache-2.0") -> Entry:
    name = f"whisper-{size}"
    repository = "whisper-large" if size == "large-v1" else name
    return Entry(name, f"openai/{repository}", parameters, download, size.endswith(".en"), licence)


def _distilled(size: str, parameters: int, download: int) -> Entry:
    name = f"distil-{size}"
    return Entry(name, f"distil-whisper/{name}", parameters, download, english_only=True, licence="MIT")


CATALOG: tuple[Entry, ...] = (
    Entry(EMBEDDED, "", 27, 0, english_only=True, licence="MIT"),
    _whisper("tiny", 39, 155),
    _whisper("tiny.en", 39, 155),
    _whisper("base", 74, 295),
    _whisper("base.en", 74, 295),
    _whisper("small", 244, 970),
    _whisper("small.en", 244, 970),
    _whisper("medium", 769, 3_060),
    _whisper("medium.en", 769, 3_060),
    _whisper("large-v1", 1_550, 6_180),
    _whisper("large-v2", 1_550, 6_180),
    _whisper("large-v3", 1_550, 3_090),
    _whisper("large-v3-turbo", 809, 1_620, "MIT"),
    _distilled("small.en", 166, 335),
    _distilled("medium.en", 394, 795),
    _distilled("large-v2", 756, 1_520),
    _distilled("large-v3", 756, 1_520),
    _distilled("large-v3.5", 756, 1_520),
)
_BY_NAME = {entry.name: entry for entry in CATALOG}
_BY_REPOSITORY = {entry.repository.lower(): entry for entry in CATALOG if entry.repository}


def resolve(name: str) -> Named:
    """A name of the catalogue, "owner/name" of the hub, or a folder; ModelError lists the known ones.

    A folder is what is spelled as a path ("./x", "~/x", "/x"), and what is there and holds a checkpoint.
    """
    name = name.strip()
    entry = _BY_NAME.get(name.lower()) or _BY_REPOSITORY.get(name.lower())
    if entry is not None:
        return Named(entry.name, not entry.repository, entry.repository, None, entry)
    folder = _folder(name)
    if folder is not None:
        return Named(name, folder=folder)
    if _REPOSITORY.fullmatch(name) and ".." not in name and "--" not in name:
        return Named(name, repository=name)
    raise ModelError(f"No model is called {name!r}.{_advice(name)}")


def of_key(key: str) -> Named | None:
    """The model of the hub that has this key; None where it is none's."""
    name = key.replace("--", "/")
    entry = _BY_NAME.get(name)
    if entry is not None:
        return None if entry.name == EMBEDDED else Named(name, False, entry.repository, None, entry)
    return Named(name, repository=name) if _REPOSITORY.fullmatch(name) else None


def _folder(name: str) -> Path | None:
    if not name:
        return None
    try:
        folder = Path(name).expanduser()
        if name.startswith((".", "/", "~")) or folder.is_absolute():
            return folder
        return folder if (folder / "config.json").is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long, nobody's home, a NUL
        return None


def _advice(name: str) -> str:
    near = list(dict.fromkeys(_near(name.lower())))[:_SUGGESTED]
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    others = ", ".join(entry.name for entry in CATALOG if entry.name not in near)
    return (
        f"{meant} {'Others' if near else 'Known'} are {others}; any owner/name of the hub and any local folder"
        " will do as well."
    )


def _near(name: str) -> Iterator[str]:
    """The likeliest first: those that differ little, then those that the name is a part of."""
    names = list(_BY_NAME)
    for prefix in ("", "whisper-", "distil-"):
        if prefix + name in _BY_NAME:
            yield prefix + name
    yield from difflib.get_close_matches(name, names, _SUGGESTED, cutoff=0.75)
    if len(name) >= len("tiny"):
        yield from (known for known in names if name in known)
