"""The files that a checkpoint is made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from npu.checkpoint_folder import check_folder, languages, shapes, shards, worth_fetching
from streaming.errors import ModelError

TRAINED = Path(__file__).parents[1] / "fixtures" / "whisper-small-talk"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the trained checkpoint."""
    return Path(shutil.copytree(TRAINED, tmp_path / "copy"))


def test_what_is_fetched() -> None:
    """Is what is used: one kind of weights, and of the others nothing."""
    other = ["README.md", "pytorch_model.bin", "model.fp32-00001-of-00002.safetensors", "flax_model.msgpack"]
    shard, index = "model-00001-of-00001.safetensors", "model.safetensors.index.json"
    assert worth_fetching([*other, "merges.txt", "config.json", "model.safetensors"]) == [
        "config.json",
        "merges.txt",
        "model.safetensors",
    ]
    assert worth_fetching([*other, index, shard, "config.json"]) == ["config.json", index, shard]
    both = worth_fetching([index, shard, "model.safetensors", "config.json"])
    assert both == ["config.json", "model.safetensors"]
    with pytest.raises(ModelError, match=r"only flax_model.msgpack, pytorch_model.bin"):
        worth_fetching([*other[:2], other[3], "config.json"])
    with pytest.raises(ModelError, match=r"no config.json"):
        worth_fetching(["model.safetensors"])


def test_a_whole_folder(folder: Path) -> None:
    """Passes, with either kind of tokenizer; it says its shapes and languages."""
    check_folder(folder)
    (folder / "tokenizer.json").unlink()
    check_folder(folder)
    assert shapes(folder)["encoder layers"] == 4 and shapes(folder)["mel bins"] == 80
    assert languages(folder) == ("en", "es")
    (folder / "generation_config.json").unlink()
    assert languages(folder) is None


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", b"{", "config.json cannot be read as JSON"),
        ("config.json", b"[]", "not a JSON object"),
        ("config.json", b'{"model_type": "bert"}', "kind 'bert'.* whisper"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        ("model.safetensors", b"", "not a safetensors file"),
        ("model.safetensors", b"\xff" * 100, "not a safetensors file"),
        ("model.safetensors", (2).to_bytes(8, "little") + b"{}", "not a safetensors file"),
        ("model.safetensors", (1 << 20).to_bytes(8, "little") + b"{", "only its beginning"),
    ],
)
def test_a_damaged_file(folder: Path, name: str, content: bytes, says: str) -> None:
    """Is named, with what to do."""
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=says):
        check_folder(folder)


def test_shards(folder: Path) -> None:
    """All that the index names must be there; an index may not point outside the folder."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index.write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    assert shards(folder) == tuple(names)
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00002.safetensors"):
        check_folder(folder)
    for wrong in ({"a": "../../secret"}, {}, None, ["x"]):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(ModelError, match="does not say where the weights are"):
            check_folder(folder)
