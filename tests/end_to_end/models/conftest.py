"""A hub on this machine that speaks as much of the hub's protocol as is used, and a machine whose command asks it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from daemon.__main__ import main

ROOT = Path(__file__).parents[3]
COMMIT = "1" * 40
MB = 1 << 20
CONFIG = {
    "model_type": "whisper",
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "num_mel_bins": 80,
    "vocab_size": 512,
}
GENERATION = {"is_multilingual": True, "lang_to_id": {"<|en|>": 3, "<|nl|>": 4}}


def _weights(size: int, seed: int = 1) -> bytes:
    """A safetensors file with one tensor of so many bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    data = hashlib.shake_128(seed.to_bytes(4)).digest(size)
    return len(header).to_bytes(8, "little") + header + data


FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "generation_config.json": json.dumps(GENERATION).encode(),
    "preprocessor_config.json": b"{}",
    "tokenizer.json": b"{}",
    "README.md": b"not fetched",
    "pytorch_model.bin": b"not fetched",
    "model.safetensors": _weights(5 * MB),
}


@dataclass
class Hub:
    """What it has, how it misbehaves, and what it was asked."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"openai/whisper-base": FILES})
    commit: str = COMMIT
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))  # of whisper-base
    answers: dict[str, tuple[int, str]] = field(
        default_factory=dict
    )  # repository: status, and what it is or why
    lies: dict[str, bytes] = field(default_factory=dict)  # file: what comes in place of it
    stall_at: int | None = None  # bytes of the weights, then nothing more comes
    cut_at: int | None = None  # bytes of the weights, then the connection breaks; once
    ignores_ranges: bool = False
    url: str = ""
    asked: list[str] = field(default_factory=list)  # files, with the first byte: "model.safetensors@0"
    tokens: set[str | None] = field(default_factory=set)
    stalled: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self.hub.tokens.add(self.headers.get("Authorization"))
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._describe("/".join(parts[2:4]), parts[5] if parts[4:5] == ["revision"] else "main")
        elif parts[0] == "cdn":
            self._content(self.hub.repositories["/".join(parts[1:3])], parts[3])
        else:
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _describe(self, repository: str, revision: str) -> None:
        if repository in self.hub.answers:
            status, word = self.hub.answers[repository]
            if status == 200:
                return self._answer(200, word.encode(), {"Content-Type": "application/json"})
            return self._answer(status, b"{}", {"X-Error-Code": word})
        if repository not in self.hub.repositories:
            return self._answer(401, b"{}", {"X-Error-Message": "Invalid username or password."})
        if revision not in ("main", self.hub.commit):
            return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = self.hub.repositories[repository]
        siblings = [_sibling(name, content) for name, content in files.items()]
        said = {"id": repository, "modelId": repository, "sha": self.hub.commit, "siblings": siblings}
        return self._answer(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        assert revision == self.hub.commit
        files = self.hub.repositories[repository]
        if not name.endswith(".safetensors"):
            return self._content(files, name)
        return self._answer(302, b"", {"Location": f"/cdn/{repository}/{name}", "X-Repo-Commit": revision})

    def _content(self, files: dict[str, bytes], name: str) -> None:
        asked = self.headers.get("Range", "")
        begin = int(asked.removeprefix("bytes=").partition("-")[0] or 0) if not self.hub.ignores_ranges else 0
        self.hub.asked.append(f"{name}@{begin}")
        whole = self.hub.lies.get(name, files[name])
        headers = {"ETag": f'"{hashlib.sha256(whole).hexdigest()}"'}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(whole) - 1}/{len(whole)}"
        if name.endswith(".safetensors") and self.hub.stall_at is not None:
            self._answer(206 if begin else 200, whole[begin:], headers, self.hub.stall_at - begin)
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.over.wait(30)
            self.close_connection = True
        elif name.endswith(".safetensors") and self.hub.cut_at is not None:
            sent, self.hub.cut_at = self.hub.cut_at - begin, None
            self._answer(206 if begin else 200, whole[begin:], headers, sent)
            self.close_connection = True
        else:
            self._answer(206 if begin else 200, whole[begin:], headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent])

    def log_message(self, *_: Any) -> None:
        pass


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    found: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git}
    if name.endswith((".safetensors", ".bin")):
        found["lfs"] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "pointerSize": 134,
        }
    return found


@pytest.fixture(scope="session")
def weights() -> Callable[..., bytes]:
    """`weights(size, seed)`: a safetensors file with one tensor of so many bytes."""
    return _weights


@pytest.fixture(scope="session")
def sibling() -> Callable[[str, bytes], dict[str, Any]]:
    """How the hub describes a file of that name and content."""
    return _sibling


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that runs for the length of the test."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that were killed
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield hub
    hub.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Machine:
    """A machine with the command, and a folder for its models."""

    def __init__(self, home: Path, hub: Hub) -> None:
        self.models = home / "data" / "amanuensis" / "models"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "160",
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "HF_HOME": str(home / "hf"),
            "HF_ENDPOINT": hub.url,
        }

    def start(self, *words: str, limit: int | None = None, **environment: str) -> subprocess.Popen[str]:
        """The command, going on. limit: bytes that a file may have."""
        prepare: Callable[[], None] | None = None
        if limit is not None:
            prepare = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # noqa: E731
        return subprocess.Popen(
            [sys.executable, "-m", "daemon", "models", *words],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )

    def run(self, *words: str, limit: int | None = None, **environment: str) -> tuple[int, str, str]:
        """The command -> status, and what it printed. What asks no hub runs in this process, which is quicker."""
        if words[0] != "pull":
            return self._run_here(*words)
        process = self.start(*words, limit=limit, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def _run_here(self, *words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setattr("sys.argv", ["amanuensis", "models", *words])
            patch.setattr("sys.stdin", io.StringIO())
            for key, value in self.environment.items():
                patch.setenv(key, value)
            status = main()
        return status, out.getvalue(), err.getvalue()

    def pull(self, *more: str, name: str = "whisper-base", **how: Any) -> tuple[int, str, str]:
        """Without preparing it: these weights are noise."""
        return self.run("pull", name, "--no-build", *more, **how)

    def refused(self, *says: str, words: tuple[str, ...] = (), **how: Any) -> None:
        """The command fails with one sentence that says this."""
        status, _, err = self.run(*words, **how) if words else self.pull(**how)
        (line,) = [line for line in err.splitlines() if line.startswith("amanuensis: ")]
        assert status == 1 and "Traceback" not in err
        for part in says:
            assert part in line, line

    def names(self) -> list[str]:
        """What is in the folder, locks apart."""
        return sorted(path.name for path in self.models.glob("*") if not path.name.endswith(".lock"))


@pytest.fixture
def machine(tmp_path: Path, hub: Hub) -> Machine:
    """With the hub as its only one."""
    return Machine(tmp_path, hub)
