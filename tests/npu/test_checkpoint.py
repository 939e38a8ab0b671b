from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from npu.checkpoint import Checkpoint, Sizes
from npu.untrained import write_untrained
from npu.whisper import architecture_of, load_backend
from streaming.errors import ModelError

SIZES = Sizes(32, 2, 2, 64, 2, 2, 64, 99, 80, 50, 16)
QUERY = "model.encoder.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small checkpoint."""
    return write_untrained(tmp_path / "tiny", SIZES)


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_sizes(folder: Path) -> None:
    """They are those of the files."""
    checkpoint = Checkpoint(folder)
    assert checkpoint.sizes == SIZES
    assert checkpoint.aligned == {1: (0, 1)}
    assert checkpoint.tensor(QUERY, 32, 32).dtype == np.float32


def test_no_alignment_heads(folder: Path) -> None:
    """All heads of the upper half of the layers stand for them."""
    (folder / "generation_config.json").unlink()
    changed(folder / "config.json", decoder_layers=5)
    assert Checkpoint(folder).aligned == dict.fromkeys((2, 3, 4), (0, 1))


@pytest.mark.parametrize("heads", [[[7, 0]], [[0, 2]], [[-1, 0]], ["x"], 7])
def test_wrong_alignment_heads(folder: Path, heads: Any) -> None:
    """Heads that there are not are refused."""
    changed(folder / "generation_config.json", alignment_heads=heads)
    with pytest.raises(ModelError, match=r"generation_config\.json"):
        _ = Checkpoint(folder).aligned


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_other_storage(folder: Path, dtype: Any) -> None:
    """Half precision of either kind is read."""
    exact = load_file(folder / "model.safetensors")
    save_file({name: value.astype(dtype) for name, value in exact.items()}, folder / "model.safetensors")
    found = Checkpoint(folder).tensor(QUERY, 32, 32)
    assert found.dtype == np.float32
    assert np.abs(found - exact[QUERY]).max() < 0.01


def test_several_files(folder: Path) -> None:
    """An index says where each tensor is."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    places = {name: file for file, held in parts.items() for name in held}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert np.array_equal(Checkpoint(folder).tensor(QUERY, 32, 32), tensors[QUERY])
    (folder / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r"b\.safetensors is damaged or incomplete"):
        Checkpoint(folder).tensor(QUERY, 32, 32)


def test_names_without_the_root(folder: Path) -> None:
    """Checkpoints of the bare model name their tensors without it."""
    tensors = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("model."): value for name, value in tensors.items()}
    save_file(bare, folder / "model.safetensors")
    assert np.array_equal(Checkpoint(folder).tensor(QUERY, 32, 32), tensors[QUERY])


def without(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def of_torch(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: without(folder, QUERY), QUERY),
        (lambda folder: without(folder, "model.decoder.embed_tokens.weight"), "embed_tokens"),
        (cut_short, "damaged or incomplete"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "damaged or incomplete"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (of_torch, "without torch"),
        (lambda folder: changed(folder / "config.json", encoder_ffn_dim=65), "fc1.* is .64, 32., but"),
        (lambda folder: changed(folder / "config.json", model_type="bert"), "no Whisper checkpoint.*bert"),
        (lambda folder: changed(folder / "config.json", activation_function="relu"), "relu"),
        (lambda folder: changed(folder / "config.json", d_model="wide"), "d_model"),
        (lambda folder: changed(folder / "config.json", decoder_attention_heads=5), "divided"),
        (lambda folder: changed(folder / "config.json", decoder_attention_heads=4), "multiples of 16"),
        (lambda folder: changed(folder / "preprocessor_config.json", hop_length=200), "hop_length is 200"),
        (lambda folder: changed(folder / "preprocessor_config.json", feature_size=128), "feature_size"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), "config.json cannot be read"),
        (lambda folder: (folder / "generation_config.json").write_text("[]"), "holds no JSON object"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    ],
)
def test_bad_checkpoint(folder: Path, tmp_path: Path, harm: Callable[[Path], object], words: str) -> None:
    """A sentence that names what is wrong; nothing half-written is left behind."""
    harm(folder)
    cache = tmp_path / "cache"
    with pytest.raises(ModelError, match=words):
        load_backend(folder, "cpu", cache, "int8", 1, lambda _line: None)
    assert not [path for path in cache.glob("*") if path.suffix != ".graph"]


def test_folder_that_is_none(tmp_path: Path) -> None:
    """It has no config.json."""
    with pytest.raises(ModelError, match="no checkpoint"):
        Checkpoint(tmp_path / "nowhere")


def test_architecture(folder: Path) -> None:
    """It follows from the files alone."""
    found = architecture_of(Checkpoint(folder))
    assert (found.name, found.layers, found.heads, found.head_width) == ("tiny", 2, 2, 16)
    assert (found.vocabulary, found.most_tokens, found.most_samples) == (99, 16, 16_000)
    assert found.samples_per_state == 320
    assert found.token_limit(16_000, 16_000) == 16
