"""Predictions for models of the catalogue, without their weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna.composition import Constants
from npu.xdna.cost import AS_WRITTEN, EXPECTED, KERNELS, MACHINES, TUNED
from npu.xdna.counts import disagreements
from npu.xdna.encoders import moonshine
from npu.xdna.forecast import Precision, times_real_time
from npu.xdna.overlay import overlay
from npu.xdna.prediction import Prediction, Question, predict
from npu.xdna.shapes import moonshine_weights
from streaming.errors import ModelError


def speed(found: Prediction) -> tuple[float, float, float]:
    """Of recordings on Hawk Point, in times real time: low, expected, high."""
    said = times_real_time(found.seconds, found.expected.time)
    return said.low, said.expected, said.high


@pytest.mark.parametrize("name", ["moonshine-tiny", "whisper-tiny", "whisper-base", "whisper-small.en"])
def test_a_model(name: str) -> None:
    """Is priced on every machine; the hopeful one is faster, and nothing of weight is written without vectors."""
    found = predict(Question(name))
    assert len(found.found) == len(MACHINES)
    expected, tuned, written = (found.on(each).encoding.time for each in (EXPECTED, TUNED, AS_WRITTEN))
    assert expected.low < expected.expected < expected.high
    assert tuned.expected < expected.expected <= written.expected < 1.05 * expected.expected
    assert found.expected.encoding.dispatches == 2 < found.expected.encoding.units


def test_products() -> None:
    """Are at least those of the network: 30 s of whisper-base have 39 GMAC in the encoder, without what fills tiles."""
    d, hidden, states = 512, 2048, 1500
    network = 6 * states * (4 * d * d + 2 * d * hidden + 2 * states * d)
    stem = 2 * states * 240 * d + states * 3 * d * d
    counted = sum(stage.products for stage in predict(Question("whisper-base")).expected.encoding.stages)
    assert network + stem < counted < 1.2 * (network + stem)


def test_moonshine_live() -> None:
    """A window of 5 s is predicted to be encoded within 30 ms, bounds included."""
    found = predict(Question("moonshine-tiny", 5.0))
    assert found.states == 209
    assert found.expected.encoding.time.high < 0.030


def test_whisper_base_recordings() -> None:
    """With eight windows of 30 s side by side 220 times real time lies within the bounds, and is not what is expected;
    of windows of 20 s it is.
    """
    low, expected, high = speed(predict(Question("whisper-base", 30, Precision.INT8, 8)))
    assert low < expected < 220 < high
    assert speed(predict(Question("whisper-base", 20, Precision.INT8, 8)))[1] > 220


def test_features() -> None:
    """Whisper's could be the NPU's; Moonshine hears the audio itself."""
    assert predict(Question("moonshine-tiny")).features is None
    found = predict(Question("whisper-tiny")).features
    assert found is not None
    assert found.products == 16 * 672 * 16 * 64 * 64  # a product for each tile of 12 rounds of 256 frames
    assert 0 < found.time.low < found.time.expected < found.time.high < 0.010


def test_the_documentation() -> None:
    """Its table says what is predicted, within a tenth: designs may change a little before it has to."""
    text = (Path(__file__).parents[3] / "docs" / "npu.md").read_text()
    rows = re.findall(r"^\| (\S+(?: tiny)?), (\d+) s \| (.*) \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) == 5
    for name, seconds, encoder, recordings in rows:
        model = name.lower().replace(" ", "-")
        found = predict(Question(model, float(seconds), Precision.INT8, 8))
        time, fast = found.expected.encoding.time, speed(found)
        for said, low, expected, high in (
            (encoder, 1000 * time.low, 1000 * time.expected, 1000 * time.high),
            (recordings, *fast),
        ):
            numbers = [float(each) for each in re.findall(r"[\d.]+", said)]
            assert numbers == pytest.approx([expected, low, high], rel=0.1), (model, said)


@pytest.mark.parametrize("seconds", [0, -1, 31])
def test_a_window_of_no_length(seconds: float) -> None:
    """Is refused with what is possible."""
    with pytest.raises(ModelError, match="at most 30 s"):
        predict(Question("whisper-tiny", seconds))


class Idle:
    """Kernels that do nothing but keep headers."""

    def call(self, name: str, arguments: Sequence[NDArray[np.uint8] | int]) -> None:
        if name == "keep_header":
            tile, kept = arguments
            assert isinstance(tile, np.ndarray) and isinstance(kept, np.ndarray)
            kept[:] = tile[: kept.size]


def test_calls_of_a_whole_encoder() -> None:
    """All 53 stages of Moonshine's say what the emulated array counts."""
    plan = moonshine(moonshine_weights(), 8, Constants(), 1)
    composer = plan.composer
    sequence = composer.sequence("all", plan.units, composer.work)
    memory = {name: np.zeros(block.bytes, np.uint8) for name, block in sequence.arguments.items()}
    memory["headers"] = composer.headers({"rows": 1000, "states": 160}).view(np.uint8)
    stages = [stage for unit in plan.units for stage in composer.units[unit]]
    design = overlay(dict.fromkeys(KERNELS, 0), (sequence,))
    assert len(stages) == 53
    assert not disagreements(design, sequence, stages, memory, Idle())
