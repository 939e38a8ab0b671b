"""Recordings as they are named on a command line."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from daemon.media import Recording, find, printable
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
    assert sum(map(len, recording.reading())) / 16_000 == pytest.approx(recording.seconds, abs=0.01)
    for path, says in (
        (folder / "a.wav", "nothing in it"),
        (folder / "no.wav", "not exist"),
        (folder, "folder"),
    ):
        broken = Recording("x", path)
        assert broken.seconds is None
        with pytest.raises(AudioError, match=says):
            list(broken.reading())


def test_a_pipe_that_nobody_writes_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given up after a while; one that somebody writes into is a recording like others."""
    monkeypatch.setattr("daemon.media.PATIENCE_S", 0.1)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="nobody wrote into it"):
        list(Recording("pipe.wav", tmp_path / "pipe.wav").reading())


def test_a_pipe(tmp_path: Path, assets: Path) -> None:
    """That is written into is read to its end, though nothing in it can be sought."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes((assets / "beckett.wav").read_bytes()))
    writer.start()
    assert sum(map(len, Recording("pipe", pipe).reading())) / 16_000 == pytest.approx(10, abs=0.5)
    writer.join()


def test_links(folder: Path, assets: Path) -> None:
    """To files are recordings; a folder that holds itself is no trap."""
    (folder / "z.wav").symlink_to(assets / "beckett.wav")
    (folder / "broken.wav").symlink_to(folder / "nowhere.wav")
    (folder / "loop").symlink_to(folder)
    assert [each.file_name for each in find([str(folder)])] == ["a.wav", "b.MP3", "c.mkv", "z.wav"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Überblick — 会議.wav", "Überblick — 会議.wav"),
        ("a\x1b[31m\n.wav", "a�[31m�.wav"),
        ("\udcff.wav", "�.wav"),
    ],
)
def test_odd_names(name: str, shown: str) -> None:
    """Are shown without what a terminal would obey or no encoding knows."""
    assert printable(name) == shown
