"""Our decoding says what transformers said of the fixture's clips, token for token, on machines without torch too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.architecture import Architecture
from npu.backends.onnx import OnnxBackend
from npu.beam import Beam, beam_search
from npu.decoding import Rules, decode
from npu.hf_tokens import HuggingFaceTokenizer
from npu.longform import HeardFeatures, passages
from npu.mel import energies, peak_of, scaled
from npu.shaping import shapers
from npu.whisper import load_backend
from streaming.containers import decode_container
from streaming.window import Manner

FIXTURES = Path(__file__).parent.parent / "fixtures"
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "small_talk.json").read_text())

Loaded = tuple[OnnxBackend, Architecture, HuggingFaceTokenizer]


@pytest.fixture(scope="module")
def loaded(cache_dir: Path) -> Loaded:
    """The fixture in float32."""
    folder = FIXTURES / "whisper-small-talk"
    backend, architecture = load_backend(folder, "cpu", cache_dir, "fp32", 1, lambda _line: None)
    return backend, architecture, HuggingFaceTokenizer.read(folder)


def audio(name: str) -> NDArray[np.float32]:
    """A clip, 16 kHz."""
    with (FIXTURES / "speech" / f"{name}.flac").open("rb") as file:
        return np.concatenate(list(decode_container(file)))


@pytest.mark.parametrize("name", GOLDEN["windows"])
@pytest.mark.parametrize("way", ["greedy", "timed", "beam"])
def test_a_window(loaded: Loaded, name: str, way: str) -> None:
    """Greedily, with timestamps, with a beam."""
    backend, architecture, tokenizer = loaded
    golden = GOLDEN["windows"][name]
    signals, timestamps = tokenizer.signals, way == "timed"
    opening = signals.opening(golden["language"], "transcribe", timestamps)
    most = architecture.most_tokens - len(opening)
    rules = Rules(opening, signals.end, most, tokenizer.word_starts, shapers(signals, timestamps))
    cache = backend.encode(audio(name)).start()
    if way == "beam":
        width = GOLDEN["beam"]
        backend.extend(cache, opening[:-1])
        found = beam_search(backend.together([cache], False), [rules], Beam(width))[0]
    else:
        found = decode(backend, cache, rules)
    assert [*opening, *found.tokens, signals.end] == golden[way]


def test_long_audio(loaded: Loaded) -> None:
    """Segment by segment, with their times."""
    backend, architecture, tokenizer = loaded
    assert architecture.spectrogram is not None
    loud = energies(audio("english-talk"), architecture.spectrogram.bins)
    hearing = HeardFeatures(backend, scaled(loud, peak_of(loud)), architecture.spectrogram.frames)
    manner = Manner("en", temperature=0.0)
    heard = passages(backend, architecture, tokenizer, hearing, manner)
    segments = [segment for passage in heard for segment in passage.segments]
    golden = GOLDEN["english-talk"]
    assert [list(each.tokens) for each in segments] == [each["tokens"] for each in golden]
    times = np.array([(each.start, each.end) for each in segments])
    assert np.allclose(times, [(each["start"], each["end"]) for each in golden], atol=1e-3)
