"""Where pulled models live: a folder for each, with a manifest that says what it must hold."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from npu.catalog import Named, of_key
from npu.checkpoint_folder import check_folder
from npu.manifest import Manifest
from streaming.errors import ModelError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_PARTIAL, _FORMER, _LOCK = ".partial", ".former", ".lock"  # follow "." and the model's key


@dataclass(frozen=True)
class Installed:
    """A model that was pulled."""

    named: Named
    folder: Path
    manifest: Manifest

    def check(self, thorough: bool = False, advance: Callable[[int], None] | None = None) -> None:
        """ModelError says what is wrong with its files: by their sizes, or thoroughly by their hashes."""
        damage = list(self.manifest.damage(self.folder, thorough, advance))
        if damage:
            raise ModelError(f"{self.named.name} is damaged: {'; '.join(damage)}. {remedy(self.named)}")


class Store:
    """The folder of folders."""

    def __init__(self, root: Path) -> None:
        """root: need not exist."""
        self.root = root

    @classmethod
    def of(cls, models_dir: Path | None) -> Store:
        """The one of a configuration; None means the user's."""
        return cls(models_dir or default_models_dir())

    def path(self, named: Named) -> Path:
        """The folder of a model, whether it is there or not."""
        return self.root / named.key

    def partial(self, named: Named) -> Path:
        """The folder of what has come of it until it is whole."""
        return self.root / f".{named.key}{_PARTIAL}"

    def find(self, named: Named) -> Installed | None:
        """The model, unchecked; None where it was never pulled to the end. ModelError where the manifest is gone."""
        folder = self.path(named)
        if not folder.is_dir():
            return None
        try:
            return Installed(named, folder, Manifest.read(folder))
        except ModelError as error:
            raise ModelError(f"{named.name} is damaged: {error}. {remedy(named)}") from error

    def require(self, named: Named) -> Installed:
        """The model, its files there in their sizes; ModelError says how to get it."""
        found = self.find(named)
        if found is None:
            begun = self.partial(named).is_dir()
            raise ModelError(
                f"{named.name} {'was pulled only in part' if begun else 'is not installed'}."
                f" {'Go on with' if begun else 'Get it with'}: amanuensis models pull {named.name}"
            )
        found.check()
        return found

    def installed(self) -> list[Installed | Named]:
        """All models, by name; those whose manifest cannot be read are only named."""
        found: list[Installed | Named] = []
        for named in self._named(lambda name: None if name.startswith(".") else name):
            try:
                found.append(self.find(named) or named)
            except ModelError:
                found.append(named)
        return found

    def unfinished(self) -> list[Named]:
        """Those that were pulled only in part."""

        def begun(name: str) -> str | None:
            return name[1 : -len(_PARTIAL)] if name.startswith(".") and name.endswith(_PARTIAL) else None

        return self._named(begun)

    def remove(self, named: Named) -> int:
        """Deletes the model, and what has come of it -> bytes freed; ModelError where there is none or it cannot be."""
        folders = [
            folder
            for folder in (
                self._former(named),
                self.path(named),
                self.partial(named),
            )  # in the way comes first
            if folder.is_dir()
        ]
        if not folders:
            raise ModelError(f"{named.name} is not installed; see: amanuensis models list")
        with self.alone(named, lambda: None):
            freed = sum(size_of(folder) for folder in folders)
            try:
                for folder in folders:
                    if not folder.name.startswith("."):
                        folder = folder.rename(self._former(named))  # nobody may load half of it meanwhile
                    shutil.rmtree(folder)
            except OSError as error:
                raise ModelError(f"{folder} cannot be deleted ({error.strerror}).") from error
        return freed

    def take(self, named: Named) -> Installed:
        """Makes the partial folder the model's, in place of the one before it. OSError where that fails."""
        folder, former = self.path(named), self._former(named)
        shutil.rmtree(former, ignore_errors=True)
        if folder.exists():
            folder.rename(former)
        try:
            self.partial(named).rename(folder)
        except OSError:
            if former.exists():
                former.rename(folder)
            raise
        shutil.rmtree(former, ignore_errors=True)
        return Installed(named, folder, Manifest.read(folder))

    @contextlib.contextmanager
    def alone(self, named: Named, waiting: Callable[[], None]) -> Iterator[None]:
        """Nobody else changes the model meanwhile. waiting: is called where somebody does, and has to end first."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root / f".{named.key}{_LOCK}", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ModelError(
                f"{self.root} cannot be written ({error.strerror}); choose another folder: models_dir in [model] of"
                " config.toml."
            ) from error
        try:
            if fcntl is not None:
                _lock(handle, waiting)
            yield
        finally:
            os.close(handle)

    def _former(self, named: Named) -> Path:
        return self.root / f".{named.key}{_FORMER}"

    def _named(self, key_of: Callable[[str], str | None]) -> list[Named]:
        try:
            names = [entry.name for entry in self.root.iterdir() if entry.is_dir()]
        except OSError:
            return []
        found = (of_key(key) for name in names if (key := key_of(name)))
        return sorted((named for named in found if named is not None), key=lambda named: named.name)


def default_models_dir() -> Path:
    """$XDG_DATA_HOME/amanuensis/models, else ~/.local/share/amanuensis/models."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "amanuensis" / "models"


def folder_of(named: Named, models_dir: Path | None = None) -> Path:
    """A checkpoint's folder, all its files there; ModelError names what is missing, and says how to get it."""
    folder = (named.folder or Store.of(models_dir).require(named).folder).resolve()
    check_folder(folder)
    return folder


def remedy(named: Named) -> str:
    """What mends a model."""
    return f"Mend it with: amanuensis models pull {named.name}"


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _lock(handle: int, waiting: Callable[[], None]) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks: then only the renames keep two pulls apart
