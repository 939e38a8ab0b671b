"""Microphones of the daemon's machine: a real PulseAudio with a null sink stands for the hardware."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import capture
from daemon.capture_process import HEADER, Kind, record
from streaming.events import Final, Gap

needed = [name for name in ("pulseaudio", "pactl", "paplay") if shutil.which(name) is None]
sound = pytest.mark.skipif(bool(needed), reason=f"not installed: {', '.join(needed)}")


class Room:
    """A PulseAudio of its own; its source `room.monitor` hears what is played."""

    def __init__(self) -> None:
        self.module = ""

    def plug_in(self) -> None:
        """The device is there."""
        answer = subprocess.run(
            ["pactl", "load-module", "module-null-sink", "sink_name=room", "rate=48000"],
            check=True,
            capture_output=True,
            text=True,
        )
        self.module = answer.stdout.strip()

    def pull_out(self) -> None:
        """The device is gone."""
        subprocess.run(["pactl", "unload-module", self.module], check=True)

    def play(self, path: Path) -> subprocess.Popen[bytes]:
        """Someone speaks."""
        return subprocess.Popen(["paplay", "--device=room", str(path)])


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """A room, its microphone plugged in."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    for name, value in {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "PULSE_RUNTIME_PATH": str(home / "pulse"),
        "PULSE_SOURCE": "room.monitor",
    }.items():
        monkeypatch.setenv(name, value)
    server = subprocess.Popen(
        [
            "pulseaudio",
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--use-pid-file=no",
            "--disable-shm=yes",
            *("-L", "module-native-protocol-unix"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            if subprocess.run(["pactl", "info"], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.05)
        else:
            pytest.skip("pulseaudio does not start here")
        room = Room()
        room.plug_in()
        yield room
    finally:
        server.terminate()
        server.wait()


async def _finals(d: Any) -> list[Final]:
    return [event for event in await d.service.journal.events("room") if isinstance(event, Final)]


@sound
def test_a_device_that_vanishes_and_returns(
    daemon: Any, room: Room, assets: Path, eventually: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The same session goes on within a second of its return, with a gap that is as long as the hole."""
    caplog.set_level("INFO")

    async def main() -> None:
        async with daemon(capture=[{"device": "pulse", "session": "room"}]) as d:
            await eventually(lambda: "room" in d.service.drivers)
            driver = d.service.drivers["room"]
            await eventually(lambda: driver.core.next_sample > 8_000, 15)
            voice = room.play(assets / "two_cities.wav")
            await eventually(lambda: _finals(d), 20)
            room.pull_out()
            pulled = time.monotonic()
            voice.kill()
            voice.wait()
            await asyncio.sleep(3.0)
            before = driver.core.next_sample
            assert d.service.drivers["room"] is driver and driver.attached
            room.plug_in()
            returned, at = time.monotonic(), time.time()
            await eventually(lambda: driver.core.next_sample > before + 1_600, 5)
            opened = [r.created for r in caplog.records if "listens to" in r.getMessage()]
            assert len(opened) == 2 and opened[1] - at < 1.0
            voice = room.play(assets / "two_cities.wav")
            known = len(await _finals(d))

            async def more() -> bool:
                return len(await _finals(d)) > known

            await eventually(more, 20)
            voice.kill()
            voice.wait()
            gaps = [e for e in await d.service.journal.events("room") if isinstance(e, Gap)]
            (gap,) = [event for event in gaps if event.reason == "source_lost"]
            assert returned - pulled - 0.5 < gap.end - gap.start < returned - pulled + 2.5
        async with daemon(capture=[{"device": "pulse", "session": "room"}]) as d:
            record = await d.service.journal.session("room")
            assert record is not None and not record.ended
            await eventually(lambda: "room" in d.service.drivers)
            await eventually(
                lambda: d.service.drivers["room"].core.next_sample > record.decided_sample + 1_600, 15
            )

    asyncio.run(main())


@sound
def test_a_device_that_is_not_there(daemon: Any, room: Room, eventually: Callable[..., Any]) -> None:
    """The daemon runs, a note names what there is, other sessions are served."""

    async def main() -> None:
        async with daemon(capture=[{"device": "Theremin", "session": "x"}]) as d:
            await eventually(lambda: d.service.notes, 15)
            assert "Theremin" in d.service.notes[0]

    asyncio.run(main())


def test_without_portaudio(
    daemon: Any, eventually: Callable[..., Any], monkeypatch: Any, tmp_path: Path
) -> None:
    """The daemon runs without microphones, and a note names the package."""
    # A sounddevice that finds no library, as on a machine without libportaudio2.
    (tmp_path / "sounddevice.py").write_text('raise OSError("PortAudio library not found")\n')
    root = str(Path(capture.__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), root]))

    async def main() -> None:
        async with daemon(capture=[{"session": "x"}]) as d:
            await eventually(lambda: d.service.notes, 15)
            assert "libportaudio2" in d.service.notes[0]

    asyncio.run(main())


def test_records() -> None:
    """Carry their kind, their rate, when they were made, and their body."""
    data = record(Kind.AUDIO, 48_000, b"abcd")
    kind, at, rate, size = HEADER.unpack(data[: HEADER.size])
    assert (kind, rate, size) == (Kind.AUDIO, 48_000, 4) and abs(time.monotonic() - at) < 1
    assert data[HEADER.size :] == b"abcd"
