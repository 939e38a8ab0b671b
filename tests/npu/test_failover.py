"""A model on the NPU that goes on on the CPU: at every place where the NPU may fail, the words are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.acceleration import Acceleration, State
from npu.backends.failover import FailoverBackend
from npu.backends.onnx import OnnxBackend
from npu.backends.whisper_reference import WhisperReference
from npu.checkpoint import Checkpoint
from npu.hf_tokens import HuggingFaceTokenizer
from npu.model import Cache
from npu.transcriber import ModelTranscriber
from npu.whisper import architecture_of, load_backend
from npu.xdna.failures import NpuUnavailable
from streaming.containers import decode_container
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE, Manner, Purpose, Window

Array = NDArray[np.float32]

FIXTURES = Path(__file__).parents[1] / "fixtures"
CHECKPOINT = Checkpoint(FIXTURES / "whisper-small-talk")
SPANS = ((0.0, 3.0), (3.0, 5.0))  # seconds of the recording


class InPlaceOfTheNpu(WhisperReference):
    """A backend that says the error when it is asked for more than so many things."""

    device = "an NPU"

    def __init__(self) -> None:
        super().__init__(architecture_of(CHECKPOINT), CHECKPOINT)
        self.error: ModelError = NpuUnavailable("it hangs")
        self.left = 10_000
        self.asked = 0

    def encode(self, audio: Array, short: bool = False) -> Any:
        self._ask()
        return super().encode(audio, short)

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> Array:
        self._ask()
        return super().extend(cache, tokens)

    def _ask(self) -> None:
        self.asked += 1
        self.left -= 1
        if self.left < 0:
            raise self.error


@pytest.fixture(scope="module")
def cpu(cache_dir: Path) -> OnnxBackend:
    """The same weights, in float32 too."""
    return load_backend(CHECKPOINT.folder, "cpu", cache_dir, "fp32", 1, lambda _line: None)[0]


@pytest.fixture(scope="module")
def talk() -> Array:
    """Sentences, 16 kHz."""
    with (FIXTURES / "speech" / "english-talk.flac").open("rb") as file:
        return np.concatenate(list(decode_container(file)))


class Pair:
    """A model on both."""

    def __init__(self, cpu: OnnxBackend) -> None:
        self.npu = InPlaceOfTheNpu()
        self.loaded = 0

        def load() -> OnnxBackend:
            self.loaded += 1
            return cpu

        found = Acceleration(State.IN_USE, decoder="npu", precision="bf16")
        architecture: Any = self.npu._architecture
        self.backend = FailoverBackend(architecture, self.npu, load, lambda: found)  # type: ignore[arg-type]
        self.model = ModelTranscriber(
            self.backend, architecture, HuggingFaceTokenizer.read(CHECKPOINT.folder), "window"
        )


@pytest.fixture
def pair(cpu: OnnxBackend) -> Pair:
    return Pair(cpu)


def windows(audio: Array, manner: Manner, purpose: Purpose = Purpose.FINAL) -> list[Window]:
    cuts = [audio[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)] for begin, end in SPANS]
    return [
        Window(i, round(SPANS[i][0] * SAMPLE_RATE), cut, (), (), purpose, timed=True, manner=manner)
        for i, cut in enumerate(cuts)
    ]


def heard(model: ModelTranscriber, asked: Sequence[Window], together: bool) -> list[tuple[Any, ...]]:
    """Words with their times, to a tenth of a second."""
    found = model.transcribe_all(asked) if together else [model.transcribe(window) for window in asked]
    return [
        tuple((word.text, round(word.start or 0, 1), round(word.end or 0, 1)) for word in each.words)
        for each in found
    ]


@pytest.mark.parametrize(
    ("together", "beam", "purpose"),
    [
        (False, 1, Purpose.PARTIAL),
        (False, 1, Purpose.FINAL),
        (True, 1, Purpose.FINAL),
        (True, 3, Purpose.FINAL),
    ],
)
def test_a_failure_anywhere(
    cpu: OnnxBackend, talk: Array, together: bool, beam: int, purpose: Purpose
) -> None:
    """In an encoder, an opening, the middle of a decoding, alone, in lockstep or with beams: no word is another, none
    has another time, and nothing is asked of the NPU afterwards.
    """
    asked = windows(talk, Manner(language="en", beam=beam, temperature=0.0), purpose)
    whole = Pair(cpu)
    expected = heard(whole.model, asked, together)
    assert min(map(len, expected)) >= 2 and whole.loaded == 0
    for left in (0, 1, 3, whole.npu.asked // 2):
        failing = Pair(cpu)
        failing.npu.left = left
        assert heard(failing.model, asked, together) == expected
        assert failing.npu.asked == left + 1 and failing.loaded == 1
        found = failing.model.acceleration
        assert (found.state, found.reason, found.decoder) == (State.FAILED, "it hangs", "npu")
        assert failing.model.device == cpu.device


def test_a_window_that_it_cannot_take(pair: Pair, talk: Array) -> None:
    """Goes to the CPU alone; in lockstep those beside it go too. The NPU goes on with what comes then."""
    asked = windows(talk, Manner(language="en", temperature=0.0))
    expected = heard(pair.model, asked, together=True)
    pair.npu.error, pair.npu.left = ModelError("a window of 5 states; the NPU takes 4"), 1
    assert heard(pair.model, asked, together=True) == expected
    assert pair.npu.asked > 0 and pair.backend.fallen_back is None
    assert pair.model.acceleration.state is State.IN_USE and pair.model.device == "an NPU"
    pair.npu.left = 10_000
    before = pair.npu.asked
    assert heard(pair.model, asked, together=False) == expected
    assert pair.npu.asked > before + len(asked)


def test_where_a_token_looked(pair: Pair, talk: Array) -> None:
    """Is told of the states that hold audio, whatever the encoder has padded it to, and after a failure too."""
    window = pair.backend.encode(talk[: 2 * SAMPLE_RATE])
    assert window.frames == pair.backend.architecture.states(2 * SAMPLE_RATE) < window._on_npu.frames
    cache = window.start()
    pair.backend.extend(cache, (1, 2))
    before = cache.attention()
    pair.npu.left = 0
    pair.backend.extend(cache, (3,))
    assert cache.attention().shape == (3, window.frames)
    assert np.allclose(cache.attention()[:2], before, atol=0.01)


def test_copies(pair: Pair, talk: Array) -> None:
    """Move apart: what one has forgotten the other still knows."""
    cache = pair.backend.encode(talk[: 2 * SAMPLE_RATE], short=True).start()
    pair.backend.extend(cache, (1, 2, 3))
    copy = cache.copy()
    copy.truncate(1)
    expected = pair.backend.extend(copy.copy(), (7,)), pair.backend.extend(cache.copy(), (7,))
    pair.npu.left = 0
    found = pair.backend.extend(copy, (7,)), pair.backend.extend(cache, (7,))
    assert (copy.length, cache.length) == (2, 4)
    assert all(np.allclose(*each, atol=1e-2) for each in zip(found, expected, strict=True))
    assert not np.allclose(*found, atol=1e-2)
