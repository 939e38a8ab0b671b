"""Models pulled by the real command from a hub on this machine that speaks as much of the hub's protocol as is used."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from daemon.__main__ import main

ROOT = Path(__file__).parent.parent.parent
TRAINED = ROOT / "tests" / "fixtures" / "whisper-small-talk"
COMMIT, LATER = "1" * 40, "2" * 40
MB = 1 << 20
NOBODY = "http://127.0.0.1:9"
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


def test_a_pull(machine: Machine, hub: Hub) -> None:
    """Fetches what is used and nothing else; afterwards the model is listed, shown, found and whole."""
    status, out, err = machine.pull(HF_TOKEN="hf_ours")
    assert status == 0, err
    folder = machine.models / "whisper-base"
    assert str(folder) in out and "5.2 MB of commit 111111111111" in out
    assert hub.tokens == {"Bearer hf_ours"}
    assert machine.names() == ["whisper-base"]
    assert {path.name for path in folder.iterdir()} == {*FILES, "amanuensis.json"} - {
        "README.md",
        "pytorch_model.bin",
    }
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == FILES[name]
    assert machine.run("path", "openai/whisper-base")[1].strip() == str(folder)
    listed = {each["name"]: each for each in json.loads(machine.run("list", "--json")[1])}
    base = listed["whisper-base"]
    assert base["installed"] and base["revision"] == COMMIT and base["path"] == str(folder)
    assert base["size"] == sum(path.stat().st_size for path in folder.iterdir() if path.name in FILES)
    assert not listed["whisper-tiny"]["installed"] and listed["whisper-tiny"]["download"] > 1e8
    assert listed["moonshine-tiny"]["default"]
    table = machine.run("list")[1].splitlines()
    assert [line.split()[:2] for line in table[1:3]] == [
        ["moonshine-tiny", "default"],
        ["whisper-base", "installed"],
    ]
    shown = machine.run("show", "whisper-base")[1]
    for part in (
        "openai/whisper-base",
        COMMIT,
        "2: en nl",
        "2 encoder layers",
        "80 mel bins",
        "tokenizer.json",
    ):
        assert part in shown, shown
    assert "is whole: 5 files" in machine.run("verify")[1]
    asked = len(hub.asked)
    status, out, err = machine.pull()
    assert status == 0 and "was here already" in out and len(hub.asked) == asked


def test_a_pull_that_is_killed(machine: Machine, hub: Hub) -> None:
    """Leaves nothing that could be taken for the model, and the next one goes on where it stopped."""
    hub.stall_at = 3 * MB + 4_096
    process = machine.start("pull", "whisper-base", "--no-build")
    assert hub.stalled.wait(10)
    parts = machine.models / ".whisper-base.partial"
    deadline = time.monotonic() + 10
    while sum(path.stat().st_size for path in parts.glob("model*.part")) < 3 * MB:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert machine.names() == [".whisper-base.partial"]
    machine.refused("pulled only in part", "models pull whisper-base", words=("verify", "whisper-base"))
    assert "in part" in machine.run("list")[1]
    hub.stall_at = None
    hub.asked.clear()
    status, _, err = machine.pull()
    assert status == 0, err
    assert hub.asked == [f"model.safetensors@{3 * MB}"]
    assert (machine.models / "whisper-base" / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert machine.names() == ["whisper-base"]


def test_an_interrupted_pull(machine: Machine, hub: Hub) -> None:
    """By Ctrl-C: says how to go on, and can be given up."""
    hub.stall_at = MB
    process = machine.start("pull", "whisper-base", "--no-build")
    assert hub.stalled.wait(10)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "here in part; to go on: amanuensis models pull whisper-base" in err
    assert machine.run("remove", "whisper-base", "--yes")[0] == 0
    assert machine.names() == []


def test_a_connection_that_breaks(machine: Machine, hub: Hub) -> None:
    """Is taken up again within the pull."""
    hub.cut_at = 2 * MB + 10
    assert machine.pull()[0] == 0
    first, second = [each for each in hub.asked if each.startswith("model")]
    assert first.endswith("@0") and int(second.partition("@")[2]) >= 2 * MB


@pytest.mark.parametrize("ranges", [True, False])
def test_what_came_before_is_wrong(machine: Machine, hub: Hub, ranges: bool) -> None:
    """Then the file is fetched once more from its beginning; a hub without ranges begins anew by itself."""
    hub.ignores_ranges = not ranges
    digest = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    part = machine.models / ".whisper-base.partial" / f"model.safetensors.{digest[:12]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1_000)
    (part.parent / "model.safetensors.of-another-commit.part").write_bytes(b"x")
    assert machine.pull()[0] == 0
    asked = [each for each in hub.asked if each.startswith("model")]
    assert asked == (["model.safetensors@1000", "model.safetensors@0"] if ranges else ["model.safetensors@0"])
    assert "is whole" in machine.run("verify", "whisper-base")[1]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_wrong_hash(machine: Machine, hub: Hub, name: str) -> None:
    """Of a large file, and of a small one that git keeps: refused, and nothing of it is kept."""
    hub.lies[name] = FILES[name][:-1] + b" "
    machine.refused(name, "came damaged", hub.url)
    assert machine.names() == [".whisper-base.partial"]
    assert (
        not list(machine.models.rglob("*.part"))
        and not (machine.models / ".whisper-base.partial" / name).exists()
    )
    hub.lies.clear()
    assert machine.pull()[0] == 0


def test_a_full_disk(machine: Machine, hub: Hub) -> None:
    """In the middle of a file: says what to do; with room it goes on."""
    machine.refused("could not be kept", "file too large", "pull again", "models remove", limit=2 * MB)
    assert machine.names() == [".whisper-base.partial"]
    assert machine.pull()[0] == 0
    assert hub.asked[-1] == f"model.safetensors@{2 * MB}"


def test_no_room(machine: Machine, hub: Hub) -> None:
    """Is found out before anything is fetched."""
    huge = _sibling("model.safetensors", b"")
    huge["size"] = huge["lfs"]["size"] = 1 << 60
    files = [_sibling("config.json", FILES["config.json"]), huge]
    said = {"id": "a/huge", "sha": COMMIT, "siblings": files}
    hub.answers["a/huge"] = (200, json.dumps(said))
    machine.refused("needs 1,152,921,504,671 MB", "are free", "models remove", "models_dir", name="a/huge")
    assert not hub.asked


def test_refusals_of_the_hub(machine: Machine, hub: Hub) -> None:
    """Become one sentence with what to do."""
    hub.answers |= {"a/gated": (403, "GatedRepo"), "a/busy": (503, ""), "a/many": (429, "")}
    machine.refused("accepted", f"{hub.url}/a/gated", "HF_TOKEN", name="a/gated")
    machine.refused("has no a/nothing", "check the name", "HF_TOKEN", name="a/nothing")
    machine.refused("status 503", "later", name="a/busy")
    machine.refused("no more requests", name="a/many")
    machine.refused("no revision 'v9'", words=("pull", "whisper-base", "--revision", "v9"))
    assert machine.names() == []


def test_no_hub(machine: Machine) -> None:
    """Says that a folder will do, and that the rest goes on working; so does asking for it to be left alone."""
    machine.refused("could not be had", NOBODY, "folder", "go on working", HF_ENDPOINT=NOBODY)
    machine.refused("HF_HUB_OFFLINE", "folder", HF_HUB_OFFLINE="1")
    assert machine.names() == []


def test_what_cannot_be_used(machine: Machine, hub: Hub) -> None:
    """Is refused before the weights are fetched."""
    hub.repositories["a/torch"] = {"config.json": FILES["config.json"], "pytorch_model.bin": b"x"}
    hub.repositories["a/llama"] = {**FILES, "config.json": b'{"model_type": "llama"}'}
    hub.repositories["a/bare"] = {name: FILES[name] for name in ("config.json", "model.safetensors")}
    machine.refused("no model.safetensors, only pytorch_model.bin", name="a/torch")
    machine.refused("a/llama is a model of the kind 'llama'", "whisper", name="a/llama")
    assert not any(each.startswith("model") for each in hub.asked) and machine.names() == []
    machine.refused("a/bare", "lacks tokenizer.json", "models remove a/bare", name="a/bare")
    machine.refused("installed with the package", name="moonshine-tiny")
    machine.refused("Did you mean whisper-base", name="whisper-bse")


def test_shards_and_a_name_of_its_own(machine: Machine, hub: Hub) -> None:
    """A repository outside the catalogue, its weights in several files."""
    shards = {f"model-0000{i}-of-00002.safetensors": _weights(1_000, i) for i in (1, 2)}
    index = {"weight_map": {f"w{i}": name for i, name in enumerate(shards)}}
    small = {name: content for name, content in FILES.items() if name.endswith(".json")}
    other = {"model.fp32-00001-of-00002.safetensors": b"not fetched"}
    hub.repositories["us/ours"] = {
        **small,
        **shards,
        **other,
        "model.safetensors.index.json": json.dumps(index).encode(),
    }
    assert machine.pull(name="us/ours")[0] == 0
    assert machine.names() == ["us--ours"]
    assert {path.name for path in (machine.models / "us--ours").glob("*.safetensors")} == set(shards)
    listed = {each["name"]: each for each in json.loads(machine.run("list", "--json")[1])}
    assert listed["us/ours"]["installed"]


def test_damage(machine: Machine, hub: Hub) -> None:
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


def test_another_revision(machine: Machine, hub: Hub) -> None:
    """Takes the place of the one before it; files that are the same are not fetched again."""
    assert machine.pull()[0] == 0
    hub.commit = LATER
    hub.repositories["openai/whisper-base"] = {**FILES, "tokenizer.json": b'{"later": 1}'}
    hub.asked.clear()
    assert "already" in machine.pull()[1] and hub.asked == []
    status, out, _ = machine.pull("--revision", "main")
    assert status == 0 and "2222222" in out and hub.asked == ["tokenizer.json@0"]
    assert machine.names() == ["whisper-base"] and machine.run("verify")[0] == 0


def test_two_pulls_at_once(machine: Machine, hub: Hub) -> None:
    """The second waits, and finds the model there."""
    hub.stall_at = MB
    first = machine.start("pull", "whisper-base", "--no-build")
    assert hub.stalled.wait(10)
    second = machine.start("pull", "whisper-base", "--no-build")
    assert second.stderr is not None and "Waiting for another pull" in second.stderr.readline()
    hub.stall_at = None
    hub.over.set()  # the connection breaks, and the first one goes on
    assert "is here" in first.communicate(timeout=30)[0]
    assert "was here already" in second.communicate(timeout=30)[0]
    assert [each for each in hub.asked if each.startswith("config")] == ["config.json@0"]


def test_use(machine: Machine, hub: Hub, tmp_path: Path) -> None:
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


def test_removal(machine: Machine) -> None:
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
def test_a_folder_that_is_not_there(machine: Machine, command: str) -> None:
    """Is said to be missing, and nobody is advised to pull it."""
    machine.refused("There is no folder", words=(command, "./nothing"))
