from __future__ import annotations

from pathlib import Path

import pytest

from npu.loading import load_transcriber
from streaming.errors import ModelError


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
