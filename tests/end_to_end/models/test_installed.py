"""Models that have been pulled: used, damaged, and removed."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import pytest

TRAINED = Path(__file__).parents[2] / "fixtures" / "whisper-small-talk"


def test_damage(machine: Any, hub: Any) -> None:
    """A flipped bit is found by verify, a lost byte at once; a pull fetches the damaged file alone."""
    assert machine.pull()[0] == 0
    weights = machine.models / "whisper-base" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    machine.refused("model.safetensors has another content", "models pull whisper-base", words=("verify",))
    hub.asked.clear()
    assert machine.pull()[0] == 0 and hub.asked == ["model.safetensors@0"]
    assert machine.run("verify")[0] == 0
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "damaged" in machine.run("list")[1]
    (machine.models / "whisper-base" / "amanuensis.json").unlink()
    machine.refused("damaged", "amanuensis.json", words=("verify", "whisper-base"))
    assert machine.pull()[0] == 0 and machine.run("verify")[0] == 0


def test_use(machine: Any, hub: Any, tmp_path: Path) -> None:
    """A pull prepares the model: what is built then is not built again, and recordings are transcribed with it."""
    hub.repositories["us/talk"] = {path.name: path.read_bytes() for path in TRAINED.iterdir()}
    status, _, err = machine.run("pull", "us/talk")
    assert status == 0, err
    graphs = sorted((tmp_path / "cache").rglob("*.graph"))
    assert len(graphs) >= 2
    words = [sys.executable, "-m", "daemon", "transcribe", "--model"]
    for model in ("us/talk", str(TRAINED)):
        silence = subprocess.run(
            [*words, model, "-"],
            input=_silence(),
            env=machine.environment,
            capture_output=True,
            timeout=60,
        )
        assert silence.returncode == 0, silence.stderr
        assert silence.stdout.strip() == b""
        if model == "us/talk":
            assert graphs == sorted((tmp_path / "cache").rglob("us--talk*.graph"))
    missing = subprocess.run(
        [*words, "whisper-tiny", "-"], input=b"", env=machine.environment, capture_output=True, timeout=60
    )
    assert b"not installed. Get it with: amanuensis models pull whisper-tiny" in missing.stderr


def _silence() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(2 * 16_000))
    return stream.getvalue()


def test_removal(machine: Any) -> None:
    """Asks at a terminal, and wants --yes where there is none."""
    machine.refused("not installed", "models list", words=("remove", "whisper-base", "--yes"))
    machine.refused("not installed", "models pull whisper-base", words=("path", "whisper-base"))
    assert machine.pull()[0] == 0
    machine.refused("--yes", words=("remove", "whisper-base"))
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    words = [sys.executable, "-m", "daemon", "models", "remove", "whisper-base"]
    asked = subprocess.run(
        words, env=machine.environment, stdin=theirs, capture_output=True, text=True, timeout=30
    )
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == 1 and "Remove whisper-base (5.2 MB)?" in asked.stderr
    assert machine.names() == ["whisper-base"]
    assert "5.2 MB" in machine.run("remove", "whisper-base", "-y")[1]
    assert machine.names() == []
    (machine.models / ".whisper-base.former").mkdir()  # as a removal leaves it that was killed
    assert machine.run("remove", "whisper-base", "-y")[0] == 0 and machine.names() == []
    machine.refused("installed with the package", words=("remove", "moonshine-tiny", "-y"))


@pytest.mark.parametrize("command", ["show", "path", "pull", "verify"])
def test_a_folder_that_is_not_there(machine: Any, command: str) -> None:
    """Is said to be missing, and nobody is advised to pull it."""
    machine.refused("There is no folder", words=(command, "./nothing"))
