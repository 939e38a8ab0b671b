"""Files of transcripts: their names, and that they are whole."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from daemon.media import Recording
from daemon.outputs import Outputs, parse_formats, write_text
from streaming.errors import ConfigError


def _recordings(*paths: str, below: Path = Path()) -> list[Recording]:
    return [Recording(path, Path(path), below) for path in paths]


def test_formats() -> None:
    """In any spelling, each once."""
    assert parse_formats("txt") == ("txt",)
    assert parse_formats(" SRT,.json, srt") == ("srt", "json")
    with pytest.raises(ConfigError, match=r"docx.*txt, srt, vtt, json, md"):
        parse_formats("txt,docx")


def test_names() -> None:
    """Beside the recording, or in a folder; what would collide keeps its suffix."""
    one, other, third = _recordings("talks/one.mp3", "talks/v1.2.wav", "talks/v1.2.flac")
    outputs = Outputs([one, other, third], ("txt", "srt"), None, words=False)
    assert outputs.of(one) == [Path("talks/one.txt"), Path("talks/one.srt")]
    assert outputs.of(other)[0] == Path("talks/v1.2.wav.txt")
    assert outputs.of(third)[0] == Path("talks/v1.2.flac.txt")
    (deep,) = _recordings("talks/deep/one.mp3", below=Path("deep"))
    stdin = Recording("standard input", None)
    placed = Outputs([one, deep, stdin], ("md",), Path("out"), words=False)
    assert placed.of(one) == [Path("out/one.md")]
    assert placed.of(deep) == [Path("out/deep/one.md")]
    assert placed.of(stdin) == [Path("out/stdin.md")]


def test_writing(tmp_path: Path) -> None:
    """Makes folders, replaces what is there, with the usual permissions, and leaves nothing else."""
    target = tmp_path / "new" / "talk.txt"
    write_text(target, "eins")
    write_text(target, "zwei ✓")
    assert target.read_text("utf-8") == "zwei ✓"
    assert [path.name for path in target.parent.iterdir()] == ["talk.txt"]
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_writing_that_fails(tmp_path: Path) -> None:
    """Says what to do, and leaves nothing behind."""
    (tmp_path / "talk.txt").mkdir()
    with pytest.raises(ConfigError, match="--output-dir"):
        write_text(tmp_path / "talk.txt", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["talk.txt"]
