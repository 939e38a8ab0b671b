"""Models pulled by the real command from a hub on this machine."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from typing import Any

import pytest

COMMIT, LATER = "1" * 40, "2" * 40
MB = 1 << 20
NOBODY = "http://127.0.0.1:9"


def test_a_pull(machine: Any, hub: Any) -> None:
    """Fetches what is used and nothing else; afterwards the model is listed, shown, found and whole."""
    status, out, err = machine.pull(HF_TOKEN="hf_ours")
    assert status == 0, err
    folder = machine.models / "whisper-base"
    assert str(folder) in out and "5.2 MB of commit 111111111111" in out
    assert hub.tokens == {"Bearer hf_ours"}
    assert machine.names() == ["whisper-base"]
    assert {path.name for path in folder.iterdir()} == {*hub.files, "amanuensis.json"} - {
        "README.md",
        "pytorch_model.bin",
    }
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == hub.files[name]
    assert machine.run("path", "openai/whisper-base")[1].strip() == str(folder)
    listed = {each["name"]: each for each in json.loads(machine.run("list", "--json")[1])}
    base = listed["whisper-base"]
    assert base["installed"] and base["revision"] == COMMIT and base["path"] == str(folder)
    assert base["size"] == sum(path.stat().st_size for path in folder.iterdir() if path.name in hub.files)
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


def test_a_pull_that_is_killed(machine: Any, hub: Any) -> None:
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
    assert (machine.models / "whisper-base" / "model.safetensors").read_bytes() == hub.files[
        "model.safetensors"
    ]
    assert machine.names() == ["whisper-base"]


def test_an_interrupted_pull(machine: Any, hub: Any) -> None:
    """By Ctrl-C: says how to go on, and can be given up."""
    hub.stall_at = MB
    process = machine.start("pull", "whisper-base", "--no-build")
    assert hub.stalled.wait(10)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "here in part; to go on: amanuensis models pull whisper-base" in err
    assert machine.run("remove", "whisper-base", "--yes")[0] == 0
    assert machine.names() == []


def test_a_connection_that_breaks(machine: Any, hub: Any) -> None:
    """Is taken up again within the pull."""
    hub.cut_at = 2 * MB + 10
    assert machine.pull()[0] == 0
    first, second = [each for each in hub.asked if each.startswith("model")]
    assert first.endswith("@0") and int(second.partition("@")[2]) >= 2 * MB


@pytest.mark.parametrize("ranges", [True, False])
def test_what_came_before_is_wrong(machine: Any, hub: Any, ranges: bool) -> None:
    """Then the file is fetched once more from its beginning; a hub without ranges begins anew by itself."""
    hub.ignores_ranges = not ranges
    digest = hashlib.sha256(hub.files["model.safetensors"]).hexdigest()
    part = machine.models / ".whisper-base.partial" / f"model.safetensors.{digest[:12]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1_000)
    (part.parent / "model.safetensors.of-another-commit.part").write_bytes(b"x")
    assert machine.pull()[0] == 0
    asked = [each for each in hub.asked if each.startswith("model")]
    assert asked == (["model.safetensors@1000", "model.safetensors@0"] if ranges else ["model.safetensors@0"])
    assert "is whole" in machine.run("verify", "whisper-base")[1]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_wrong_hash(machine: Any, hub: Any, name: str) -> None:
    """Of a large file, and of a small one that git keeps: refused, and nothing of it is kept."""
    hub.lies[name] = hub.files[name][:-1] + b" "
    machine.refused(name, "came damaged", hub.url)
    assert machine.names() == [".whisper-base.partial"]
    assert (
        not list(machine.models.rglob("*.part"))
        and not (machine.models / ".whisper-base.partial" / name).exists()
    )
    hub.lies.clear()
    assert machine.pull()[0] == 0


def test_a_full_disk(machine: Any, hub: Any) -> None:
    """In the middle of a file: says what to do; with room it goes on."""
    machine.refused("could not be kept", "file too large", "pull again", "models remove", limit=2 * MB)
    assert machine.names() == [".whisper-base.partial"]
    assert machine.pull()[0] == 0
    assert hub.asked[-1] == f"model.safetensors@{2 * MB}"


def test_no_room(machine: Any, hub: Any, sibling: Any) -> None:
    """Is found out before anything is fetched."""
    huge = sibling("model.safetensors", b"")
    huge["size"] = huge["lfs"]["size"] = 1 << 60
    files = [sibling("config.json", hub.files["config.json"]), huge]
    said = {"id": "a/huge", "sha": COMMIT, "siblings": files}
    hub.answers["a/huge"] = (200, json.dumps(said))
    machine.refused("needs 1,152,921,504,671 MB", "are free", "models remove", "models_dir", name="a/huge")
    assert not hub.asked


def test_refusals_of_the_hub(machine: Any, hub: Any) -> None:
    """Become one sentence with what to do."""
    hub.answers |= {"a/gated": (403, "GatedRepo"), "a/busy": (503, ""), "a/many": (429, "")}
    machine.refused("accepted", f"{hub.url}/a/gated", "HF_TOKEN", name="a/gated")
    machine.refused("has no a/nothing", "check the name", "HF_TOKEN", name="a/nothing")
    machine.refused("status 503", "later", name="a/busy")
    machine.refused("no more requests", name="a/many")
    machine.refused("no revision 'v9'", words=("pull", "whisper-base", "--revision", "v9"))
    assert machine.names() == []


def test_no_hub(machine: Any) -> None:
    """Says that a folder will do, and that the rest goes on working; so does asking for it to be left alone."""
    machine.refused("could not be had", NOBODY, "folder", "go on working", HF_ENDPOINT=NOBODY)
    machine.refused("HF_HUB_OFFLINE", "folder", HF_HUB_OFFLINE="1")
    assert machine.names() == []


def test_what_cannot_be_used(machine: Any, hub: Any) -> None:
    """Is refused before the weights are fetched."""
    hub.repositories["a/torch"] = {"config.json": hub.files["config.json"], "pytorch_model.bin": b"x"}
    hub.repositories["a/llama"] = {**hub.files, "config.json": b'{"model_type": "llama"}'}
    hub.repositories["a/bare"] = {name: hub.files[name] for name in ("config.json", "model.safetensors")}
    machine.refused("no model.safetensors, only pytorch_model.bin", name="a/torch")
    machine.refused("a/llama is a model of the kind 'llama'", "whisper", name="a/llama")
    assert not any(each.startswith("model") for each in hub.asked) and machine.names() == []
    machine.refused("a/bare", "lacks tokenizer.json", "models remove a/bare", name="a/bare")
    machine.refused("installed with the package", name="moonshine-tiny")
    machine.refused("Did you mean whisper-base", name="whisper-bse")


def test_shards_and_a_name_of_its_own(machine: Any, hub: Any, weights: Any) -> None:
    """A repository outside the catalogue, its weights in several files."""
    shards = {f"model-0000{i}-of-00002.safetensors": weights(1_000, i) for i in (1, 2)}
    index = {"weight_map": {f"w{i}": name for i, name in enumerate(shards)}}
    small = {name: content for name, content in hub.files.items() if name.endswith(".json")}
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


def test_another_revision(machine: Any, hub: Any) -> None:
    """Takes the place of the one before it; files that are the same are not fetched again."""
    assert machine.pull()[0] == 0
    hub.commit = LATER
    hub.repositories["openai/whisper-base"] = {**hub.files, "tokenizer.json": b'{"later": 1}'}
    hub.asked.clear()
    assert "already" in machine.pull()[1] and hub.asked == []
    status, out, _ = machine.pull("--revision", "main")
    assert status == 0 and "2222222" in out and hub.asked == ["tokenizer.json@0"]
    assert machine.names() == ["whisper-base"] and machine.run("verify")[0] == 0


def test_two_pulls_at_once(machine: Any, hub: Any) -> None:
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
