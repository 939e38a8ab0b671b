"""Models by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu.catalog import CATALOG, EMBEDDED, resolve
from streaming.errors import ModelError


def test_names_of_the_catalogue() -> None:
    """Stand for a repository of the hub, whichever of its names is used; one is installed with the package."""
    base = resolve("whisper-base")
    assert (base.repository, base.embedded, base.folder, base.key) == (
        "openai/whisper-base",
        False,
        None,
        "whisper-base",
    )
    assert base.entry is not None and not base.entry.english_only
    assert resolve("Openai/Whisper-Base") == resolve(" WHISPER-base ") == base
    assert resolve("whisper-large-v1").repository == "openai/whisper-large"
    assert resolve("distil-large-v3").repository == "distil-whisper/distil-large-v3"
    assert resolve(EMBEDDED).embedded and not resolve(EMBEDDED).repository


def test_the_catalogue_itself() -> None:
    """Has each model once, English-only ones named so, and sizes that fit what 16 or 32 bit weights take."""
    assert len({entry.name for entry in CATALOG}) == len(CATALOG)
    assert len({entry.repository for entry in CATALOG}) == len(CATALOG)
    for entry in CATALOG[1:]:
        assert entry.english_only == (entry.name.startswith("distil") or entry.name.endswith(".en"))
        assert any(0.95 < entry.download / (width * entry.parameters) < 1.05 for width in (2, 4)), entry


def test_any_repository_of_the_hub() -> None:
    """Is known by owner and name, and kept in a folder of its own."""
    named = resolve("somebody/whisper-small-nl")
    assert (named.repository, named.entry, named.key) == (
        "somebody/whisper-small-nl",
        None,
        "somebody--whisper-small-nl",
    )


def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is one when it is spelled as a path, or holds a checkpoint."""
    (tmp_path / "mine" / "tuned").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("./mine").folder == Path("mine")
    assert resolve(str(tmp_path)).folder == tmp_path
    assert resolve("mine/tuned").repository == "mine/tuned"
    (tmp_path / "mine" / "tuned" / "config.json").write_text("{}")
    assert resolve("mine/tuned").folder == Path("mine/tuned")
    assert not resolve("mine/tuned").repository


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("whisper-bse", "whisper-base"),
        ("base", "whisper-base"),
        ("large-v3", "whisper-large-v3"),
        ("turbo", "whisper-large-v3-turbo"),
        ("distil-large-v4", "distil-large-v3"),
        ("moonshine", EMBEDDED),
    ],
)
def test_a_slip(name: str, meant: str) -> None:
    """Is answered with the likeliest name first, then all others."""
    with pytest.raises(ModelError, match=f"called '{name}'. Did you mean {meant}[ ?]") as caught:
        resolve(name)
    assert all(entry.name in str(caught.value) for entry in CATALOG)


@pytest.mark.parametrize("name", ["", "parakeet", "a/b/c", "a/../b", "a--b/c", "x\0y", "é/x"])
def test_nonsense(name: str) -> None:
    """Is answered with what is known."""
    with pytest.raises(ModelError, match=f"(Known|Others) are .*{CATALOG[-1].name}"):
        resolve(name)
