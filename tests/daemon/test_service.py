"""The service: what it says of itself, how it starts and in which order it stops."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from daemon.config import Config
from daemon.engine import Engine
from daemon.notify import notify, watchdog_period
from daemon.server import running
from daemon.service import Service
from npu.scripted import ScriptedTranscriber
from streaming.errors import ConfigError, JournalError, ModelError, Restarting
from streaming.protocol import AudioFormat, Start

START = Start(audio=AudioFormat(encoding="pcm_s16le", sample_rate=16_000))


def test_a_port_that_is_taken(settings: Any) -> None:
    """Is a ConfigError that names it."""
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]

    async def main() -> None:
        async with running(settings(server={"port": port}), Engine(ScriptedTranscriber([]))):
            pass

    with pytest.raises(ConfigError, match=f"{port}.*--port"):
        asyncio.run(main())
    taken.close()


def test_a_state_directory_that_cannot_be_written(settings: Any, tmp_path: Path) -> None:
    """Is a JournalError at the start."""
    (tmp_path / "file").write_text("")

    async def main() -> None:
        async with Service.run(
            settings(journal={"path": str(tmp_path / "file" / "j.db")}), Engine(ScriptedTranscriber([]))
        ):
            pass

    with pytest.raises(JournalError):
        asyncio.run(main())


def test_a_model_that_is_not_there(settings: Any) -> None:
    """Is a ModelError at the start."""

    async def main() -> None:
        async with Service.run(settings(model={"name": "no-such-model"})):
            pass

    with pytest.raises(ModelError, match="no-such-model"):
        asyncio.run(main())


def test_an_error_within_the_block(settings: Any) -> None:
    """Comes out as it is, after an orderly end."""

    async def main() -> None:
        async with running(settings(), Engine(ScriptedTranscriber([]))):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("engine-")]


def test_cancellation(settings: Any) -> None:
    """Of whoever runs the daemon ends it in order too."""

    async def main() -> None:
        up = asyncio.Event()

        async def run() -> None:
            async with running(settings(), Engine(ScriptedTranscriber([]))):
                up.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(run())
        await up.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)

    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("engine-", "journal-"))]


def test_stopping_twice(daemon: Any) -> None:
    """Waits for the same end; a session asked for afterwards is refused."""

    async def main() -> None:
        async with daemon() as d:
            await asyncio.gather(d.service.stop(), d.service.stop())
            with pytest.raises(Restarting):
                await d.service.open_session(START)

    asyncio.run(main())


def test_stopping_with_a_slow_model(daemon: Any, producer: Any, pcm: Any) -> None:
    """Waits for speech in progress no longer than shutdown_s and the window that is out."""

    async def main() -> None:
        model = ScriptedTranscriber([(0.4 * i, 0.4 * i + 0.3, f"w{i}") for i in range(99)], delay_s=0.8)
        async with daemon(model, server={"shutdown_s": 0.2}) as d, producer(d.url) as p:
            await p.start()
            await p.send(pcm(seconds=9))
            await asyncio.sleep(0.3)
            async with asyncio.timeout(4):
                await d.service.stop()

    asyncio.run(main())


def test_a_deleted_session(daemon: Any, producer: Any) -> None:
    """Its producer is sent away, and nothing of it is written any more."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start(session="gone")
            await p.send(bytes(64_000))
            d.service.forget("gone")
            assert await p.closed() == 4404
            await d.service.journal.delete("gone")
            assert await d.service.journal.session("gone") is None

    asyncio.run(main())


class Supervisor:
    """The end of NOTIFY_SOCKET that systemd holds."""

    def __init__(self, path: Path) -> None:
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.channel.bind(str(path))
        self.channel.settimeout(5)

    def heard(self) -> str:
        """The next message."""
        return self.channel.recv(4_096).decode()


def test_notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reaches the supervisor; without one, or with one that is gone, nothing happens."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    assert not notify("READY=1")
    supervisor = Supervisor(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    assert notify("READY=1") and supervisor.heard() == "READY=1"
    supervisor.channel.close()


def test_the_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is fed twice as often as it wants, if it watches this process."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert watchdog_period() is None
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    assert watchdog_period() == 5.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_period() is None


def test_a_daemon_under_a_supervisor(
    daemon_process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Says READY when it listens, feeds the watchdog, says STOPPING, ends with 0, and names its URL in the log."""
    supervisor = Supervisor(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    process = daemon_process()
    assert supervisor.heard().startswith("READY=1\nSTATUS=Listening on http://127.0.0.1:")
    assert supervisor.heard() == "WATCHDOG=1"
    assert process.terminate() == 0
    while (said := supervisor.heard()) == "WATCHDOG=1":
        pass
    assert said == "STOPPING=1"
    supervisor.channel.close()


def test_two_daemons_in_one_process(settings: Any, tmp_path: Path) -> None:
    """Do not share anything."""

    async def main() -> None:
        other: Config = settings(journal={"path": str(tmp_path / "other.db")})
        async with (
            running(settings(), Engine(ScriptedTranscriber([]))) as a,
            running(other, Engine(ScriptedTranscriber([]))) as b,
        ):
            assert a != b

    asyncio.run(main())
