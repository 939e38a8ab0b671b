"""Quantised models on real speech: each operator, each layer and the whole against float32, and the file encoders live in."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.catalog import resolve
from npu.xdna.float_model import FloatModel, float_model
from npu.xdna.quant import QuantisedEncoder
from npu.xdna.quant_file import kept_encoder, latest_encoder, read, write
from npu.xdna.quant_model import quantise_model
from npu.xdna.quant_report import END_GOAL, OPERATOR_GOAL, Cosine, closeness
from npu.xdna.quant_trial import READINGS, Trial
from streaming.containers import decode_container
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

FIXTURES = Path(__file__).parents[2] / "fixtures"
SMALL_TALK = FIXTURES / "whisper-small-talk"


def unheard(_line: str) -> None:
    pass


def spoken(name: str) -> Array:
    """A recording of the fixtures."""
    with (FIXTURES / "speech" / name).open("rb") as file:
        return np.concatenate(list(decode_container(file)))


@pytest.fixture(scope="module")
def moonshine() -> FloatModel:
    return float_model(resolve("moonshine-tiny"))


@pytest.fixture(scope="module")
def calibration(clips: dict[str, Array]) -> list[Array]:
    return [clips[name][: 5 * SAMPLE_RATE] for name in ("beckett", "endgame_nagg_nell")]


@pytest.fixture(scope="module")
def quantised(moonshine: FloatModel, calibration: list[Array]) -> QuantisedEncoder:
    return quantise_model(moonshine, calibration, unheard)


@pytest.fixture(scope="module")
def small_talk() -> FloatModel:
    return float_model(resolve(str(SMALL_TALK)))


def test_moonshine(moonshine: FloatModel, quantised: QuantisedEncoder, clips: dict[str, Array]) -> None:
    """Every operator and layer on somebody who was not calibrated on, what comes out in the end, and the same text."""
    audio = clips["two_cities"][: 5 * SAMPLE_RATE]
    found = closeness(moonshine, quantised, [audio])
    lowest, layer, name = found.lowest
    assert lowest >= OPERATOR_GOAL, f"{name} of layer {layer}"
    assert min(each["network"] for each in found.layers) > 0.9997  # without smoothing 0.9978
    assert found.sound > 0.9999
    assert min(found.states, *found.logits.values()) >= END_GOAL
    assert min(found.chosen.values()) > 0.9
    assert found.seconds == 5
    heard = Trial(moonshine, quantised).hear(audio)
    assert [heard.in_eight[name] for name in READINGS] == [heard.in_float] * 3
    assert "best of times" in heard.in_float


def test_whisper(small_talk: FloatModel) -> None:
    """Its convolutions are in 8 bits, too; recordings longer than its context are heard part by part."""
    audio = [spoken("english-1.flac"), spoken("spanish-1.flac")]
    in_eight = quantise_model(small_talk, audio, unheard)
    assert len(in_eight.convolutions) == 2
    found = closeness(small_talk, in_eight, [spoken("english-2.flac")])
    assert found.lowest[0] >= OPERATOR_GOAL
    assert min(found.sound, found.states, *found.logits.values()) >= OPERATOR_GOAL
    heard = Trial(small_talk, in_eight).hear(spoken("spanish-three.flac"))
    assert [heard.changed(name) for name in READINGS] == [0, 0, 0]
    assert heard.words > 10


def test_values_have_room(quantised: QuantisedEncoder) -> None:
    """Frames have as many fraction bits as fit them, fewer from layer to layer, and matrices never hold -128."""
    bits = [bits for layer in quantised.layers for bits in (layer.output.bits, layer.down.bits)]
    assert bits == sorted(bits, reverse=True)
    assert all(layer.up.values.min() >= -127 for layer in quantised.layers)


def test_a_file(quantised: QuantisedEncoder, tmp_path: Path) -> None:
    """Written and read, it is the same to the last number."""
    write(quantised, tmp_path / "model.npz")
    assert_same(read(tmp_path / "model.npz"), quantised)


def test_the_cache_folder(small_talk: FloatModel, tmp_path: Path) -> None:
    """Quantised once; again for other recordings, and where the file is damaged."""
    lines: list[str] = []
    audio = [spoken("english-1.flac")]
    kept, file = kept_encoder(small_talk, audio, tmp_path, lines.append)
    assert lines
    lines.clear()
    assert_same(kept_encoder(small_talk, audio, tmp_path, lines.append)[0], kept)
    assert not lines
    _, other = kept_encoder(small_talk, [spoken("english-2.flac")], tmp_path, unheard)
    assert other != file
    file.write_bytes(file.read_bytes()[:1_000])
    assert_same(kept_encoder(small_talk, audio, tmp_path, lines.append)[0], kept)
    assert "made again" in lines[0]
    latest = latest_encoder(small_talk.encoder, tmp_path)
    assert latest is not None
    assert_same(latest, kept)
    assert latest_encoder(replace(small_talk.encoder, identity="other weights"), tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_another_file(content: bytes, tmp_path: Path) -> None:
    """What is no quantised encoder is refused in a sentence."""
    (tmp_path / "other.npz").write_bytes(content)
    with pytest.raises(ModelError, match="no quantised encoder"):
        read(tmp_path / "other.npz")


def test_cosine() -> None:
    """Of everything that was compared, and 1 of nothing but zeros."""
    cosine = Cosine()
    assert cosine.value == 1
    cosine.compare(np.array([3.0, 0.0]), np.array([3.0, 4.0]))
    assert cosine.value == pytest.approx(0.6)
    cosine.compare(np.array([100.0]), np.array([100.0]))
    assert cosine.value > 0.99


def assert_same(found: Any, expected: Any) -> None:
    if is_dataclass(expected):
        for field in fields(expected):
            assert_same(getattr(found, field.name), getattr(expected, field.name))
    elif isinstance(expected, tuple):
        for each in zip(found, expected, strict=True):
            assert_same(*each)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    else:
        assert found == expected
