"""Files of transcripts: their names, and that they are whole."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.media import Recording
from daemon.outputs import EXPORTS, Outputs, Sheet, parse_formats, write_text
from npu.transcripts import Transcript
from streaming.errors import ConfigError
from streaming.events import SpeakerLabel, SpokenWord, Utterance


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
    outputs = Outputs([one, other, third], ("txt", "srt"), None)
    assert outputs.of(one) == [Path("talks/one.txt"), Path("talks/one.srt")]
    assert outputs.of(other)[0] == Path("talks/v1.2.wav.txt")
    assert outputs.of(third)[0] == Path("talks/v1.2.flac.txt")
    (deep,) = _recordings("talks/deep/one.mp3", below=Path("deep"))
    stdin = Recording("standard input", None)
    placed = Outputs([one, deep, stdin], ("md",), Path("out"))
    assert placed.of(one) == [Path("out/one.md")]
    assert placed.of(deep) == [Path("out/deep/one.md")]
    assert placed.of(stdin) == [Path("out/stdin.md")]


def test_names_that_are_the_same() -> None:
    """In one folder are numbered: nothing replaces another recording's transcripts."""
    one, other = _recordings("a/talk.wav", "b/talk.wav")
    placed = Outputs([one, other], ("txt",), Path("out"))
    assert placed.of(one) == [Path("out/talk.wav.txt")] and placed.of(other) == [Path("out/talk.wav.2.txt")]


def test_sheets() -> None:
    """Markdown and JSON say what the recording was, and what was done with it; VTT has word times where wanted."""
    words = tuple(
        SpokenWord(text=text, start=at, end=at + 0.4, confidence=0.9)
        for at, text in ((1.0, "Guten"), (1.5, "Tag."))
    )
    line = Utterance(
        utterance=1, start=1.0, end=2.0, text="Guten Tag.", language="de", words=words,
        speaker=SpeakerLabel(id="S1", name="Nell"),
    )  # fmt: skip
    made = Transcript("talk.wav", (line,), duration_s=75.0, speech_s=1.0, language="de")
    sheet = Sheet("talk.wav", made, True, "whisper-base", {"beam": 5}, "2026-11-25T10:00:00+00:00")
    page = EXPORTS["md"](sheet)
    for part in (
        "# talk.wav",
        "Duration: 1:15, 0:01 of it speech",
        "Language: de",
        "Speakers: Nell",
        "whisper",
    ):
        assert part in page
    assert "`00:00:01` **Nell:** Guten Tag." in page and "2026" in page
    data = json.loads(EXPORTS["json"](sheet))
    assert data["file"] == "talk.wav" and data["model"] == "whisper-base" and data["options"] == {"beam": 5}
    assert data["transcribed"] == "2026-11-25T10:00:00+00:00" and data["speech"] == 1.0
    (segment,) = data["segments"]
    assert segment["language"] == "de" and segment["words"][1]["confidence"] == 0.9
    assert "<v Nell>Guten <00:00:01.500>Tag.</v>" in EXPORTS["vtt"](sheet)
    assert "<v Nell>Guten Tag.</v>" in EXPORTS["vtt"](replace(sheet, words=False))


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
