"""`amanuensis models quantize`: the real command on a small Whisper and real files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.__main__ import main
from npu.xdna.quant_file import read

FIXTURES = Path(__file__).parent.parent / "fixtures"
SPEECH = FIXTURES / "speech"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a cache folder of its own."""
    (tmp_path / "config.toml").write_text(f'[model]\ncache_dir = "{tmp_path / "cache"}"\n')
    return tmp_path / "config.toml"


@pytest.fixture
def quantize(config: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command with more options -> exit status."""

    def run(*more: str) -> int:
        words = ("models", "quantize", str(FIXTURES / "whisper-small-talk"), "--config", str(config))
        monkeypatch.setattr(sys, "argv", ["amanuensis", *words, *more])
        return main()

    return run


def test_a_checkpoint(
    quantize: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of cosines, where the file is, and a report of everything; nothing is said to be measured on an NPU."""
    calibration, audio = str(SPEECH / "english-1.flac"), str(SPEECH / "english-2.flac")
    report = tmp_path / "report.json"
    assert quantize("--calibration", calibration, "--audio", audio, "--report", str(report)) == 0
    printed, found = capsys.readouterr().out, json.loads(report.read_text())
    assert "nothing here was measured on an NPU" in printed
    assert max(map(len, printed[: printed.index("Cosines")].splitlines())) <= 80
    assert found["words"]["changed"] == {"encoder": 0, "decoder": 0, "both": 0}
    text = found["texts"][audio]
    assert text["float32"] == text["encoder"] == text["decoder"] == text["both"] != ""
    assert min(found["cosines"]["logits"].values()) > 0.999
    assert found["cosines"]["states"] > 0.999
    assert len(found["cosines"]["layers"]) == 4
    assert f"0 of {found['words']['float32']}" in printed
    assert len(read(Path(found["file"])).layers) == 4


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--audio", "nothing.wav"], "nothing.wav: It does not exist"),
        (["--calibration", "nothing.wav"], "nothing.wav: It does not exist"),
        (["--audio", str(SPEECH / "sentences.json")], "sentences.json: "),
    ],
)
def test_what_cannot_be_read(
    more: list[str], sentence: str, quantize: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence with the recording's name."""
    assert quantize(*more) == 1
    assert sentence in capsys.readouterr().err
