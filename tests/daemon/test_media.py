"""Recordings as they are named on a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.media import Recording, find
from streaming.errors import AudioError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recordings, some of them further down, and other things."""
    for name in ("b.MP3", "a.wav", "deep/er/c.mkv", ".trash/d.wav", "._a.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_folder(folder: Path) -> None:
    """Stands for the recordings below it, in order of name, hidden ones left out."""
    found = find([str(folder)])
    assert [recording.file_name for recording in found] == ["a.wav", "b.MP3", "c.mkv"]
    assert [recording.below for recording in found] == [Path(), Path(), Path("deep/er")]


def test_what_is_named(folder: Path) -> None:
    """Is taken as it is, in that order, each once."""
    names = [str(folder / "notes.txt"), "-", str(folder / "a.wav"), str(folder), "missing.wav", "-"]
    found = find(names)
    assert [recording.file_name for recording in found] == [
        "notes.txt",
        "stdin",
        "a.wav",
        "b.MP3",
        "c.mkv",
        "missing.wav",
    ]


def test_a_folder_without_recordings(folder: Path) -> None:
    """Is refused."""
    with pytest.raises(AudioError, match="no recording"):
        find([str(folder / "empty")])


def test_reading(folder: Path, assets: Path) -> None:
    """The length as the header tells, the samples; AudioError where there are none."""
    recording = Recording("x", assets / "beckett.wav")
    assert recording.seconds == pytest.approx(10, abs=0.5)
    assert sum(map(len, recording.blocks())) / 16_000 == pytest.approx(recording.seconds, abs=0.01)
    for path, says in (
        (folder / "a.wav", "nothing in it"),
        (folder / "no.wav", "not exist"),
        (folder, "read"),
    ):
        broken = Recording("x", path)
        assert broken.seconds is None
        with pytest.raises(AudioError, match=says):
            list(broken.blocks())
