"""Quantised encoders on real speech: each operator, each layer and the whole against float32, and the file they live in."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.checkpoint import Checkpoint
from npu.moonshine import TINY
from npu.weights import Weights
from npu.whisper import architecture_of
from npu.xdna.encoder_i8 import numpy_encoder
from npu.xdna.float_encoder import FloatEncoder, of_moonshine, of_whisper
from npu.xdna.quant import QuantisedEncoder, quantise
from npu.xdna.quant_file import kept_encoder, read, write
from npu.xdna.quant_report import END_GOAL, OPERATOR_GOAL, Cosine, closeness
from streaming.containers import decode_container
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

FIXTURES = Path(__file__).parents[2] / "fixtures"
SMALL_TALK = FIXTURES / "whisper-small-talk"


def unheard(_line: str) -> None:
    pass


def spoken(name: str) -> Array:
    """A recording of the fixtures, as the small Whisper takes it."""
    with (FIXTURES / "speech" / name).open("rb") as file:
        return architecture_of(Checkpoint(SMALL_TALK)).prepare(
            np.concatenate(list(decode_container(file))), True
        )


@pytest.fixture(scope="module")
def moonshine(weights: Weights) -> FloatEncoder:
    return of_moonshine(weights)


@pytest.fixture(scope="module")
def calibration(clips: dict[str, Array]) -> list[Array]:
    return [TINY.prepare(clips[name][: 4 * SAMPLE_RATE], False) for name in ("beckett", "endgame_nagg_nell")]


@pytest.fixture(scope="module")
def quantised(moonshine: FloatEncoder, calibration: list[Array]) -> QuantisedEncoder:
    return quantise(moonshine, calibration, 512, unheard)


def test_moonshine(moonshine: FloatEncoder, quantised: QuantisedEncoder, clips: dict[str, Array]) -> None:
    """Every operator and layer on somebody who was not calibrated on, and what comes out in the end."""
    window = TINY.prepare(clips["two_cities"][: 4 * SAMPLE_RATE], False)
    found = closeness(moonshine, numpy_encoder(quantised), [window], 4)
    lowest, layer, name = found.lowest
    assert lowest >= OPERATOR_GOAL, f"{name} of layer {layer}"
    assert min(each["network"] for each in found.layers) > 0.9997  # without smoothing 0.9978
    assert found.sound > 0.9999
    assert found.states >= END_GOAL
    assert found.cross >= END_GOAL


def test_whisper() -> None:
    """Its convolutions are in 8 bits, too."""
    encoder = of_whisper(Checkpoint(SMALL_TALK))
    in_eight = quantise(encoder, [spoken("english-1.flac"), spoken("spanish-1.flac")], 500, unheard)
    assert len(in_eight.convolutions) == 2
    found = closeness(encoder, numpy_encoder(in_eight), [spoken("english-pair.flac")], 5)
    assert found.lowest[0] >= OPERATOR_GOAL
    assert min(found.sound, found.states, found.cross) >= OPERATOR_GOAL


def test_values_have_room(quantised: QuantisedEncoder) -> None:
    """Frames have as many fraction bits as fit them, fewer from layer to layer, and matrices never hold -128."""
    bits = [bits for layer in quantised.layers for bits in (layer.output.bits, layer.down.bits)]
    assert bits == sorted(bits, reverse=True)
    assert all(layer.up.values.min() >= -127 for layer in quantised.layers)


def test_a_file(quantised: QuantisedEncoder, tmp_path: Path) -> None:
    """Written and read, it is the same to the last number."""
    write(quantised, tmp_path / "encoder.npz")
    assert_same(read(tmp_path / "encoder.npz"), quantised)


def test_the_cache(moonshine: FloatEncoder, calibration: list[Array], tmp_path: Path) -> None:
    """Quantised once; again for other recordings, and where the file is damaged."""
    lines: list[str] = []
    kept, file = kept_encoder(moonshine, calibration[:1], 200, tmp_path, lines.append)
    assert lines
    lines.clear()
    assert_same(kept_encoder(moonshine, calibration[:1], 200, tmp_path, lines.append)[0], kept)
    assert not lines
    _, other = kept_encoder(moonshine, calibration[1:], 200, tmp_path, unheard)
    assert other != file
    file.write_bytes(file.read_bytes()[:1_000])
    assert_same(kept_encoder(moonshine, calibration[:1], 200, tmp_path, lines.append)[0], kept)
    assert "made again" in lines[0]


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
