from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.mel import (
    HOP,
    MelStream,
    energies,
    energies_by_definition,
    filters,
    frames_in,
    log_mel,
    peak_of,
    scaled,
)
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

CONTEXT = 30 * SAMPLE_RATE


@pytest.mark.parametrize("bins", [80, 128])
def test_against_whisper(clips: dict[str, Array], bins: int) -> None:
    """On real speech, padded to the context and unpadded, it is what the checkpoints were trained with."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    extractor = transformers.WhisperFeatureExtractor(feature_size=bins)
    for audio in clips.values():
        for padding, samples in (("max_length", CONTEXT), ("longest", None)):
            expected = extractor(
                audio[:CONTEXT], sampling_rate=SAMPLE_RATE, padding=padding, return_tensors="np"
            )["input_features"][0].T
            found = log_mel(audio[:CONTEXT], bins, samples)
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() < 1e-4


def test_whole_recording_against_whisper(clips: dict[str, Array]) -> None:
    """Longer than a context, one peak holds for all of it, and windows are slices."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    audio = np.concatenate(list(clips.values()))
    expected = transformers.WhisperFeatureExtractor(feature_size=80)(
        audio, sampling_rate=SAMPLE_RATE, truncation=False, padding="longest", return_tensors="np"
    )["input_features"][0].T
    loud = energies(audio, 80)
    assert len(loud) > 3000
    window = scaled(loud[2000:5000], peak_of(loud))
    assert np.abs(window - expected[2000:5000]).max() < 1e-4


@pytest.mark.parametrize("bins", [80, 128])
def test_against_the_definition(clips: dict[str, Array], bins: int) -> None:
    """The fast form is the written-out transform, short audio included."""
    for n in (1, 159, 160, 399, 400, 700, 8000):
        audio = clips["beckett"][8000 : 8000 + n]
        found, expected = energies(audio, bins), energies_by_definition(audio, bins)
        assert found.shape == (frames_in(n), bins) == expected.shape
        assert n < 2 or np.abs(found - expected).max(initial=0) < 1e-4


def test_padded_with_silence(clips: dict[str, Array]) -> None:
    """It does not matter who pads."""
    for n in (0, 1, 1000, 2 * SAMPLE_RATE - 100, 2 * SAMPLE_RATE):
        audio = clips["beckett"][:n]
        padded = np.pad(audio, (0, 2 * SAMPLE_RATE - n))
        assert np.abs(log_mel(audio, 80, 2 * SAMPLE_RATE) - log_mel(padded, 80)).max() < 1e-6


@pytest.mark.parametrize("block", [37, HOP, 1000, 40_000])
def test_stream(clips: dict[str, Array], block: int) -> None:
    """Blocks of any size give the frames of the whole when the peak is known."""
    audio = clips["beckett"][: 2 * SAMPLE_RATE + 77]
    loud = energies(audio, 80)
    stream = MelStream(80, peak_of(loud))
    parts = [stream.receive_audio(audio[at : at + block]) for at in range(0, len(audio), block)]
    assert block > 1000 or min(map(len, parts[10:])) <= block // HOP + 1
    found = np.concatenate([*parts, stream.finish()])
    assert np.abs(found - log_mel(audio, 80)).max() < 1e-6
    assert stream.peak == pytest.approx(peak_of(loud))


@pytest.mark.parametrize("n", [0, 1, 150, 200, 201, 330, 500])
def test_short_stream(clips: dict[str, Array], n: int) -> None:
    """The end is mirrored however little there is."""
    audio = clips["beckett"][8000 : 8000 + n]
    stream = MelStream(80)
    found = np.concatenate([stream.receive_audio(audio), stream.finish()])
    assert found.shape == (frames_in(n), 80)
    assert np.abs(found - log_mel(audio, 80)).max(initial=0) < 1e-6


def test_running_peak(clips: dict[str, Array]) -> None:
    """Without a peak, frames are scaled by the loudest so far: after the loudest frame as the whole is."""
    audio = clips["beckett"]
    stream = MelStream(80)
    parts = [stream.receive_audio(audio[at : at + 1600]) for at in range(0, len(audio), 1600)]
    found = np.concatenate([*parts, stream.finish()])
    loudest = int(energies(audio, 80).max(axis=1).argmax())
    assert np.abs(found[loudest + 10 :] - log_mel(audio, 80)[loudest + 10 :]).max() < 1e-6


def test_filters() -> None:
    """Every filter has the area of one hertz's worth, and hears something."""
    for bins in (80, 128):
        assert filters(bins).shape == (201, bins)
        assert (filters(bins).sum(axis=0) > 0).all()
