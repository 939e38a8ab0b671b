"""Predictions for models of the catalogue, without their weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna import overlay_i8
from npu.xdna.composition import Constants
from npu.xdna.cost import EXPECTED, KERNELS, MACHINES, TUNED, Estimate
from npu.xdna.counts import disagreements
from npu.xdna.encoders import moonshine
from npu.xdna.forecast import Precision, total
from npu.xdna.goals import Verdict, goal_of
from npu.xdna.layers_i8 import layers_plan
from npu.xdna.overlay import overlay
from npu.xdna.prediction import Prediction, Question, predict
from npu.xdna.shapes import moonshine_weights, quantised_layers
from streaming.errors import ModelError

BF16, INT8 = Precision.BF16, Precision.INT8
TEXT = (Path(__file__).parents[3] / "docs" / "npu.md").read_text()


@cache
def base(seconds: float, batch: int, encoder: Precision, decoder: Precision) -> Prediction:
    """Of whisper-base."""
    return predict(Question("whisper-base", seconds, encoder, batch, decoder=decoder))


@pytest.mark.parametrize("name", ["moonshine-tiny", "whisper-tiny", "whisper-base", "whisper-small.en"])
def test_a_model(name: str) -> None:
    """Is priced on every machine; the hopeful one is faster."""
    found = predict(Question(name))
    assert len(found.found) == len(MACHINES)
    expected, tuned = (found.on(each).encoding.time for each in (EXPECTED, TUNED))
    assert expected.low < expected.expected < expected.high
    assert tuned.expected < expected.expected
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
    assert found.lockstep.states == 209
    assert found.expected.encoding.time.high < 0.030


@pytest.mark.parametrize("seconds", [10, 20, 30])
def test_whisper_base_in_bf16(seconds: float) -> None:
    """With eight windows side by side, recordings are not predicted to be 220 times as fast as they were spoken."""
    goal = goal_of(base(seconds, 8, BF16, BF16))
    assert goal is not None and goal.verdict is Verdict.MISSED


@pytest.mark.parametrize("seconds", [10, 20, 30])
def test_whisper_base_in_8_bits(seconds: float) -> None:
    """220 lies within the bounds with a decoder in 8 bits."""
    speed = base(seconds, 8, BF16, INT8).expected.speed
    assert speed.low < 220 < speed.high


def test_layers_in_8_bits() -> None:
    """Convolutions stay in bf16, and two overlays take turns; the decoder is as asked for."""
    wide, narrow = (predict(Question("moonshine-tiny", precision=each)) for each in (BF16, INT8))
    assert (wide.decoder, narrow.decoder) == (BF16, INT8)
    first, second = (each.expected.encoding for each in (wide, narrow))
    assert [stage.name for stage in first.stages[:4]] == [stage.name for stage in second.stages[:4]]
    assert first.stages[:4] == second.stages[:4]
    assert (first.exchanges, second.exchanges) == (0, 2)
    assert "layer 0 heads" in {stage.name for stage in second.stages}
    mixed = predict(Question("moonshine-tiny", precision=INT8, decoder=BF16)).expected
    assert mixed.encoding == second and mixed.decoding == wide.expected.decoding


def test_an_opening() -> None:
    """Whisper's has passes: a token of all windows each, where that is less than one for each window."""
    for name, batch, opening, together, alone in (
        ("whisper-tiny", 8, 3, 3, 0),
        ("whisper-tiny", 2, 3, 1, 1),
        ("whisper-tiny", 1, 3, 0, 1),
        ("whisper-tiny.en", 8, 1, 1, 0),
        ("moonshine-tiny", 8, 0, 0, 0),
    ):
        lockstep = predict(Question(name, 5, batch=batch)).lockstep
        assert (lockstep.opening, lockstep.together, lockstep.alone) == (opening, together, alone)


def test_features() -> None:
    """Are the first stages of Whisper's encoder, in no dispatch of their own; Moonshine hears the audio itself."""
    assert predict(Question("moonshine-tiny")).expected.encoding.stages[0].name == "convolution 1"
    encoding = predict(Question("whisper-tiny")).expected.encoding
    assert encoding.dispatches == 2
    features = [stage for stage in encoding.stages if stage.name.startswith("log-mel")]
    assert features == list(encoding.stages[:3])
    spectrum, filtered, _ = (stage.products for stage in features)
    assert (spectrum, filtered) == tuple(
        12 * 256 * columns * depth for columns, depth in ((512, 1216), (256, 416))
    )
    time = total(stage.time for stage in features)
    assert 0 < time.low < time.expected < time.high < 0.010


def close(said: str, found: Estimate) -> bool:
    """Whether it has the three numbers, the expected one first, to a tenth: designs may change a little."""
    numbers = [float(each) for each in re.findall(r"[\d.]+", said)]
    return numbers == pytest.approx([found.expected, found.low, found.high], rel=0.1)


def test_the_documentation() -> None:
    """Its table of models says what is predicted in bf16."""
    found = re.findall(r"^\| (\S+(?: tiny)?), (\d+) s \| (.*) \| (.*) \| (.*) \|$", TEXT, re.MULTILINE)
    assert len(found) == 4
    for name, seconds, encoder, one, recordings in found:
        expected = predict(Question(name.lower().replace(" ", "-"), float(seconds))).expected
        assert close(encoder, expected.encoding.time.times(1000)), name
        assert close(one, expected.decoding.alone.times(1000)), name
        assert close(recordings, expected.speed), name


def test_the_documentation_of_recordings() -> None:
    """Its table of whisper-base has windows of three lengths, and more of them side by side."""
    found = re.findall(r"^\| (\d+) s, (\d+) windows \| (.*) \| (.*) \| (.*) \|$", TEXT, re.MULTILINE)
    assert {(seconds, batch) for seconds, batch, *_ in found} >= {("10", "8"), ("20", "8"), ("30", "8")}
    for seconds, batch, *columns in found:
        for said, precisions in zip(columns, ((BF16, BF16), (BF16, INT8), (INT8, INT8)), strict=True):
            expected = base(float(seconds), int(batch), *precisions).expected
            assert close(said, expected.speed), (seconds, batch, said)


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


def test_calls_of_layers_in_8_bits() -> None:
    """All 31 stages of three layers, turned by position, say what the emulated array counts."""
    composer = layers_plan(quantised_layers(288, 1152, 8, 3, turned=True), Constants(np.uint8), 1).composer
    sequence = composer.sequence("all", composer.units, composer.work)
    memory = {name: np.zeros(block.bytes, np.uint8) for name, block in sequence.arguments.items()}
    memory["headers"] = composer.headers({"frames": 160})
    stages = [stage for unit in composer.units.values() for stage in unit]
    design = overlay_i8.overlay(dict.fromkeys(KERNELS, 0), (sequence,))
    assert len(stages) == 31
    assert not disagreements(design, sequence, stages, memory, Idle())
