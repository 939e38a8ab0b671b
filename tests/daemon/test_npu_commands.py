"""The `npu` commands as a person meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def _npu(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "daemon", "npu", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_predict() -> None:
    """Stages, a chart, machines and what they mean, within the width of a terminal; nothing claims to be measured."""
    found = _npu("predict", "moonshine-tiny", "--seconds", "5")
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[1] == "PREDICTED by a cost model, never measured: nobody has run this on an NPU."
    assert max(map(len, lines)) <= 80
    for words in (
        "attention",
        "Bound by",
        "██",
        "A pass for 8 tokens",
        "Goal: live",
        "decoder: 15 tokens",
        "low to high",
    ):
        assert words in found.stdout, words


def test_predict_for_programs() -> None:
    """Every time has its bounds, and the evidence is named."""
    found = _npu("predict", "whisper-base", "--precision", "int8", "--batch", "4", "--tokens", "50", "--json")
    said = json.loads(found.stdout)
    assert (said["evidence"], said["measured"]) == ("predicted", None)
    assert (said["seconds"], said["states"], said["dispatches"]) == (30, 1500, 2)
    assert (said["batch"], said["tokens"], said["decoder_precision"]) == (4, 50, "int8")
    assert (said["encoder_precision"], said["exchanges"]) == ("int8", 2)
    for each in (*(stage["ms"] for stage in said["stages"]), said["machines"][1]["times_real_time"]):
        low, expected, high = each
        assert low < expected < high


def test_predict_a_decoder_of_another_precision() -> None:
    """Its stages are listed, and the goal says what is predicted of it."""
    found = _npu("predict", "whisper-base", "--precision", "int8", "--decoder", "bf16", "--json")
    said = json.loads(found.stdout)
    assert (said["encoder_precision"], said["decoder_precision"]) == ("int8", "bf16")
    assert {stage["name"] for stage in said["decoder_stages"]} >= {"cross-attention", "head"}
    assert "220" in said["goal"]["words"]


def test_predict_what_is_not_known() -> None:
    """One sentence, which says what is."""
    found = _npu("predict", "owner/name")
    assert found.returncode == 1
    assert found.stderr.startswith("amanuensis: The sizes of owner/name are not known here")
    assert found.stderr.count("\n") == 1
