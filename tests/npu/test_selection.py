"""Which device a model gets: the NPU where it is asked for, there and right, and otherwise the CPU with the reason."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from npu.acceleration import NOT_ASKED, Evidence, State
from npu.backends.onnx import OnnxBackend
from npu.backends.xdna import whisper_design
from npu.checkpoint import Checkpoint
from npu.loading import load_transcriber
from npu.selection import selected
from npu.transcriber import Transcriber
from npu.xdna.emulator import Fault

FOLDER = Path(__file__).parents[1] / "fixtures" / "whisper-small-talk"


@pytest.fixture
def load(tmp_path: Path, cache_dir: Path) -> Callable[..., Transcriber]:
    """Loads a small Whisper on a device, its graphs from the cache of all tests, packages from one of this test."""
    for graph in cache_dir.glob("*.graph"):
        (tmp_path / graph.name).symlink_to(graph)
    return lambda device: load_transcriber(str(FOLDER), device, tmp_path)


@pytest.fixture
def built(stand_in: Any, tmp_path: Path) -> Any:
    """The stand-in for XRT, with the package of that Whisper's encoder."""
    design = whisper_design(Checkpoint(FOLDER)).design(stand_in.kernels.stacks)
    stand_in.install(design, tmp_path)
    return stand_in


@pytest.mark.parametrize(("device", "level"), [("npu", logging.WARNING), ("auto", logging.INFO)])
def test_no_npu(load: Any, caplog: pytest.LogCaptureFixture, device: str, level: int) -> None:
    """The CPU does the work, with the reason; a warning where the NPU was asked for by name."""
    with caplog.at_level(logging.INFO, "amanuensis.npu"):
        model = load(device)
    assert model.device.startswith("cpu (onnxruntime ")
    assert model.acceleration.state is State.UNAVAILABLE and model.acceleration.remedies
    assert "XRT's Python module is not installed" in model.acceleration.reason
    (record,) = [each for each in caplog.records if "the CPU does the work" in each.message]
    assert record.levelno == level and model.acceleration.reason in record.message


def test_what_looking_costs(tmp_path: Path, backend: OnnxBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than 5 ms where there is no NPU, and nothing is read or composed for it."""
    monkeypatch.setattr(backend, "unaccelerated", NOT_ASKED)  # what is told it is taken back
    taken = []
    for _ in range(5):  # the machine may have had other things to do
        begun = time.perf_counter()
        assert selected("auto", tmp_path, pytest.fail, lambda: backend) is backend
        taken.append(time.perf_counter() - begun)
    assert min(taken) < 0.005
    assert backend.acceleration.state is State.UNAVAILABLE


def test_an_npu(load: Any, built: Any) -> None:
    """That proves itself does the encoder's work, and what is emulated says so."""
    for device in ("npu", "auto"):
        model = load(device)
        assert model.device.startswith("RyzenAI-npu1 (emulated) (encoder), cpu (onnxruntime ")
        found = model.acceleration
        assert (found.state, found.evidence, found.reason) == (State.IN_USE, Evidence.EMULATED, None)
        assert found.device == "RyzenAI-npu1 (emulated)"
        assert (found.dispatches, found.recoveries) == (1, 0)  # the canary's


def test_not_asked(load: Any, built: Any) -> None:
    """It is not even opened."""
    sys.modules["pyxrt"] = None  # type: ignore[assignment]
    model = load("cpu")
    assert model.device.startswith("cpu (") and model.acceleration == NOT_ASKED


def test_no_package(load: Any, stand_in: Any) -> None:
    """The command that builds it is named."""
    found = load("npu").acceleration
    assert found.state is State.UNAVAILABLE and found.reason is not None
    assert "overlay_bf16 is not built for the NPU: amanuensis npu build" in found.reason
    assert found.remedies == ("Build again: amanuensis npu build",)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.ZEROS, "every value of the product of the canary is zero"),
        (Fault.TIMEOUT, "did not end within 2000 ms"),
    ],
)
def test_a_canary_that_fails(
    load: Any, built: Any, caplog: pytest.LogCaptureFixture, fault: Fault, reason: str
) -> None:
    """Keeps speech away from the NPU, and is worth a warning even where nobody insisted on it."""
    built.faults.left[fault] = None
    model = load("auto")
    assert model.device.startswith("cpu (") and model.acceleration.state is State.FAILED
    assert model.acceleration.device == "RyzenAI-npu1 (emulated)"
    assert reason in model.acceleration.reason
    assert any(record.levelno == logging.WARNING and reason in record.message for record in caplog.records)


def test_a_device_that_may_not_be_opened(load: Any, built: Any) -> None:
    """Leaves the CPU, and says which group to join."""
    built.faults.left[Fault.NOT_PERMITTED] = None
    found = load("npu").acceleration
    assert found.state is State.UNAVAILABLE and "group render" in found.reason
    assert found.remedies[0].startswith("sudo usermod -aG render")
