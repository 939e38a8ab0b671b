"""Microphones: a sound server of our own stands for the hardware, each use of PortAudio is a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Sound:
    """A running PulseAudio whose microphone hears what its speaker plays."""

    server: subprocess.Popen[bytes]
    env: dict[str, str]  # for programs that use it

    def play(self, recording: Path) -> subprocess.Popen[bytes]:
        """Plays a file, at real time."""
        return subprocess.Popen(["paplay", "--device=speaker", str(recording)], env=self.env)


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[Sound]:
    """The sound server; skipped where the system has none."""
    if not shutil.which("pulseaudio") or not shutil.which("paplay"):
        pytest.skip("needs a sound server: apt install pulseaudio pulseaudio-utils libasound2-plugins")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    socket = tmp_path / "sound.socket"
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    env = {
        **os.environ,
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "XDG_CACHE_HOME": cache,  # the model is ready there
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "PULSE_SERVER": f"unix:{socket}",
        "PYTHONPATH": str(ROOT),
    }
    modules = [
        f"module-native-protocol-unix socket={socket} auth-anonymous=1",
        "module-null-sink sink_name=speaker",
    ]
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
    with subprocess.Popen(
        [*command, *(word for module in modules for word in ("-L", module))],
        env=env,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            deadline = time.monotonic() + 10
            while subprocess.run(["pactl", "info"], env=env, capture_output=True, check=False).returncode:
                assert time.monotonic() < deadline, "the sound server does not start"
                time.sleep(0.1)
            yield Sound(server, env)
        finally:
            server.kill()


def _python(code: str, env: dict[str, str], timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=timeout_s, check=False
    )


_READ = """
import asyncio, os, signal, sys, time
import numpy as np
from clients.microphone import MicrophoneStream, list_microphones, rescan
from streaming.errors import CaptureError

async def main():
    assert [m for m in list_microphones() if m.is_default]
    async with MicrophoneStream("DEFAULT", rate=16_000) as microphone:
        heard, peak = 0, 0.0
        async for block in microphone:
            assert block.dtype == np.float32 and block.ndim == 1
            heard, peak = heard + len(block), max(peak, float(np.abs(block).max()))
            assert not rescan(), "a rescan would close this microphone"
            if heard > 4 * microphone.rate:
                break
        print("rate", microphone.rate, "peak", round(peak, 3), "lost", microphone.lost)
        os.kill(PID, signal.SIGKILL)
        begun = time.monotonic()
        try:
            async for block in microphone:
                pass
        except CaptureError as error:
            print("gone after", time.monotonic() - begun, error)
    print("closed after", time.monotonic() - begun)
asyncio.run(main())
"""


def test_a_microphone_that_hears_and_goes_away(sound: Sound, assets: Path) -> None:
    """Blocks of what is played arrive at the wanted rate; pulled out, it says so within seconds."""
    with sound.play(assets / "beckett.wav") as player:
        result = _python(_READ.replace("PID", str(sound.server.pid)), sound.env)
        player.kill()
    assert result.returncode == 0, result.stderr
    first, gone, closed = result.stdout.splitlines()
    assert first.startswith("rate 16000 peak 0.") and float(first.split()[3]) > 0.05, first
    assert float(gone.split()[2]) < 3.0 and "has gone away" in gone
    assert float(closed.split()[2]) < 6.0, "PortAudio hangs on a dead device, we do not"


def test_listen(sound: Sound, assets: Path) -> None:
    """The command starts its own daemon, writes what is said, and on Ctrl-C the last words too; status 130."""
    command = [sys.executable, "-m", "daemon", "listen", "--url", "http://127.0.0.1:9"]
    with subprocess.Popen(
        command, env=sound.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as listening:
        assert listening.stderr is not None
        for line in listening.stderr:
            if "Listening to" in line:
                break
        with sound.play(assets / "two_cities.wav") as player:
            time.sleep(8)
            listening.send_signal(signal.SIGINT)
            out, err = listening.communicate(timeout=20)
            player.kill()
    assert listening.returncode == 130, err
    assert "best of times" in out.lower(), (out, err)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("stub", "says"),
    [
        ("raise OSError('PortAudio library not found')", "apt install libportaudio2"),
        (
            "class PortAudioError(Exception): pass\nclass default: device = (-1, -1)\ndef query_devices(): return []",
            "no microphone",
        ),
    ],
)
@pytest.mark.parametrize("command", ["devices", "listen"])
def test_no_portaudio_and_no_microphone(tmp_path: Path, command: str, stub: str, says: str) -> None:
    """A sentence with what to do, status 1."""
    (tmp_path / "sounddevice.py").write_text(stub)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    result = subprocess.run(
        [sys.executable, "-m", "daemon", command],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    assert says in result.stderr and "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1
