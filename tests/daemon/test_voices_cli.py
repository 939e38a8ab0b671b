"""The `voices` commands as a person meets them: questions, tables, sentences."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from daemon.voice_store import Enrolled, VoiceStore
from streaming.listening import VOICEPRINT

ROOT = Path(__file__).parent.parent.parent
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Folders of its own for configuration and state."""
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def store(home: dict[str, str]) -> VoiceStore:
    """The file that the commands use."""
    return VoiceStore(Path(home["XDG_STATE_HOME"]) / "amanuensis" / "voices.json")


def _voices(home: dict[str, str], *words: str, stdin: int | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "daemon", "voices", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **home},
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _at_a_terminal(answers: str, home: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """With somebody who answers."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answers.encode())
        return _voices(home, *words, stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def _refused(result: subprocess.CompletedProcess[str], *says: str) -> None:
    assert result.returncode == 1, result
    assert result.stderr.startswith("amanuensis: ") and result.stderr.count("\n") == 1, result.stderr
    for words in says:
        assert words in result.stderr, result.stderr


def _enrolled(name: str) -> Enrolled:
    return Enrolled.of(name, np.ones(VOICEPRINT, np.float32), 12.5, 1_700_000_000.0, "stated with --consent")


@pytest.mark.parametrize("command", ["enroll", "list", "remove"])
def test_help_has_examples(command: str, home: dict[str, str]) -> None:
    """What one would type stands at the end."""
    result = _voices(home, command, "--help")
    assert result.returncode == 0
    assert f"amanuensis voices {command}" in result.stdout.partition("Examples")[2]


def test_consent_is_asked_for(home: dict[str, str], store: VoiceStore, assets: Path) -> None:
    """At a terminal; without yes nothing is stored."""
    recording = str(assets / "beckett.wav")
    refused = _at_a_terminal("n\n", home, "enroll", "Sam", recording)
    assert refused.returncode == 1 and "Does Sam agree" in refused.stderr
    assert "nothing was stored" in refused.stderr and not store.path.exists()
    agreed = _at_a_terminal("y\n", home, "enroll", "Sam", recording)
    assert agreed.returncode == 0, agreed.stderr
    assert "“Sam” is enrolled with 8" in agreed.stdout and str(store.path) in agreed.stdout
    (voice,) = store.voices()
    assert voice.name == "Sam" and voice.consent == "confirmed at a terminal"


def test_nobody_to_ask(home: dict[str, str], store: VoiceStore, assets: Path) -> None:
    """Is refused with the option that says it."""
    _refused(_voices(home, "enroll", "Sam", str(assets / "beckett.wav")), "agrees", "--consent")
    assert not store.path.exists()


def test_a_name_that_is_taken(home: dict[str, str], store: VoiceStore, assets: Path) -> None:
    """Is asked about, or replaced with --yes."""
    store.add(_enrolled("Sam"))
    recording = str(assets / "beckett.wav")
    _refused(_voices(home, "enroll", "Sam", recording, "--consent"), "enrolled already", "--yes")
    kept = _at_a_terminal("n\n", home, "enroll", "Sam", recording, "--consent")
    assert kept.returncode == 1 and "stays as it was" in kept.stderr
    assert store.voices() == (_enrolled("Sam"),)
    assert _voices(home, "enroll", "Sam", recording, "--consent", "--yes").returncode == 0
    assert store.voices()[0].voiceprint != _enrolled("Sam").voiceprint


def test_recordings_that_do_not_do(home: dict[str, str], store: VoiceStore, assets: Path) -> None:
    """Name the file and what is wrong with it."""
    two = assets / "endgame_nagg_nell.wav"
    _refused(
        _voices(home, "enroll", "Nell", str(two), "--consent"), str(two), "more than one voice", " s and "
    )
    _refused(_voices(home, "enroll", "Nell", "no-such.wav", "--consent"), "no-such.wav does not exist")
    _refused(_voices(home, "enroll", "Nell", __file__, "--consent"), Path(__file__).name)
    assert not store.path.exists()


def test_words_that_do_not_fit_together(home: dict[str, str]) -> None:
    """Say how it is meant."""
    _refused(_voices(home, "enroll", "Nell"), "recordings, or --session and --speaker")
    _refused(_voices(home, "enroll", "Nell", "x.wav", "--session", "monday"), "in one way")
    _refused(_voices(home, "enroll", "Nell", "--speaker", "S1"), "in one way")
    _refused(_voices(home, "enroll", "", "x.wav"), "1 to 100")


def test_the_list_and_removal(home: dict[str, str], store: VoiceStore) -> None:
    """A table of who, how much, when and with what consent; then it says what it did."""
    empty = _voices(home, "list")
    assert empty.returncode == 0 and "Nobody is enrolled" in empty.stdout
    store.add(_enrolled("Nell [b]Bell[/b]"))
    store.add(_enrolled("Nagg").model_copy(update={"model": "another"}))
    listed = _voices(home, "list").stdout.splitlines()
    assert listed[0].split() == ["Name", "Speech", "Enrolled", "Consent"]
    assert "Nell [b]Bell[/b]" in listed[1] and "12.5 s" in listed[1] and "2023-11-1" in listed[1]
    assert "stated with --consent" in listed[1] and "not used: made by another" in listed[2]
    removed = _voices(home, "remove", "Nagg")
    assert removed.returncode == 0 and "removed from" in removed.stdout
    _refused(_voices(home, "remove", "Nagg"), "Nobody is enrolled as “Nagg”", "voices list")


def test_a_damaged_file(home: dict[str, str], store: VoiceStore) -> None:
    """Is one sentence."""
    store.path.parent.mkdir(parents=True)
    store.path.write_text("{")
    _refused(_voices(home, "list"), str(store.path), "cannot be used", "remove it")
    _refused(_voices(home, "remove", "Nell"), "cannot be used")


def test_no_daemon(home: dict[str, str]) -> None:
    """The commands that ask one say how to start it."""
    session = ("--session", "monday", "--speaker", "S1", "--consent")
    for words in (("enroll", "Nell", *session), ("list",), ("remove", "Nell")):
        _refused(_voices(home, *words, "--url", NOBODY), "No daemon answers", "amanuensis serve")
