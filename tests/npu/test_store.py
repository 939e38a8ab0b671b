"""Where pulled models live."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from npu.catalog import Named, resolve
from npu.manifest import FILE, FileRecord, Manifest, git_sha1_of, is_plain, sha256_of
from npu.store import Installed, Store, default_models_dir
from streaming.errors import ModelError

BASE, OURS = resolve("whisper-base"), resolve("us/ours")


def _put(store: Store, folder: Path, named: Named, content: bytes = b"abc") -> None:
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(content)
    Manifest(
        named.repository, "1" * 40, {"file": FileRecord(len(content), sha256_of(folder / "file"))}
    ).write(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With two models."""
    store = Store(tmp_path / "models")
    for named in (BASE, OURS):
        _put(store, store.path(named), named)
    return store


def test_the_user_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lies in the data directory."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_models_dir() == Store.of(None).root == tmp_path / "amanuensis" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_models_dir() == tmp_path / ".local" / "share" / "amanuensis" / "models"


def test_what_is_installed(store: Store) -> None:
    """Is known by its folders; those that are nobody's are left alone."""
    for name in ("notes", ".cache", "moonshine-tiny", "a--b--c", ".whisper-tiny.partial"):
        (store.root / name).mkdir()
    (store.root / "whisper-small").write_text("no folder")
    found = store.installed()
    assert [each.named for each in found if isinstance(each, Installed)] == [OURS, BASE]
    assert len(found) == 2 and store.unfinished() == [resolve("whisper-tiny")]
    assert Store(store.root / "nothing").installed() == []


def test_damage(store: Store) -> None:
    """By size at once, by content when asked; a manifest that cannot be read is damage, too."""
    found = store.require(BASE)
    found.check(thorough=True)
    (found.folder / "file").write_bytes(b"abd")
    found.check()
    with pytest.raises(ModelError, match=r"file has another content.*amanuensis models pull whisper-base"):
        found.check(thorough=True)
    (found.folder / "file").write_bytes(b"ab")
    with pytest.raises(ModelError, match="file has 2 bytes in place of 3"):
        store.require(BASE)
    for content in ("{", "[]", "{}", '{"files": {"x": 1}}'):
        (found.folder / FILE).write_text(content)
        with pytest.raises(
            ModelError, match=r"amanuensis.json is missing or damaged.*models pull whisper-base"
        ):
            store.find(BASE)
    assert BASE in store.installed()


def test_taking_a_model_in(store: Store) -> None:
    """Replaces the one before it all at once; where that fails, the one before it stays."""
    _put(store, store.partial(BASE), BASE, b"later")
    assert (store.take(BASE).folder / "file").read_bytes() == b"later"
    assert not store.partial(BASE).exists() and len(list(store.root.iterdir())) == 2
    with pytest.raises(FileNotFoundError):
        store.take(BASE)
    assert (store.path(BASE) / "file").read_bytes() == b"later"


def test_removal(store: Store) -> None:
    """Takes the beginnings of another pull along."""
    _put(store, store.partial(BASE), BASE)
    assert store.remove(BASE) > 6 and store.find(BASE) is None and store.unfinished() == []
    with pytest.raises(ModelError, match="not installed"):
        store.remove(BASE)
    assert store.find(OURS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Names the setting that chooses another."""
    tmp_path.chmod(0o500)
    with pytest.raises(ModelError, match="models_dir"), Store(tmp_path / "x").alone(BASE, lambda: None):
        pass


def test_names_within_a_folder() -> None:
    """Those that lead out of it are none."""
    assert is_plain("a.json") and is_plain("a/b.json")
    assert not any(map(is_plain, ("", "../a", "/a", "a/../../b", "..\\a")))


def test_git_s_hash(tmp_path: Path) -> None:
    """Is the one that `git hash-object` prints."""
    (tmp_path / "x").write_bytes(b"hello\n")
    assert git_sha1_of(tmp_path / "x") == "ce013625030ba8dba906f756967f9e9ca394464a"
