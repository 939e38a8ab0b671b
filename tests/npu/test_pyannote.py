"""pyannote.audio as a diarizer: with a stand-in where it is not installed, with a tiny real pipeline where it is."""

from __future__ import annotations

import os
import sys
import types
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npu.pyannote import DEFAULT_MODEL, PyannoteDiarizer
from streaming.errors import ModelError

INSTALLED = all(find_spec(name) for name in ("torch", "pyannote")) and find_spec("pyannote.audio") is not None
SPEECH = np.zeros(16_000 * 4, np.float32)


class Annotation:
    """What the tests need of pyannote.core's."""

    def __init__(self, *tracks: tuple[float, float, str]) -> None:
        self._tracks = tracks

    def labels(self) -> list[str]:
        return sorted({label for _, _, label in self._tracks})

    def itertracks(self, yield_label: bool) -> Any:
        assert yield_label
        return ((types.SimpleNamespace(start=a, end=b), at, c) for at, (a, b, c) in enumerate(self._tracks))


class Pipeline:
    """A pipeline that hears what it was made with, and remembers what it was asked."""

    def __init__(self, output: Any) -> None:
        self.output = output
        self.asked: dict[str, Any] = {}

    def __call__(self, recording: dict[str, Any], **bounds: int) -> Any:
        print("a remark that has no business in a transcript")  # noqa: T201
        self.asked = {**recording, **bounds}
        if isinstance(self.output, Exception):
            raise self.output
        return self.output


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for torch where there is none."""
    if not INSTALLED:
        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(from_numpy=lambda array: array))


def test_turns_without_overlaps_where_they_are_offered(capsys: pytest.CaptureFixture[str]) -> None:
    """In samples, speakers numbered; bounds are passed on only where there are any; nothing is printed."""
    both = Annotation((0.0, 2.0, "SPEAKER_01"), (1.0, 3.0, "SPEAKER_00"))
    exclusive = Annotation((0.0, 1.5, "SPEAKER_01"), (1.5, 3.0, "SPEAKER_00"))
    output = types.SimpleNamespace(speaker_diarization=both, exclusive_speaker_diarization=exclusive)
    pipeline = Pipeline(output)
    turns = PyannoteDiarizer(pipeline, "test").turns(SPEECH, None, 3)
    assert [(turn.start, turn.end, turn.speaker, turn.settled) for turn in turns] == [
        (0, 24_000, 1, True),
        (24_000, 48_000, 0, True),
    ]
    assert pipeline.asked["max_speakers"] == 3 and "min_speakers" not in pipeline.asked
    assert pipeline.asked["sample_rate"] == 16_000 and pipeline.asked["waveform"].shape == (1, len(SPEECH))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("wrapped", [True, False])
def test_turns_of_other_pipelines(wrapped: bool) -> None:
    """With overlaps, or a bare annotation as before 4.0."""
    annotation = Annotation((0.0, 2.0, "A"), (1.0, 3.0, "B"))
    output = types.SimpleNamespace(speaker_diarization=annotation) if wrapped else annotation
    turns = PyannoteDiarizer(Pipeline(output), "test").turns(SPEECH, 2, 2)
    assert [(turn.start, turn.end) for turn in turns] == [(0, 32_000), (16_000, 48_000)]


def test_a_pipeline_that_fails() -> None:
    """Is an error of that recording."""
    with pytest.raises(ModelError, match="out of memory"):
        PyannoteDiarizer(Pipeline(RuntimeError("out of memory")), "test").turns(SPEECH, None, None)


@pytest.mark.skipif(INSTALLED, reason="pyannote.audio is installed here")
def test_where_it_is_not_installed() -> None:
    """One sentence with the command."""
    with pytest.raises(ModelError, match=r"pip install 'amanuensis\[pyannote\]'.*https://"):
        PyannoteDiarizer.load(DEFAULT_MODEL)


class Refused(Exception):
    """huggingface_hub's HfHubHTTPError."""

    def __init__(self, status: int) -> None:
        self.response = types.SimpleNamespace(status_code=status)


class Unreachable(Exception):
    """huggingface_hub's LocalEntryNotFoundError."""


@pytest.mark.parametrize(
    ("token", "failure", "says"),
    [
        (None, Refused(401), ("accept its conditions", f"huggingface.co/{DEFAULT_MODEL}", "HF_TOKEN")),
        ("hf_a", Refused(401), ("does not know the token", "settings/tokens")),
        ("hf_a", Refused(403), ("Accept the conditions", f"huggingface.co/{DEFAULT_MODEL}")),
        ("hf_a", Refused(404), ("has no", f"huggingface.co/{DEFAULT_MODEL}")),
        ("hf_a", Unreachable("x\ny"), ("cannot be reached", "--diarizer-model PATH")),
        ("hf_a", RuntimeError("strange\nthings"), ("strange)", "--diarizer-model PATH")),
    ],
)
def test_what_the_hub_says(
    monkeypatch: pytest.MonkeyPatch, token: str | None, failure: Exception, says: tuple[str, ...]
) -> None:
    """Becomes one sentence with what to do and where."""
    errors = types.SimpleNamespace(HfHubHTTPError=Refused, LocalEntryNotFoundError=Unreachable)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(get_token=lambda: token))

    class Hub:
        @staticmethod
        def from_pretrained(model: str, token: str | None) -> None:
            raise failure

    with pytest.raises(ModelError) as caught:
        PyannoteDiarizer.load(DEFAULT_MODEL, Hub)
    sentence = str(caught.value)
    assert all(part in sentence for part in says) and "\n" not in sentence and sentence.endswith(".")


@pytest.mark.parametrize("model", ["./nothing", "/no/such/folder", "nothing", "~nobody/x"])
def test_a_folder_that_is_not_there(model: str) -> None:
    """Is not looked for on the hub."""
    with pytest.raises(ModelError, match="does not exist"):
        PyannoteDiarizer.load(model, Pipeline)


@pytest.mark.skipif(
    not INSTALLED, reason="torch or pyannote.audio is not installed: pip install 'amanuensis[pyannote]'"
)
@pytest.mark.filterwarnings("ignore")  # theirs
class TestTheRealOne:
    """pyannote.audio itself, with a pipeline of random weights."""

    def test_a_recording(self, tmp_path: Path, clips: dict[str, np.ndarray]) -> None:
        """Turns inside the recording that do not overlap, as many speakers as allowed at most; no telemetry."""
        _build(tmp_path)
        diarizer = PyannoteDiarizer.load(str(tmp_path))
        assert os.environ["PYANNOTE_METRICS_ENABLED"] == "0"
        audio = clips["endgame_nagg_nell"][: 16_000 * 12]
        turns = diarizer.turns(audio, None, 2)
        assert turns and len({turn.speaker for turn in turns}) <= 2
        for turn in turns:
            assert 0 <= turn.start < turn.end <= len(audio) + 1_600
        for first, second in pairwise(turns):
            assert first.end <= second.start

    def test_a_folder_that_holds_something_else(self, tmp_path: Path) -> None:
        """One sentence."""
        (tmp_path / "config.yaml").write_text("pipeline: {name: nothing.Nothing}")
        with pytest.raises(ModelError, match="no pipeline") as caught:
            PyannoteDiarizer.load(str(tmp_path))
        assert "\n" not in str(caught.value)


def _build(folder: Path) -> None:
    """A pipeline as small as they can be: networks of random weights, a PLDA that changes nothing."""
    import torch
    import yaml
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding import XVectorSincNet
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(1)
    segmentation = PyanNet(
        lstm={"hidden_size": 4, "num_layers": 1, "bidirectional": True, "monolithic": True},
        linear={"hidden_size": 4, "num_layers": 1},
    )
    segmentation.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=5.0,
        classes=["first", "second", "third"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    embedding = XVectorSincNet(dimension=24)
    embedding.specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=3.0, min_duration=1.0
    )
    for name, network in (("segmentation", segmentation), ("embedding", embedding)):
        _save(network, folder / name / "pytorch_model.bin")
    (folder / "plda").mkdir()
    np.savez(folder / "plda" / "xvec_transform.npz", mean1=np.zeros(24), mean2=np.zeros(8), lda=np.eye(24, 8))
    np.savez(folder / "plda" / "plda.npz", mu=np.zeros(8), tr=np.eye(8), psi=np.linspace(3, 1, 8))
    parts = {name: f"$model/{name}" for name in ("segmentation", "embedding", "plda")}
    description = {
        "pipeline": {
            "name": "pyannote.audio.pipelines.SpeakerDiarization",
            "params": {"clustering": "VBxClustering", **parts},
        },
        "params": {
            "clustering": {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8},
            "segmentation": {"min_duration_off": 0.0},
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(description))


def _save(network: Any, file: Path) -> None:
    """As a Lightning checkpoint, which is what the pipeline reads."""
    import lightning
    import torch

    network.setup()
    network.eval()
    checkpoint = {
        "state_dict": network.state_dict(),
        "hyper_parameters": dict(network.hparams),
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
        "loops": {},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
    }
    network.on_save_checkpoint(checkpoint)
    file.parent.mkdir()
    torch.save(checkpoint, file)
