"""Which device a model gets: the NPU where it is asked for, there and right, and otherwise the CPU with the reason."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.acceleration import NOT_ASKED, Evidence, Mode, NpuPrecision, State
from npu.backends.designs import model_design, packages_of
from npu.backends.failover import FailoverBackend, FailoverWindow
from npu.backends.onnx import OnnxBackend
from npu.catalog import EMBEDDED, resolve
from npu.lean import Graphs
from npu.loading import load_transcriber
from npu.selection import selected
from npu.transcriber import Transcriber
from npu.xdna.emulator import Fault
from npu.xdna.float_model import float_model
from npu.xdna.host_kernels import HostKernels
from npu.xdna.presence import without_npu
from npu.xdna.quant_file import kept_encoder
from npu.xdna.rings import Bytes
from streaming.containers import decode_container
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE, Purpose, Window

FIXTURES = Path(__file__).parents[1] / "fixtures"
FOLDER = FIXTURES / "whisper-small-talk"
HYBRID, MIXED = Mode(), Mode(precision="int8")


@pytest.fixture
def load(tmp_path: Path, cache_dir: Path) -> Callable[..., Transcriber]:
    """Loads a small Whisper on a device, its graphs from the cache of all tests, packages from one of this test."""
    for graph in cache_dir.glob("*.graph"):
        (tmp_path / graph.name).symlink_to(graph)

    def loaded(device: str, mode: Mode = HYBRID, model: str = str(FOLDER)) -> Transcriber:
        return load_transcriber(model, device, tmp_path, npu=mode)

    return loaded


@pytest.fixture
def build(stand_in: Any, tmp_path: Path) -> Callable[..., None]:
    """Lays packages where `amanuensis npu build` leaves them."""

    def made(mode: Mode = HYBRID, model: str = str(FOLDER)) -> None:
        for each in packages_of(model_design(resolve(model), mode, None, tmp_path)):
            stand_in.install(each.design(stand_in.kernels.stacks), tmp_path)

    return made


@pytest.fixture
def built(stand_in: Any, build: Any) -> Any:
    """The stand-in for XRT, with the package of that Whisper's encoder."""
    build()
    return stand_in


def told(load: Any, caplog: pytest.LogCaptureFixture, device: str) -> tuple[Transcriber, logging.LogRecord]:
    """What was loaded, and what the log says of it."""
    with caplog.at_level(logging.DEBUG, "amanuensis.npu"):
        model = load(device)
    assert model.device.startswith("cpu (onnxruntime ")
    (record,) = [each for each in caplog.records if "the CPU does the work" in each.message]
    assert model.acceleration.state is State.UNAVAILABLE and model.acceleration.reason in record.message
    return model, record


def test_an_npu_that_is_asked_for_and_not_there(load: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The CPU does the work; a warning says why, and what to do."""
    model, record = told(load, caplog, "npu")
    assert "XRT's Python module is not installed" in model.acceleration.reason
    assert model.acceleration.remedies and record.levelno == logging.WARNING


def test_no_npu(load: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody expects one, nobody is told how to install what it would need."""
    if not without_npu():
        pytest.skip("this machine has an NPU")
    model, record = told(load, caplog, "auto")
    assert model.acceleration.reason.startswith("no NPU found") and not model.acceleration.remedies
    assert record.levelno == logging.DEBUG


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
        assert (found.decoder, found.precision) == ("cpu", "bf16")


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
    assert found.remedies[0] == "Build again: amanuensis npu build"


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


def window(audio: NDArray[np.float32], seconds: float) -> Window:
    """The beginning of a recording."""
    return Window(0, 0, audio[: round(seconds * SAMPLE_RATE)], (), (), Purpose.FINAL, timed=True)


def text_of(model: Transcriber, asked: Window) -> list[str]:
    return [word.text for word in model.transcribe(asked).words]


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_everything_on_the_npu(
    load: Any, build: Any, stand_in: Any, monkeypatch: pytest.MonkeyPatch, precision: NpuPrecision
) -> None:
    """Gives the CPU's text, also when it fails between encoder and decoder."""
    mode = Mode("npu", precision)
    build(mode)
    asked = window(read("english-talk.flac"), 3)
    expected = text_of(load("cpu"), asked)
    assert len(expected) > 3
    model = load("npu", mode)
    assert model.device == "RyzenAI-npu1 (emulated)"
    assert text_of(model, asked) == expected
    found = model.acceleration
    assert (found.state, found.decoder, found.precision) == (State.IN_USE, "npu", precision)
    assert found.dispatches > len(expected) and found.evidence is Evidence.EMULATED
    encode = FailoverBackend.encode

    def encode_and_fail(*arguments: Any) -> FailoverWindow:
        encoded = encode(*arguments)
        stand_in.faults.left[Fault.TIMEOUT] = None
        return encoded

    monkeypatch.setattr(FailoverBackend, "encode", encode_and_fail)
    assert text_of(model, asked) == expected
    found = model.acceleration
    assert found.state is State.FAILED and "did not end within 2000 ms" in found.reason
    assert model.device.startswith("cpu (")
    with pytest.raises(ModelError, match="takes at most 10 s"):
        model.transcribe(window(np.zeros(11 * SAMPLE_RATE, np.float32), 11))


def test_an_encoder_in_8_bits(
    graphs: Graphs, load: Any, build: Any, tmp_path: Path, clips: dict[str, NDArray[np.float32]]
) -> None:
    """Is Moonshine's, once it has been quantised, and gives the CPU's words; until then the command is named."""
    assert "amanuensis models quantize moonshine-tiny" in load("npu", MIXED, EMBEDDED).acceleration.reason
    model = float_model(resolve(EMBEDDED))
    kept_encoder(model, [clips["beckett"][: 4 * SAMPLE_RATE]], tmp_path, lambda _line: None)
    build(MIXED, EMBEDDED)
    asked = window(clips["two_cities"], 3)
    on_cpu, on_npu = load("cpu", MIXED, EMBEDDED), load("npu", MIXED, EMBEDDED)
    texts = [[word.strip(",.").lower() for word in text_of(each, asked)] for each in (on_cpu, on_npu)]
    assert texts[0] == texts[1] and len(texts[0]) > 4
    found = on_npu.acceleration
    assert (found.state, found.decoder, found.precision) == (State.IN_USE, "cpu", "int8")
    assert found.dispatches == 4  # the canaries', the convolutions', the layers'
    (quantised,) = tmp_path.glob("*.npz")
    quantised.write_bytes(b"")
    assert "Make it again" in load("npu", MIXED, EMBEDDED).acceleration.reason


def test_a_whisper_in_8_bits(load: Any, build: Any, stand_in: Any, tmp_path: Path) -> None:
    """Gives the CPU's words as well, once it has been quantised, while both of its packages prove themselves."""
    assert f"amanuensis models quantize {FOLDER}" in load("npu", MIXED).acceleration.reason
    talk = read("english-talk.flac")
    kept_encoder(float_model(resolve(str(FOLDER))), [talk[: 6 * SAMPLE_RATE]], tmp_path, lambda _line: None)
    build(MIXED)
    asked = window(talk[8 * SAMPLE_RATE :], 4)
    on_npu = load("npu", MIXED)
    assert text_of(on_npu, asked) == text_of(load("cpu", MIXED), asked) != []
    found = on_npu.acceleration
    assert (found.state, found.precision, found.dispatches) == (State.IN_USE, "int8", 4)
    assert on_npu.device.startswith("RyzenAI-npu1 (emulated) (encoder), cpu (onnxruntime ")
    stand_in.kernels = Spoilt(stand_in.kernels)
    found = load("npu", MIXED).acceleration
    assert found.state is State.FAILED and "the product of the canary in 8 bits differs" in found.reason


class Spoilt:
    """Kernels of which one is wrong that only the overlay in 8 bits has."""

    def __init__(self, kernels: HostKernels) -> None:
        self.stacks = kernels.stacks
        self._kernels = kernels

    def call(self, name: str, arguments: Sequence[Bytes | int]) -> None:
        self._kernels.call(name, arguments)
        if name == "narrow_i16":
            out = arguments[1]
            assert isinstance(out, np.ndarray)
            out[0] ^= 1


def read(name: str) -> NDArray[np.float32]:
    """A recording at 16 kHz."""
    with (FIXTURES / "speech" / name).open("rb") as file:
        return np.concatenate(list(decode_container(file)))
