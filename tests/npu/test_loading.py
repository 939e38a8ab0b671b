from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from npu.catalog import resolve
from npu.loading import load_transcriber
from npu.manifest import FileRecord, Manifest, sha256_of
from npu.store import Store
from streaming.errors import ModelError

TRAINED = Path(__file__).parents[1] / "fixtures" / "whisper-small-talk"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With the trained checkpoint as if it had been pulled, under a name outside the catalogue and one in it."""
    store = Store(tmp_path / "models")
    for name in ("us/talk", "distil-small.en"):
        folder = store.path(resolve(name))
        shutil.copytree(TRAINED, folder)
        files = {path.name: FileRecord(path.stat().st_size, sha256_of(path)) for path in TRAINED.iterdir()}
        Manifest(resolve(name).repository, "1" * 40, files).write(folder)
    return store


def test_embedded_model(cache_dir: Path) -> None:
    """It loads, and says what it is and what it runs on."""
    lines: list[str] = []
    model = load_transcriber(cache_dir=cache_dir, progress=lines.append)
    assert model.name == "moonshine-tiny"
    assert model.device.startswith("cpu (onnxruntime ")
    assert lines[-1] == "Loading moonshine-tiny"


def test_unknown_model(cache_dir: Path) -> None:
    """Those that are known are named."""
    with pytest.raises(
        ModelError, match=r"No model is called 'parakeet'\. Known are moonshine-tiny, whisper-tiny"
    ):
        load_transcriber("parakeet", cache_dir=cache_dir)


def test_device_that_is_not_there(cache_dir: Path) -> None:
    """The package that is missing is named, before anything slow."""
    with pytest.raises(ModelError, match="pip install onnxruntime-openvino"):
        load_transcriber(device="openvino", cache_dir=cache_dir, progress=pytest.fail)


def test_a_folder(cache_dir: Path) -> None:
    """Is loaded with what its own files say."""
    model = load_transcriber(str(TRAINED), cache_dir=cache_dir, live_context="window")
    assert (model.name, model.languages, model.translates) == (TRAINED.name, ("en", "es"), True)
    assert model.device.startswith("cpu (onnxruntime ")


def test_a_pulled_model(cache_dir: Path, store: Store) -> None:
    """Goes by the name it was pulled by."""
    model = load_transcriber(
        "us/talk", cache_dir=cache_dir, models_dir=store.root, precision="fp32", threads=2
    )
    assert model.name == "us/talk" and model.languages == ("en", "es")


def test_a_distilled_model(cache_dir: Path, store: Store) -> None:
    """Knows the one language it was taught, whatever its vocabulary has tokens for."""
    model = load_transcriber("distil-whisper/distil-small.en", cache_dir=cache_dir, models_dir=store.root)
    assert (model.name, model.languages, model.translates) == ("distil-small.en", ("en",), False)


def test_a_model_that_is_not_whole(cache_dir: Path, store: Store) -> None:
    """Is refused with the remedy, before anything slow: never pulled, pulled in part, shorter than it was, not there."""

    def refused(model: str, *says: str) -> None:
        with pytest.raises(ModelError) as caught:
            load_transcriber(model, cache_dir=cache_dir, progress=pytest.fail, models_dir=store.root)
        assert all(part in str(caught.value) for part in says), caught.value

    refused("whisper-base", "not installed", "amanuensis models pull whisper-base")
    store.partial(resolve("whisper-tiny")).mkdir()
    refused("whisper-tiny", "only in part", "amanuensis models pull whisper-tiny")
    weights = store.path(resolve("us/talk")) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    refused("us/talk", "damaged", "model.safetensors has 3,778,951 bytes", "amanuensis models pull us/talk")
    refused(str(weights.parent), "model.safetensors has 3,778,951 bytes of 3,778,952", "copy it again")
    weights.unlink()
    refused("us/talk", "model.safetensors is missing", "amanuensis models pull us/talk")
    refused(str(weights.parent), "lacks model.safetensors", "whole checkpoint")
    refused(str(store.root / "nothing"), "There is no folder")
