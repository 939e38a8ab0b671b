"""The `amanuensis` command as a person meets it: a process, its output, its exit status."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NOBODY = "http://127.0.0.1:9"


def _command(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "daemon", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _is_a_sentence(result: subprocess.CompletedProcess[str], status: int, *says: str) -> None:
    assert result.returncode == status, result
    assert result.stderr.startswith("amanuensis: ") and result.stderr.count("\n") == 1, result.stderr
    for words in says:
        assert words in result.stderr, result.stderr


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Folders of its own for configuration and journal."""
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "state")}


def test_help_teaches_and_is_quick() -> None:
    """Every command has a line, examples follow, and none of the heavy libraries is loaded for it."""
    begun = time.perf_counter()
    result = _command("--help")
    assert time.perf_counter() - begun < 1.5  # 0.15 s on a machine that does nothing else
    assert result.returncode == 0
    for word in (
        "serve",
        "listen",
        "stream",
        "transcribe",
        "watch",
        "voices",
        "devices",
        "doctor",
        "Examples",
        "amanuensis listen",
    ):
        assert word in result.stdout
    heavy = "numpy onnxruntime fastapi uvicorn websockets av sounddevice pydantic".split()
    code = f"import sys, daemon.cli; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert loaded == "[]\n"


@pytest.mark.parametrize("command", ["serve", "listen", "stream", "transcribe", "watch"])
def test_help_of_a_command_has_examples(command: str) -> None:
    """What one would type stands at the end."""
    result = _command(command, "--help")
    assert result.returncode == 0 and f"amanuensis {command}" in result.stdout.partition("Examples")[2]


def test_version() -> None:
    """Name and number, nothing else."""
    result = _command("--version")
    assert (
        result.returncode == 0 and result.stdout.startswith("amanuensis ") and result.stdout.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("stream", "--spede", "2", "x.wav"), ("--spede", "amanuensis stream --help")),
        (("strem",), ("strem", "amanuensis --help")),
        (("stream",), ("FILE", "amanuensis stream --help")),
        (("serve", "--port", "99999"), ("port", "amanuensis serve --help")),
    ],
)
def test_words_it_does_not_know(words: tuple[str, ...], says: tuple[str, ...]) -> None:
    """Status 2, and where to read what there is."""
    _is_a_sentence(_command(*words), 2, *says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("stream", "missing.wav"), ("missing.wav does not exist",)),
        (("stream", str(ROOT)), ("is a folder",)),
        (("stream", str(ROOT / "pyproject.toml")), ("pyproject.toml cannot be read as audio",)),
        (("watch", "monday", "--url", NOBODY), ("No daemon answers", "amanuensis serve")),
        (("watch", "monday", "--url", "ftp://box"), ("is not an address",)),
        (("listen", "--url", "ftp://box"), ()),
        (("serve", "--config", "missing.toml"), ("missing.toml does not exist",)),
        (("serve", "--port", "0", "--model", "enormous"), ("enormous",)),
        (("serve", "--port", "0", "--device", "abacus"), ("abacus",)),
    ],
)
def test_what_cannot_be_done(words: tuple[str, ...], says: tuple[str, ...], home: dict[str, str]) -> None:
    """Status 1, one sentence, no traceback."""
    result = _command(*words, **home)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    for part in says:
        assert part in result.stderr


def test_a_recording_without_a_daemon(assets: Path) -> None:
    """The address, and the command that starts one."""
    result = _command("stream", str(assets / "beckett.wav"), "--url", NOBODY)
    _is_a_sentence(result, 1, "127.0.0.1:9", "amanuensis serve")


def test_something_unexpected(assets: Path, tmp_path: Path) -> None:
    """One sentence that names the way to the traceback, which is then shown."""
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "console.py").write_text("1 / 0")
    (tmp_path / "rich" / "__init__.py").write_text("")
    words = ("watch", "monday", "--url", NOBODY)
    path = f"{tmp_path}:{ROOT}"
    _is_a_sentence(_command(*words, PYTHONPATH=path), 1, "ZeroDivisionError", "AMANUENSIS_DEBUG=1")
    assert "Traceback" in _command(*words, PYTHONPATH=path, AMANUENSIS_DEBUG="1").stderr


def test_a_port_in_use(home: dict[str, str]) -> None:
    """Said before anything is loaded, with another way."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        begun = time.perf_counter()
        result = _command("serve", "--port", str(port), **home)
        _is_a_sentence(result, 1, f"127.0.0.1:{port}", "--port")
        assert time.perf_counter() - begun < 10


def test_a_daemon_that_runs_already(daemon_process, home: dict[str, str]) -> None:
    """It is recognised."""
    port = daemon_process().url.rpartition(":")[2]
    _is_a_sentence(_command("serve", "--port", port, **home), 1, "A daemon runs at", "--port")


def test_serve_until_it_is_told_to_stop(home: dict[str, str], tmp_path: Path) -> None:
    """It says where the web page is, and ends in good order on Ctrl-C and on SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            [sys.executable, "-m", "daemon", "serve", "--port", "0"],
            env={**os.environ, "PYTHONPATH": str(ROOT), **home},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            guard = threading.Timer(60, process.kill)
            guard.start()
            line = next(line for line in process.stderr if "listening on" in line)
            assert "/web" in line
            process.send_signal(number)
            rest = process.stderr.read()
            guard.cancel()
        assert process.returncode == 0 and "Traceback" not in rest


def test_stream_and_watch(daemon_process, assets: Path, tmp_path: Path) -> None:
    """The finals come out as lines, the transcript is written, a viewer and a second run see the same session."""
    url = daemon_process().url
    file = tmp_path / "out.srt"
    words = ("stream", str(assets / "beckett.wav"), "--speed", "0", "--session", "talk", "--url", url)
    result = _command(*words, "--output", str(file))
    assert result.returncode == 0, result.stderr
    assert "word" in result.stdout and result.stdout.startswith("00:0")
    assert "session talk" in result.stderr and str(file) in result.stderr
    assert "-->" in file.read_text()
    watched = _command("watch", "talk", "--url", url)
    assert watched.returncode == 0 and watched.stdout == result.stdout
    assert "over" in watched.stderr
    _is_a_sentence(_command("watch", "nobody", "--url", url), 1, "nobody")
    _is_a_sentence(_command(*words), 1, "talk")


def test_options_of_stream_that_make_no_sense(assets: Path, tmp_path: Path) -> None:
    """They are refused before anything is sent."""
    one, two = str(assets / "beckett.wav"), str(assets / "two_cities.wav")
    _is_a_sentence(_command("stream", one, "-o", str(tmp_path / "x.docx")), 1, ".srt")
    _is_a_sentence(_command("stream", one, "-o", str(tmp_path / "no" / "x.srt")), 1, "mkdir -p")
    _is_a_sentence(_command("stream", one, two, "-o", "x.srt"), 1, "one by one")
    _is_a_sentence(_command("stream", one, two, "--session", "x"), 1, "one by one")


def test_ctrl_c(daemon_process, assets: Path) -> None:
    """A stream at real time ends at once, silently, with 130."""
    url = daemon_process().url
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", "stream", str(assets / "two_cities.wav"), "--url", url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline()  # it is under way
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130 and err == ""


def test_a_reader_that_leaves(daemon_process, assets: Path) -> None:
    """`amanuensis stream ... | head -1` ends without complaint."""
    url = daemon_process().url
    command = (
        f"{sys.executable} -m daemon stream {assets / 'two_cities.wav'} --speed 0 --url {url} | head -n 1"
    )
    result = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (
        result.stdout.count("\n") == 1 and "Traceback" not in result.stderr and "Error" not in result.stderr
    )


def test_a_token(daemon_process, assets: Path) -> None:
    """Without the token one is refused; it can come from the environment."""
    url = daemon_process(auth={"tokens": ["secret"]}).url
    words = ("stream", str(assets / "beckett.wav"), "--speed", "0", "--url", url)
    refused = _command(*words)
    _is_a_sentence(refused, 1)
    assert _command(*words, AMANUENSIS_TOKEN="secret").returncode == 0


def test_the_transcript_as_json(daemon_process, assets: Path, tmp_path: Path) -> None:
    """The suffix chooses the kind."""
    url = daemon_process().url
    file = tmp_path / "out.json"
    words = ("stream", str(assets / "beckett.wav"), "--speed", "0", "--url", url, "-o", str(file))
    assert _command(*words).returncode == 0
    assert json.loads(file.read_text())


def test_what_help_loads() -> None:
    """None of the large libraries: words come at once."""
    words = [sys.executable, "-X", "importtime", "-m", "daemon", "--help"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {
        "transformers",
        "tokenizers",
        "huggingface_hub",
        "onnxruntime",
        "onnx",
        "numpy",
        "fastapi",
    }
