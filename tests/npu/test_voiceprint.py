from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npu import embedded
from npu.backends.onnx import Runner
from npu.embedded import SEGMENTATION, VOICEPRINT, extracted
from npu.fbank import log_mel
from npu.voiceprint import OnnxVoices, load_voices, perform
from streaming.errors import ModelError
from streaming.listening import FRAME, MOMENT, Job
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]
WINDOW = 10 * SAMPLE_RATE


@pytest.fixture(scope="module")
def voices(cache_dir: Path) -> OnnxVoices:
    return load_voices(cache_dir)


def voiceprint(voices: OnnxVoices, audio: Array) -> Array:
    spectrogram = log_mel(audio)
    maps = voices.features(spectrogram, spectrogram.mean(axis=0))
    return voices.embed(maps, np.ones((1, len(maps)), np.float32))[0]


@pytest.mark.parametrize("name", ["two_cities", "endgame_nagg_nell"])
def test_segmentation_against_the_shipped_graph(
    voices: OnnxVoices, cache_dir: Path, clips: dict[str, Array], name: str
) -> None:
    """Hardly a frame differs, though the recurrent layers compute in 8 bits."""
    shipped = Runner(extracted(SEGMENTATION, cache_dir))
    for start in (0, 5 * SAMPLE_RATE, 15 * SAMPLE_RATE):
        audio = clips[name][start : start + WINDOW]
        (expected,) = shipped.run({"waveforms": audio[None, None]})
        activity = voices.segment(audio)
        assert activity.shape == expected[0].shape
        assert np.mean((activity > 0.5) != (expected[0] > 0.5)) < 0.02


@pytest.mark.parametrize("name", ["two_cities", "endgame_nagg_nell", "beckett"])
@pytest.mark.parametrize("seconds", [1.5, 4.0, 8.0])
def test_voiceprint_against_the_shipped_graph(
    voices: OnnxVoices, cache_dir: Path, clips: dict[str, Array], name: str, seconds: float
) -> None:
    """Trunk and head in 8 bits give the shipped network's voiceprint."""
    shipped = Runner(extracted(VOICEPRINT, cache_dir))
    start = 2 * SAMPLE_RATE
    audio = clips[name][start : start + round(seconds * SAMPLE_RATE)]
    spectrogram = log_mel(audio)
    spectrogram -= spectrogram.mean(axis=0)
    weights = np.ones((1, len(spectrogram)), np.float32)
    (expected,) = shipped.run({"fbank": spectrogram[None], "weights": weights})
    assert voiceprint(voices, audio) @ expected[0] / np.linalg.norm(expected[0]) > 0.985


def test_weights(voices: OnnxVoices, clips: dict[str, Array]) -> None:
    """Moments of weight 0 have no say; k sets of weights give k unit vectors."""
    spectrogram = log_mel(clips["two_cities"][:WINDOW])
    maps = voices.features(spectrogram, spectrogram.mean(axis=0))
    weights = np.zeros((2, len(maps)), np.float32)
    weights[0, 20:60] = weights[1, 70:] = 1
    both = voices.embed(maps, weights)
    alone = voices.embed(maps[20:60], np.ones((1, 40), np.float32))
    assert np.allclose(np.linalg.norm(both, axis=1), 1, atol=1e-4)
    assert both[0] @ alone[0] > 0.9999


def test_maps_made_piece_by_piece(voices: OnnxVoices, clips: dict[str, Array]) -> None:
    """A window's voiceprint hardly depends on when its moments were seen."""
    audio = clips["two_cities"][: WINDOW - WINDOW % FRAME]
    last = (len(audio) - 6 * MOMENT) // MOMENT
    whole = perform(voices, Job(0, audio, range(last), ()))
    made = []
    for first in range(0, last, 6):
        heard = perform(voices, Job(0, audio, range(first, min(first + 6, last)), tuple(made)))
        made.append(heard.maps)
        assert heard.maps is not None and heard.maps.first == first
    speaker = int(whole.clean.argmax())
    assert whole.clean[speaker] > 3 and whole.clean[speaker] == pytest.approx(heard.clean[speaker])
    assert whole.voiceprints[speaker] @ heard.voiceprints[speaker] > 0.9


def test_two_speakers(voices: OnnxVoices, clips: dict[str, Array]) -> None:
    """Different people differ more than one person at different times."""
    reader, actors = clips["two_cities"], clips["endgame_nagg_nell"]
    first, second = (voiceprint(voices, reader[at * SAMPLE_RATE : (at + 5) * SAMPLE_RATE]) for at in (2, 20))
    other = voiceprint(voices, actors[3 * SAMPLE_RATE : 8 * SAMPLE_RATE])
    assert first @ second > 0.5 > 0.35 > first @ other


def test_short_window(voices: OnnxVoices, clips: dict[str, Array]) -> None:
    """A session's first second can be listened to."""
    audio = clips["beckett"][:SAMPLE_RATE]
    heard = perform(voices, Job(0, audio, range(0), ()))
    assert heard.activity.shape[0] > 50 and heard.maps is None and not heard.clean.any()


def test_threads(voices: OnnxVoices, clips: dict[str, Array]) -> None:
    """Several may ask at once."""
    audio = clips["two_cities"][:WINDOW]
    expected, found = voices.segment(audio), []
    threads = [threading.Thread(target=lambda: found.append(voices.segment(audio))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(each, expected) for each in found)


def test_without_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="pip install moonshine-voice"):
        load_voices(tmp_path)
