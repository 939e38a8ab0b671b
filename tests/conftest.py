"""Shared by all tests: recordings, a daemon in this process, a daemon in one of its own, and a bare producer."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from daemon.config import Config
from daemon.engine import Engine
from daemon.models import Known, Shelf
from daemon.server import listening
from daemon.service import Service
from npu.scripted import ScriptedTranscriber
from npu.xdna.design import Design
from npu.xdna.emulator import Emulator, Faults, Package, instructions
from npu.xdna.host_kernels import HostKernels
from npu.xdna.packages import LAYOUT, MANIFEST, Manifest, Source, digest_of, folder_of_packages
from streaming.containers import decode_container

ROOT = Path(__file__).parent.parent

# A word every 0.4 s for ten minutes, none of them twice.
SCRIPT = tuple((0.4 * i, 0.4 * i + 0.3, f"word{i}") for i in range(1_500))


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """`await eventually(lambda: ...)`: returns when it is true; TimeoutError after 5 s, or `timeout_s`."""

    async def wait(true: Callable[[], Any], timeout_s: float = 5.0) -> None:
        async with asyncio.timeout(timeout_s):
            while True:
                result = true()
                if await result if asyncio.iscoroutine(result) else result:
                    return
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def stand_in_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which tools that build for the NPU are installed. They only stand in for the real ones, and note
    their calls, as JSON, in its file `calls`.
    """
    root = tmp_path / "installed"
    script = ROOT / "tests/fixtures/stand_in_tools.py"
    for name in (
        "llvm-aie/bin/clang++",
        "mlir_aie/bin/aiecc",
        "mlir_aie/bin/bootgen",
        "path/xclbinutil",
        "path/g++",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" {path.name} "$@"\n')
        path.chmod(0o755)
    headers = root / "mlir_aie/include/aie_api"
    headers.mkdir(parents=True)
    (headers / "aie.hpp").touch()
    monkeypatch.setenv("STAND_IN_LOG", str(root / "calls"))
    return root


@pytest.fixture(scope="session")
def assets() -> Path:
    """Where the recordings lie that the embedded model's package ships: two_cities.wav and others."""
    spec = find_spec("moonshine_voice")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "assets"


@pytest.fixture(scope="session")
def meetings() -> Path:
    """A folder with a recorded meeting, m2.flac, and each voice of it alone, enrol/; not in the repository."""
    folder = ROOT.parent / "shared" / "meetings"
    if not (folder / "m2.flac").exists():
        pytest.skip(f"{folder} is not on this machine: the meeting is no part of the repository")
    return folder


@pytest.fixture(scope="session")
def recording(assets: Path) -> Callable[[str], NDArray[np.float32]]:
    """Loads a recording: [n] at 16 kHz."""
    loaded: dict[str, NDArray[np.float32]] = {}

    def load(name: str) -> NDArray[np.float32]:
        if name not in loaded:
            with (assets / name).open("rb") as file:
                loaded[name] = np.concatenate(list(decode_container(file)))
        return loaded[name]

    return load


@pytest.fixture(scope="session")
def pcm(recording: Callable[[str], NDArray[np.float32]]) -> Callable[..., bytes]:
    """Loads a recording, or the first `seconds` of it, as pcm_s16le at 16 kHz."""

    def load(name: str = "two_cities.wav", seconds: float | None = None) -> bytes:
        samples = recording(name)[: None if seconds is None else round(16_000 * seconds)]
        return (samples * 32_767).astype("<i2").tobytes()

    return load


@dataclass
class StandIn:
    """The emulator where `import pyxrt` finds XRT, and packages where `amanuensis npu build` leaves them."""

    kernels: HostKernels
    faults: Faults
    packages: dict[str, Package] = field(default_factory=dict)

    def install(self, design: Design, cache_dir: Path) -> None:
        """As if it had been built."""
        folder = folder_of_packages(cache_dir) / f"{design.name}-emulated"
        folder.mkdir(parents=True)
        package, streams = folder / f"{design.name}.xclbin", {}
        package.write_text("a package for the emulator")
        for each in design.sequences:
            streams[each.name] = f"{each.name}.bin"
            instructions(design, each.name).tofile(folder / streams[each.name])
        files = {path.name: digest_of(path) for path in folder.iterdir()}
        manifest = Manifest(LAYOUT, design.name, Source.of(design), {}, package.name, 5, streams, files)
        (folder / MANIFEST).write_text(json.dumps(asdict(manifest)))
        self.packages[str(package)] = Package(design, lambda: self.kernels)


@pytest.fixture(scope="session")
def host_kernels(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    """The kernels of the NPU, compiled for this machine, on the path that is quickest."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed; to run this: sudo apt install g++")
    return HostKernels(cache_dir=tmp_path_factory.mktemp("host-kernels"))


@pytest.fixture
def stand_in(host_kernels: HostKernels, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """XRT, emulated, from here on; nothing is built for it yet."""
    found = StandIn(host_kernels, Faults())
    monkeypatch.setitem(sys.modules, "pyxrt", Emulator(found.packages, found.faults))
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Config]:
    """Makes a Config for a test: a free port, its own journal, no calibration; sections are overrides."""

    def make(**sections: dict[str, Any]) -> Config:
        values: dict[str, Any] = {
            "server": {"port": 0},
            "journal": {"path": str(tmp_path / "journal.db")},
            "engine": {"capacity": 16, "workers": 2},
            "speech": {"silero": False},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
        return Config.model_validate(values)

    return make


@dataclass
class Daemon:
    """A running daemon in this process."""

    service: Service
    url: str  # http://...


DaemonMaker = Callable[..., AbstractAsyncContextManager[Daemon]]


@pytest.fixture
def daemon(settings: Callable[..., Config]) -> DaemonMaker:
    """`async with daemon(transcriber=..., **sections) as d`: a real one that transcribes by script.

    others: transcribers that are installed besides, or functions that load them.
    """

    @asynccontextmanager
    async def make(
        transcriber: Any = None,
        judges: Any = None,
        voices: Any = None,
        others: Mapping[str, Any] | None = None,
        **sections: Any,
    ) -> AsyncIterator[Daemon]:
        shelf = _shelf(others or {})
        engine = Engine(transcriber or ScriptedTranscriber(SCRIPT), judges, voices, shelf=shelf)
        async with Service.run(settings(**sections), engine) as service, listening(service) as url:
            yield Daemon(service, url)

    return make


def _shelf(others: Mapping[str, Any]) -> Shelf:
    def load(name: str) -> Any:
        return others[name]() if callable(others[name]) else others[name]

    return Shelf(lambda: [Known(name) for name in others], load)


@dataclass
class DaemonProcess:
    """A daemon that can be killed."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str] = field(default_factory=list)  # what it logged

    def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM -> exit status."""
        self.process.terminate()
        return self.process.wait(20)


_SCRIPTED = """
import sys
from daemon.config import Config
from daemon.engine import Engine
from daemon.server import serve
from npu.scripted import ScriptedTranscriber
from pathlib import Path
words = [(0.4 * i, 0.4 * i + 0.3, f"word{i}") for i in range(1500)]
sys.exit(serve(Config.load(Path(sys.argv[1])), Engine(ScriptedTranscriber(words))))
"""
_REAL = """
import sys
from daemon.config import Config
from daemon.server import serve
from pathlib import Path
sys.exit(serve(Config.load(Path(sys.argv[1]))))
"""


@pytest.fixture
def daemon_process(tmp_path: Path) -> Iterator[Callable[..., DaemonProcess]]:
    """Starts a daemon process: `daemon_process(scripted=False, server={...})`. All of them end with the test."""
    with _processes(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def lasting_daemon_process(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., DaemonProcess]]:
    """As `daemon_process`, for tests that share one; they end with the module."""
    with _processes(tmp_path_factory.mktemp("lasting")) as start:
        yield start


@contextmanager
def _processes(folder: Path) -> Iterator[Callable[..., DaemonProcess]]:
    started: list[subprocess.Popen[str]] = []

    def start(scripted: bool = True, **sections: dict[str, Any]) -> DaemonProcess:
        values: dict[str, dict[str, Any]] = {
            "server": {"port": 0},
            "journal": {"path": str(folder / "journal.db")},
            "engine": {"capacity": 16},
            "speech": {"silero": not scripted},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section}
        config = folder / "config.toml"
        config.write_text(
            "".join(
                f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
                for name, section in values.items()
            )
        )
        process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPTED if scripted else _REAL, str(config)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        daemon = DaemonProcess(process, "")
        assert process.stderr is not None
        for line in process.stderr:
            daemon.lines.append(line.rstrip())
            if found := re.search(r"listening on (http://\S+)", line):
                daemon.url = found[1]
                break
        assert daemon.url, "\n".join(daemon.lines)
        threading.Thread(
            target=lambda stream: daemon.lines.extend(line.rstrip() for line in stream),
            args=(process.stderr,),
            daemon=True,
        ).start()
        return daemon

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


class Producer:
    """A WebSocket to /v1/stream that says exactly what the test says. Frames from the server are dicts."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []  # everything received

    async def say(self, **message: Any) -> None:
        """Sends a text frame."""
        await self.socket.send(json.dumps(message))

    async def start(self, encoding: str = "pcm_s16le", rate: int = 16_000, **more: Any) -> dict[str, Any]:
        """Says `start` -> the answer, `started` or `error`."""
        channels = more.pop("channels", 1)
        audio = {"encoding": encoding, "sample_rate": rate, "channels": channels}
        await self.say(type="start", audio=audio, **more)
        return await self.hear()

    async def send(self, data: bytes, step: int = 3_200, pause_s: float = 0.0) -> None:
        """Sends audio in messages of `step` bytes."""
        for at in range(0, len(data), step):
            await self.socket.send(data[at : at + step])
            await asyncio.sleep(pause_s)

    async def hear(self, timeout_s: float = 10.0) -> dict[str, Any]:
        """The next frame."""
        async with asyncio.timeout(timeout_s):
            event: dict[str, Any] = json.loads(await self.socket.recv())
        self.events.append(event)
        return event

    async def until(self, kind: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """The next frame of a type; those before it are in `events`."""
        async with asyncio.timeout(timeout_s):
            while (event := await self.hear(timeout_s))["type"] != kind:
                pass
        return event

    async def closed(self, timeout_s: float = 10.0) -> int | None:
        """Reads to the end -> the close code."""
        async with asyncio.timeout(timeout_s):
            try:
                while True:
                    await self.hear(timeout_s)
            except ConnectionClosed:
                return self.socket.close_code

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The frames of a type received so far."""
        return [event for event in self.events if event["type"] == kind]


@pytest.fixture(scope="session")
def producer() -> Callable[..., AbstractAsyncContextManager[Producer]]:
    """`async with producer(url) as p`: connected, nothing said yet."""

    @asynccontextmanager
    async def open_socket(url: str, **more: Any) -> AsyncIterator[Producer]:
        address = url.replace("http://", "ws://") + "/v1/stream" + more.pop("query", "")
        how = {"subprotocols": ["amanuensis.v1"], "compression": None, "max_size": None, "max_queue": None}
        async with connect(address, **{**how, **more}) as socket:
            yield Producer(socket)

    return open_socket
