"""What is known of each model: out of the catalogue, and of what is on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.model_section import Model
from npu.catalog import CATALOG, Entry, Named, resolve
from npu.checkpoint_folder import check_folder, languages, shapes
from npu.embedded import DECODER, ENCODER, TOKENIZER, package_folder, shipped
from npu.moonshine import TINY
from npu.store import Store, size_of
from streaming.errors import ModelError

_SHIPPED = (ENCODER, DECODER, TOKENIZER)


@dataclass(frozen=True)
class Facts:
    """One model."""

    named: Named
    default: bool  # it is what the configuration names
    folder: Path | None = None  # where it is; None: it is not here
    size: int = 0  # bytes of its files here
    revision: str = ""  # commit, of a pulled one
    trouble: str = ""  # what is wrong with it, as a sentence
    languages: tuple[str, ...] | None = None  # codes; empty: only one; None: nobody says
    shapes: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)  # name: bytes

    @property
    def name(self) -> str:
        return self.named.name

    @property
    def is_here(self) -> bool:
        """On this machine, damaged or not."""
        return self.folder is not None

    @property
    def entry(self) -> Entry | None:
        """What the catalogue has."""
        return self.named.entry

    @property
    def size_text(self) -> str:
        """Of what is here, else roughly of the download."""
        if self.size:
            return f"{self.size / 1e6:,.0f} MB" if self.size >= 1e7 else f"{self.size / 1e6:.1f} MB"
        return f"~{self.entry.download:,} MB" if self.entry and self.entry.download else ""

    @property
    def parameters_text(self) -> str:
        return f"{self.entry.parameters:,} M" if self.entry else ""

    @property
    def english_only(self) -> bool | None:
        """As the catalogue says, else as the files do; None: nobody says."""
        if self.entry is not None:
            return self.entry.english_only
        return None if self.languages is None else not self.languages

    @property
    def languages_text(self) -> str:
        if self.english_only is None:
            return ""
        if self.english_only:
            return "English" if self.entry else "one"
        return str(len(self.languages)) if self.languages else "many"

    @property
    def licence(self) -> str:
        return self.entry.licence if self.entry else ""

    def as_json(self, everything: bool = False) -> dict[str, Any]:
        """For programs; sizes in bytes."""
        found: dict[str, Any] = {
            "name": self.name,
            "repository": self.named.repository or None,
            "installed": self.is_here and not self.trouble,
            "default": self.default,
            "trouble": self.trouble or None,
            "path": str(self.folder) if self.folder else None,
            "size": self.size or None,
            "revision": self.revision or None,
            "download": self.entry.download * 1_000_000 if self.entry and self.entry.download else None,
            "parameters": self.entry.parameters * 1_000_000 if self.entry else None,
            "english_only": self.english_only,
            "licence": self.licence or None,
        }
        if everything:
            listed = list(self.languages) if self.languages is not None else None
            found |= {"languages": listed, "shapes": self.shapes, "files": self.files}
        return found

    def lines(self) -> Iterator[tuple[str, str]]:
        """For people: what, and its value."""
        yield "Model", self.name + (" (the default)" if self.default else "")
        if self.trouble:
            yield "Trouble", self.trouble
        if not self.is_here and not self.trouble:
            yield "Here", f"no; get it with: amanuensis models pull {self.name}"
        if self.named.repository:
            yield "Hub", self.named.repository
        if self.revision:
            yield "Commit", self.revision
        if self.folder is not None:
            yield "Folder", str(self.folder)
        if self.size_text:
            yield "Size", self.size_text
        if self.parameters_text:
            yield "Parameters", self.parameters_text
        if self.languages_text:
            codes = f": {' '.join(self.languages)}" if self.languages else ""
            yield "Languages", self.languages_text + codes
        if self.licence:
            yield "Licence", self.licence
        if self.shapes:
            yield "Shapes", ", ".join(f"{value:,} {what}" for what, value in self.shapes.items())
        for at, (name, size) in enumerate(self.files.items()):
            yield "" if at else "Files", f"{name}  {size:,} bytes"


class Shelf:
    """All models that can be named on this machine."""

    def __init__(self, section: Model) -> None:
        """section: the configuration's."""
        self.store = Store.of(section.models_path)
        try:
            self._default = resolve(section.name).name
        except ModelError:
            self._default = ""

    def all(self) -> list[Facts]:
        """Those that are here first, then the rest of the catalogue."""
        pulled = [found if isinstance(found, Named) else found.named for found in self.store.installed()]
        begun = self.store.unfinished()
        named = {each.name: each for each in (*pulled, *begun)}
        default = [resolve(self._default)] if self._default else []
        catalogued = [resolve(entry.name) for entry in CATALOG]
        named |= {each.name: each for each in (*default, *catalogued) if each.name not in named}
        order = {entry.name: at for at, entry in enumerate(CATALOG)}
        facts = [self.of(each) for each in named.values()]
        return sorted(facts, key=lambda each: (not each.is_here, order.get(each.name, len(order)), each.name))

    def of(self, named: Named) -> Facts:
        """One of them, by sizes of files; nothing is read through."""
        default = named.name == self._default
        if named.embedded:
            return self._embedded(named, default)
        if named.folder is not None:
            return self._local(named, default)
        folder = self.store.path(named)
        if not folder.is_dir():
            begun = f"was pulled only in part; go on with: amanuensis models pull {named.name}"
            return Facts(named, default, trouble=begun if self.store.partial(named).is_dir() else "")
        try:
            found = self.store.require(named)
        except ModelError as error:
            return Facts(named, default, folder, size_of(folder), trouble=str(error))
        files = {name: record.size for name, record in found.manifest.files.items()}
        size, revision = found.manifest.size, found.manifest.revision
        return Facts(named, default, folder, size, revision, "", languages(folder), shapes(folder), files)

    def check_embedded(self) -> None:
        """ModelError where the embedded model is not what was released."""
        for file in _SHIPPED:
            shipped(file)

    def _embedded(self, named: Named, default: bool) -> Facts:
        try:
            package = package_folder()
            files = {Path(file.path).name: (package / file.path).stat().st_size for file in _SHIPPED}
        except (ModelError, OSError) as error:
            return Facts(named, default, trouble=str(error))
        sizes = {"decoder layers": TINY.layers, "decoder heads": TINY.heads, "tokens": TINY.vocabulary}
        folder = (package / ENCODER.path).parent
        return Facts(named, default, folder, sum(files.values()), "", "", (), sizes, files)

    def _local(self, named: Named, default: bool) -> Facts:
        assert named.folder is not None
        if not named.folder.is_dir():
            return Facts(named, default, trouble=f"there is no folder {named.folder}")
        files = {each.name: each.stat().st_size for each in sorted(named.folder.iterdir()) if each.is_file()}
        try:
            check_folder(named.folder)
        except ModelError as error:
            return Facts(named, default, named.folder, sum(files.values()), trouble=str(error), files=files)
        known, sizes = languages(named.folder), shapes(named.folder)
        return Facts(named, default, named.folder, sum(files.values()), "", "", known, sizes, files)
