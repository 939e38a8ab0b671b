"""For the tests of the web page: a daemon process, a Chromium whose microphone plays a recording, a proxy to cut."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the web page is tested with playwright")

ROOT = Path(__file__).parents[3]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)
_SCRIPTED = """
import asyncio, sys
from pathlib import Path
from daemon import log
from daemon.config import Config
from daemon.engine import Engine
from daemon.server import running
from npu.scripted import ScriptedTranscriber
words = [(0.4 * i, 0.4 * i + 0.3, f"word{i}") for i in range(1500)]
async def main():
    log.configure("info")
    async with running(Config.load(Path(sys.argv[1])), Engine(ScriptedTranscriber(words))) as url:
        print("listening on", url, file=sys.stderr, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
_REAL = """
import sys
from pathlib import Path
from daemon.config import Config
from daemon.engine import Engine
from daemon.server import serve
sys.exit(serve(Config.load(Path(sys.argv[1]))))
"""


class DaemonProcess:
    """A daemon of its own, with a journal that outlives it."""

    def __init__(self, folder: Path, scripted: bool, sections: dict[str, dict[str, Any]]) -> None:
        values: dict[str, dict[str, Any]] = {
            "server": {"port": 0},
            "journal": {"path": str(folder / "journal.db")},
            "engine": {"capacity": 8},
            **sections,
        }
        config = folder / "config.toml"
        config.write_text(
            "".join(
                f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
                for name, section in values.items()
            )
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPTED if scripted else _REAL, str(config)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        try:
            self.url = self._listen()
        except BaseException:
            self._end()
            raise
        self._drain = threading.Thread(target=lambda: self.lines.extend(self.process.stderr or ()))
        self._drain.start()

    @property
    def port(self) -> int:
        """Where it listens, on the loopback address."""
        return int(self.url.rpartition(":")[2])

    def _listen(self) -> str:
        for line in self.process.stderr or ():
            self.lines.append(line)
            if found := re.search(r"listening on (http://\S+)", line):
                return found[1]
        raise AssertionError("".join(self.lines))

    def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        self._end(self._drain)

    def _end(self, *readers: threading.Thread) -> None:
        self.process.kill()
        self.process.wait()
        for reader in readers:
            reader.join()
        if self.process.stderr is not None:
            self.process.stderr.close()


@pytest.fixture(scope="module")
def start_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., DaemonProcess]]:
    """`start_daemon(scripted=False, folder=None, auth={...})`: a daemon process, ended with the module."""
    started: list[DaemonProcess] = []

    def start(
        scripted: bool = False, folder: Path | None = None, **sections: dict[str, Any]
    ) -> DaemonProcess:
        made = DaemonProcess(folder or tmp_path_factory.mktemp("daemon"), scripted, sections)
        started.append(made)
        return made

    yield start
    for daemon in started:
        if daemon.process.returncode is None:
            daemon.kill()


@pytest.fixture(scope="module")
def real_daemon(start_daemon: Callable[..., DaemonProcess]) -> DaemonProcess:
    """A daemon with the embedded model."""
    return start_daemon()


@pytest.fixture(scope="module")
def scripted_daemon(start_daemon: Callable[..., DaemonProcess]) -> DaemonProcess:
    """A daemon whose model says word0 word1 ... whatever it hears."""
    return start_daemon(scripted=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Callable[[str], Any]]:
    """`browser("two_cities.wav")`: a Chromium whose microphone plays that recording once, then silence."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed; apt install chromium")
    spec = find_spec("moonshine_voice")
    assert spec is not None and spec.origin is not None
    assets = Path(spec.origin).parent / "assets"
    made: dict[str, Any] = {}
    with playwright.sync_playwright() as engine, ExitStack() as stack:

        def launch(recording: str) -> Any:
            if recording not in made:
                microphone = f"--use-file-for-fake-audio-capture={assets / recording}%noloop"
                made[recording] = engine.chromium.launch(executable_path=chromium, args=[*FLAGS, microphone])
                stack.callback(made[recording].close)
            return made[recording]

        yield launch


@pytest.fixture
def open_page(browser: Callable[[str], Any]) -> Iterator[Callable[..., Any]]:
    """`open_page(url, "two_cities.wav")`: a page in a fresh profile; an error in its scripts fails the test."""
    contexts: list[Any] = []
    errors: list[str] = []

    def open_in(url: str, recording: str = "two_cities.wav", **options: Any) -> Any:
        script = options.pop("init_script", None)
        context = browser(recording).new_context(viewport={"width": 1280, "height": 800}, **options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        if script:
            page.add_init_script(script)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: _note(errors, message))
        page.goto(url)
        return page

    yield open_in
    for context in contexts:
        context.close()
    assert not errors, errors


def _note(errors: list[str], message: Any) -> None:
    """What the browser itself says of a page: a refused inline style, a missing file, a broken module."""
    text = message.text
    if (
        message.type == "error"
        and "ERR_" not in text
        and "WebSocket" not in text
        and "status of 400" not in text
        and "status of 401" not in text
    ):
        errors.append(text)


class Proxy:
    """A loopback TCP proxy to a daemon that can be cut, and mended towards the same daemon or another."""

    def __init__(self) -> None:
        self.port = 0
        self._target = 0  # port; 0: whoever connects is thrown out
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._done = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()
        assert self._ready.wait(5)

    def mend(self, port: int) -> None:
        """Connections go to this port from now on."""
        self._target = port

    def cut(self) -> None:
        """Every connection ends now, and no other comes through."""
        self._target = 0
        self._loop.call_soon_threadsafe(self._abort)

    def close(self) -> None:
        """Ends the proxy and its thread."""
        self.cut()
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(5)
        self._loop.close()

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._done.wait()
        server.close()
        await asyncio.sleep(0.1)  # the aborted connections' tasks end

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._target:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        with self._listed(writer), self._listed(far_writer):
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer))
                group.create_task(_pump(far_reader, writer))

    @contextmanager
    def _listed(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with suppress(RuntimeError, OSError):
        writer.write_eof()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy that leads nowhere yet."""
    made = Proxy()
    yield made
    made.close()
