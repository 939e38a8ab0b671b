"""A model's way from the hub into the store: in part until it is whole, checked, and then there all at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from npu import hub
from npu.catalog import Named
from npu.checkpoint_folder import CONFIG, check_folder, check_kind, must_be_there, worth_fetching
from npu.hub import HubFile, Listing
from npu.manifest import FileRecord, Manifest, git_sha1_of, is_plain, sha256_of
from npu.store import Installed, Store
from streaming.errors import ModelError

SPARE = 64_000_000  # bytes that stay free on the disk
_SHA256_DIGITS = 64
_PART = ".part"  # ends the name of a file that is not whole; before it comes the beginning of its hash


class Watch(Protocol):
    """Who is told how a pull goes on."""

    def say(self, line: str) -> None:
        """A step begins, or something is worth knowing."""

    def expect(self, size: int) -> None:
        """So many bytes are to be there at the end."""

    def advance(self, size: int, fetched: bool) -> None:
        """So many more are there; negative: fewer. Fetched, or of what was there before."""


@dataclass(frozen=True)
class Pulled:
    """A model that is there, whole."""

    model: Installed
    fetched: bool  # False: it was there before


def pull(store: Store, named: Named, revision: str | None, watch: Watch) -> Pulled:
    """Fetches a model, or what is missing of it. ModelError says what to do; then what has come is kept for next time.

    revision: a branch, tag or commit; None takes what is there, whichever it is, else the main branch. Several
    pulls of one model, in whichever processes, wait for one another.
    """
    if named.folder is not None:
        must_be_there(named.folder)
    if not named.repository:
        what = "installed with the package" if named.embedded else "a folder of this machine"
        raise ModelError(f"{named.name} is {what} and needs no pull.")
    with store.alone(named, lambda: watch.say(f"Waiting for another pull of {named.name}")):
        if revision is None and (there := _whole(store, named)) is not None:
            return Pulled(there, fetched=False)
        watch.say(f"Asking the hub for {named.name}")
        listing = hub.describe(named.repository, revision)
        there = _whole(store, named)
        if there is not None and there.manifest.revision == listing.commit:
            return Pulled(there, fetched=False)
        return Pulled(_Pull(store, named, listing, watch).run(), fetched=True)


def _whole(store: Store, named: Named) -> Installed | None:
    """The model, if it is there and every hash is right."""
    try:
        found = store.find(named)
        if found is not None:
            found.check(thorough=True)
    except ModelError:
        return None
    return found


class _Pull:
    """One model at one commit."""

    def __init__(self, store: Store, named: Named, listing: Listing, watch: Watch) -> None:
        self._store = store
        self._named = named
        self._listing = listing
        self._watch = watch
        self._partial = store.partial(named)

    def run(self) -> Installed:
        files = self._wanted()
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            self._keep_only(files)
            self._watch.expect(sum(file.size for file in files))
            missing = [file for file in files if not self._is_there(file)]
            self._check_space(missing)
            for file in missing:
                self._get(file)
                if file.name == CONFIG:
                    self._check_kind()
            self._write_manifest(files)
            self._check_whole()
            return self._store.take(self._named)
        except OSError as error:
            raise ModelError(
                f"{self._named.name} could not be kept in {self._store.root} ({(error.strerror or str(error)).lower()})."
                f" Make room there and pull again: it goes on where it stopped. To give it up: amanuensis models remove"
                f" {self._named.name}"
            ) from error

    def _check_kind(self) -> None:
        """Before much is fetched."""
        try:
            check_kind(self._partial, self._named.name)
        except ModelError:
            shutil.rmtree(self._partial)
            raise

    def _check_whole(self) -> None:
        try:
            check_folder(self._partial)
        except ModelError as error:
            raise ModelError(
                f"{self._named.name} cannot be used as it is on the hub: {error} To delete what has come of it:"
                f" amanuensis models remove {self._named.name}"
            ) from error

    def _wanted(self) -> list[HubFile]:
        """The files, the small ones first. Of these the configuration comes first."""
        found = {file.name: file for file in self._listing.files if is_plain(file.name)}
        try:
            files = [found[name] for name in worth_fetching(found)]
        except ModelError as error:
            raise ModelError(f"{self._named.name} cannot be used: {error}.") from error
        unknown = [file.name for file in files if not file.hash]
        if unknown:
            raise ModelError(
                f"The hub at {hub.endpoint()} does not say what is in {unknown[0]} of {self._named.name}, so it cannot"
                " be checked; use another one (HF_ENDPOINT), or copy the checkpoint into a folder and name that."
            )
        return files

    def _keep_only(self, files: Sequence[HubFile]) -> None:
        """Nothing stays of other revisions."""
        known = {path for file in files for path in (self._partial / file.name, self._part(file))}
        for path in self._partial.iterdir():
            if path not in known:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _is_there(self, file: HubFile) -> bool:
        """Whether it came before, or with a revision that has the same one."""
        target, former = self._partial / file.name, self._store.path(self._named) / file.name
        for path in (target, former):
            if path.is_file() and path.stat().st_size == file.size and _hash_like(file, path) == file.hash:
                if path is former:
                    _link(former, target)
                self._watch.advance(file.size, fetched=False)
                return True
        target.unlink(missing_ok=True)
        return False

    def _check_space(self, missing: Sequence[HubFile]) -> None:
        needed = sum(file.size - _size(self._part(file)) for file in missing) + SPARE
        free = shutil.disk_usage(self._partial).free
        if free < needed:
            raise ModelError(
                f"{self._named.name} needs {needed / 1e6:,.0f} MB on the disk of {self._store.root}, where {free / 1e6:,.0f}"
                " MB are free. Make room (amanuensis models remove NAME), or choose another folder: models_dir in"
                " [model] of config.toml."
            )

    def _get(self, file: HubFile) -> None:
        """Fetches the file, or the rest of it. What an interrupted pull has left may be wrong: then once more, all."""
        self._watch.say(f"{self._named.name}: {file.name}")
        part = self._part(file)
        begun = _size(part)
        if begun > file.size:
            part.unlink()
            begun = 0
        self._watch.advance(begun, fetched=False)
        hub.fetch(self._listing, file, part, lambda size: self._watch.advance(size, fetched=True))
        if _hash_like(file, part) == file.hash:
            _sync(part)
            part.replace(self._partial / file.name)
            return
        self._watch.advance(-_size(part), fetched=False)
        part.unlink()
        if begun:
            self._get(file)
            return
        raise ModelError(
            f"{file.name} of {self._named.name} came damaged: its hash is not the one that the hub at {hub.endpoint()}"
            " states. Nothing of it was kept; pull again, and ask the hub's owner if that does not help."
        )

    def _write_manifest(self, files: Sequence[HubFile]) -> None:
        records = {}
        for file in files:
            hashed = file.hash if len(file.hash) == _SHA256_DIGITS else sha256_of(self._partial / file.name)
            records[file.name] = FileRecord(file.size, hashed)
        Manifest(self._listing.repository, self._listing.commit, records).write(self._partial)

    def _part(self, file: HubFile) -> Path:
        return self._partial / f"{file.name}.{file.hash[:12]}{_PART}"


def _hash_like(file: HubFile, path: Path) -> str:
    return sha256_of(path) if len(file.hash) == _SHA256_DIGITS else git_sha1_of(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
