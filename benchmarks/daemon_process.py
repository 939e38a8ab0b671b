"""A real daemon in a process of its own, on a free port, for benchmarks to talk to."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Daemon:
    """Where it listens, and its process."""

    url: str  # http://127.0.0.1:PORT
    pid: int

    @property
    def websocket(self) -> str:
        return self.url.replace("http", "ws", 1)

    def cpu_s(self) -> float:
        """CPU seconds of all its threads so far, as the scheduler counts them: exact, where clock ticks are 10 ms."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def rss_mb(self) -> float:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("The daemon has gone.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(core: int | None = None, config: str = "") -> Iterator[Daemon]:
    """Starts `amanuensis serve` with a journal of its own; pinned to a core where one is named."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text(f'[journal]\npath = "{folder}/journal.sqlite"\n{config}')
        command = [sys.executable, "-m", "daemon", "serve", "--port", str(port), "--config", str(path)]
        if core is not None:
            command = ["taskset", "-c", str(core), *command]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield Daemon(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait(20)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"The daemon ended with status {process.returncode} before it was ready.")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ready", timeout=1) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise SystemExit("The daemon was not ready in time.")
