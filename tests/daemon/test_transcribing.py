"""`amanuensis transcribe` as a person meets it: a process, its output, its files, its exit status."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import av
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of its own; the models are prepared once."""
    home = tmp_path_factory.mktemp("home")
    return {
        **{name: str(home / name) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")},
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }


@pytest.fixture
def transcribe(env: dict[str, str], tmp_path: Path):
    """Runs it in a folder of its own."""

    def run(*words: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-m", "daemon", "transcribe", *map(str, words)],
            env={**os.environ, **env},
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            timeout=100,
            check=False,
        )
        out, err = result.stdout.decode(), result.stderr.decode()
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(result.args, result.returncode, out, err)

    return run


@pytest.fixture
def folder(assets: Path, tmp_path: Path) -> Path:
    """Two recordings that differ in their suffixes, one further down, and what is none."""
    place = tmp_path / "talks"
    (place / "deep" / ".trash").mkdir(parents=True)
    shutil.copy(assets / "beckett.wav", place / "one.wav")
    shutil.copy(assets / "beckett.wav", place / "one.wave.WAV")
    shutil.copy(assets / "beckett.wav", place / "deep" / "two.wav")
    shutil.copy(assets / "beckett.wav", place / "deep" / ".trash" / "three.wav")
    (place / "notes.txt").write_text("not mine to touch")
    return place


def test_one_recording(transcribe, assets: Path, tmp_path: Path) -> None:
    """Its text, a line an utterance, on standard output; nothing is written; the rest goes to standard error."""
    result = transcribe(assets / "beckett.wav")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Ever tried.\n") and result.stdout.count("\n") > 3
    assert result.stderr.count("\n") == 1 and "× real time" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_standard_input(transcribe, assets: Path) -> None:
    """Is a recording like others."""
    audio = (assets / "beckett.wav").read_bytes()
    assert transcribe("-", stdin=audio).stdout == transcribe(assets / "beckett.wav").stdout
    _fails(transcribe("-", stdin=b"nothing of the kind" * 10), "standard input")


def _fails(result: subprocess.CompletedProcess[str], *says: str) -> None:
    assert result.returncode == 1 and result.stderr.startswith("amanuensis: "), result
    for part in says:
        assert part in result.stderr, result.stderr


def test_a_folder(transcribe, folder: Path) -> None:
    """All recordings below it, files beside them, names kept apart, a table; what exists is left alone."""
    result = transcribe(folder)
    assert result.returncode == 0, result.stderr
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*.txt")}
    assert written == {"notes.txt", "one.txt", "one.wave.txt", "deep/two.txt"}
    assert (folder / "notes.txt").read_text() == "not mine to touch"
    assert "Recording" in result.stderr and "deep/two.txt" in result.stderr and result.stdout == ""
    (folder / "one.txt").write_text("edited")
    (folder / "deep" / "two.txt").unlink()
    again = transcribe(folder)
    assert again.returncode == 0 and "one.txt exists; --overwrite" in again.stderr, again.stderr
    assert "one.wave.txt is up to date" in again.stderr and "deep/two.txt" in again.stderr
    assert (folder / "one.txt").read_text() == "edited"
    assert transcribe(folder, "--overwrite").returncode == 0
    assert "edited" not in (folder / "one.txt").read_text()


def test_names_that_would_collide(transcribe, assets: Path, tmp_path: Path) -> None:
    """Recordings that differ in their suffixes keep these."""
    for name in ("talk.wav", "talk.flac"):
        shutil.copy(assets / "beckett.wav", tmp_path / name)
    assert transcribe("talk.wav", "talk.flac").returncode == 0
    assert {path.name for path in tmp_path.glob("*.txt")} == {"talk.wav.txt", "talk.flac.txt"}


def test_formats(transcribe, assets: Path, folder: Path, tmp_path: Path) -> None:
    """Several at once, into a folder that is made, with the folders below the one that was named."""
    out = tmp_path / "out" / "here"
    result = transcribe(folder, "--format", "srt,VTT,.json,md", "-o", out, "--words")
    assert result.returncode == 0, result.stderr
    assert (out / "one.srt").read_text().startswith("1\n00:00:0")
    assert (out / "one.vtt").read_text().startswith("WEBVTT") and "<00:00:0" in (out / "one.vtt").read_text()
    assert (out / "deep" / "two.md").read_text().startswith("# two.wav\n")
    data = json.loads((out / "one.json").read_text())
    assert data["language"] == "en" and 9 < data["duration"] < 12 and data["speakers"] == []
    words = [word for segment in data["segments"] for word in segment["words"]]
    assert " ".join(word["text"] for word in words) == data["text"]
    assert "{srt,vtt,json,md}" in result.stderr


def test_speakers(transcribe, assets: Path) -> None:
    """Two people are told apart; a line is of one of them."""
    result = transcribe(assets / "endgame_nagg_nell.wav", "--diarize")
    assert result.returncode == 0, result.stderr
    names = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert names[0] == "S1" and {"S1", "S2"} <= set(names)


def test_somebody_who_is_enrolled(transcribe, env: dict[str, str], assets: Path) -> None:
    """Is named in recordings, too, until the voice is removed."""

    def voices(*words: str) -> None:
        command = [sys.executable, "-m", "daemon", "voices", *words]
        subprocess.run(command, env={**os.environ, **env}, capture_output=True, timeout=100, check=True)

    voices("enroll", "Reader", str(assets / "beckett.wav"), "--consent")
    named = transcribe(assets / "beckett.wav", "--diarize")
    assert {line.partition(":")[0] for line in named.stdout.splitlines()} == {"Reader"}, named.stdout
    voices("remove", "Reader")
    assert "Reader" not in transcribe(assets / "beckett.wav", "--diarize").stdout


def test_some_that_fail(transcribe, assets: Path, tmp_path: Path) -> None:
    """Are reported in a sentence each, the rest is done, and the status says so."""
    (tmp_path / "broken.mp3").write_text("no")
    (tmp_path / "empty.ogg").touch()
    shutil.copy(assets / "beckett.wav", tmp_path / "good.wav")
    result = transcribe("broken.mp3", "missing.wav", "empty.ogg", "good.wav")
    _fails(result, "broken.mp3: ", "missing.wav: It does not exist", "empty.ogg: There is nothing", "3 of 4")
    assert (tmp_path / "good.txt").read_text()


def test_a_recording_without_speech(transcribe, tmp_path: Path) -> None:
    """Has an empty transcript; that is no failure."""
    with wave.open(str(tmp_path / "quiet.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(64_000))
    result = transcribe("quiet.wav", "quiet.wav", "--diarize", "--format", "txt")
    assert result.returncode == 0 and (tmp_path / "quiet.txt").read_text() == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("x.wav", "--format", "docx"), ("docx", "srt")),
        (("x.wav", "--min-speakers", "3", "--max-speakers", "2"), ("--min-speakers 3",)),
        (("x.wav", "--diarizer-model", "there"), ("--diarizer pyannote",)),
        (("x.wav", "--language", "fr"), ("English",)),
        (("x.wav", "--model", "enormous"), ("enormous",)),
        (("x.wav", "--task", "translate"), ("does not translate", "--model")),
        (("x.wav", "--vocabulary", "@nowhere.txt"), ("@nowhere.txt", "cannot be read")),
        ((".",), ("no recording in the folder",)),
    ],
)
def test_what_cannot_be_done(transcribe, words: tuple[str, ...], says: tuple[str, ...]) -> None:
    """One sentence, before anything else."""
    result = transcribe(*words)
    _fails(result, *says)
    assert result.stderr.count("\n") == 1


def test_a_place_that_cannot_be_written(transcribe, assets: Path, tmp_path: Path) -> None:
    """Is reported for the recording, and nothing is left behind."""
    (tmp_path / "out").write_text("a file")
    _fails(transcribe(assets / "beckett.wav", "-o", "out"), "cannot be written", "--output-dir")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_ctrl_c(env: dict[str, str], assets: Path, tmp_path: Path) -> None:
    """Ends it at once, silently, with 130; what is finished stays, nothing half-written does."""
    for number in range(400):
        (tmp_path / f"{number:03}.wav").symlink_to(assets / "two_cities.wav")
    command = [sys.executable, "-m", "daemon", "transcribe", str(tmp_path)]
    process = subprocess.Popen(command, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True)
    with process:
        while not (tmp_path / "000.txt").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "Interrupted. What is done is kept; the same command goes on with the rest.\n"
    texts = sorted(tmp_path.glob("*.txt"))
    assert 0 < len(texts) < 400 and all(path.read_text() for path in texts)
    assert {path.name for path in tmp_path.glob(".*")} <= {".amanuensis.jsonl"}


def test_a_recording_that_changes(transcribe, assets: Path, tmp_path: Path) -> None:
    """Or other options make its transcript anew, unless somebody has edited it."""
    shutil.copy(assets / "beckett.wav", tmp_path / "talk.wav")
    assert transcribe("talk.wav", "-f", "txt").returncode == 0
    assert "is up to date" in transcribe("talk.wav", "-f", "txt").stderr
    assert "written to" in transcribe("talk.wav", "-f", "txt", "--vocabulary", "Beckett, tried").stderr
    shutil.copy(assets / "success.wav", tmp_path / "talk.wav")
    assert "written to" in transcribe("talk.wav", "-f", "txt", "--vocabulary", "Beckett,tried").stderr
    assert (tmp_path / "talk.txt").read_text() == ""


def _long(assets: Path, target: Path, times: int) -> None:
    """One recording many times over."""
    with wave.open(str(assets / "two_cities.wav")) as file:
        audio, shape = file.readframes(file.getnframes()), file.getparams()
    with wave.open(str(target), "wb") as file:
        file.setparams(shape)
        file.writeframes(audio * times)


def test_a_process_that_is_killed(env: dict[str, str], transcribe, assets: Path, tmp_path: Path) -> None:
    """In the middle of a long recording: the next one goes on there, and the transcript is the same."""
    _long(assets, tmp_path / "long.wav", 14)  # ten minutes
    sidecar = tmp_path / "out" / ".long.amanuensis"
    command = ["transcribe", "long.wav", "-f", "json,srt", "-o", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", *command], env={**os.environ, **env}, cwd=tmp_path
    )
    with process:
        while not sidecar.exists() or sidecar.stat().st_size < 10_000:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert sidecar.name in left and not left & {"long.json", "long.srt"}
    again = transcribe(*command[1:])
    assert again.returncode == 0, again.stderr
    assert not sidecar.exists() and (tmp_path / "out" / "long.srt").read_text().startswith("1\n")
    assert transcribe("long.wav", "-f", "json,srt", "-o", "whole").returncode == 0
    parts, whole = (json.loads((tmp_path / name / "long.json").read_text()) for name in ("out", "whole"))
    assert parts["segments"] == whole["segments"] and parts["duration"] == whole["duration"]
    assert parts["speech"] == pytest.approx(whole["speech"], abs=0.1)


HOSTILE = {
    "letter.wav": b"Dear all,\n" * 100,
    "empty.mp3": b"",
    "zeros.mp4": bytes(5_000),
    "cut.flac": b"fLaC\0\0\0\x22\x10",
}


def test_files_of_all_kinds(transcribe, assets: Path, tmp_path: Path) -> None:
    """What cannot be read is named with the reason, a sentence each; nothing is left under a final name."""
    for name, data in HOSTILE.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    odd = "a\nb\x1b[31m.wav"
    (tmp_path / odd).write_bytes(b"no")
    shutil.copy(assets / "beckett.wav", tmp_path / "übung 会議 'x'.wav")
    names = [*HOSTILE, "folder.wav/x.wav", "loop.wav", odd, "übung 会議 'x'.wav"]
    result = transcribe(*names, "-f", "txt")
    _fails(
        result, *(f"{name}: " for name in HOSTILE), "loop.wav: It cannot be read", "a�b�[31m.wav: ", "7 of 8"
    )
    failed = [line for line in result.stderr.splitlines() if line.startswith("amanuensis: ")]
    assert len(failed) == 7 and all(line.endswith(".") for line in failed)
    assert "\x1b" not in result.stderr
    assert [path.name for path in tmp_path.glob("*.txt")] == ["übung 会議 'x'.txt"]
    alone = transcribe("folder.wav")
    _fails(alone, "There is no recording in the folder folder.wav")


def test_a_recording_that_was_cut_off(transcribe, assets: Path, tmp_path: Path) -> None:
    """Is transcribed as far as it goes, and that it is not whole is said."""
    samples = np.zeros((1, 16_000), np.int16)
    out = io.BytesIO()
    with av.open(out, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=16_000)
        stream.layout = "mono"
        for _ in range(60):
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (tmp_path / "cut.flac").write_bytes(out.getvalue()[: len(out.getvalue()) // 2])
    result = transcribe("cut.flac", "-f", "txt")
    assert result.returncode == 0 and (tmp_path / "cut.txt").exists()
    assert "cut.flac: it ends after 0:" in result.stderr and "1:00 long" in result.stderr


def test_a_track_that_is_not_there(transcribe, assets: Path) -> None:
    """Is an error of the recording."""
    _fails(transcribe(assets / "beckett.wav", "--track", "2"), "one audio track; there is no number 2")
