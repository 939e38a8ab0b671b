"""Whole encoders through the runtime and the emulated NPU, on speech: close to float32, and the same text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends.onnx import OnnxBackend
from npu.backends.reference import Reference, ReferenceBackend
from npu.backends.whisper_reference import WhisperReference
from npu.backends.xdna import HybridBackend, elsewhere, moonshine_design, whisper_design
from npu.checkpoint import Checkpoint
from npu.decoding import Rules, decode
from npu.hf_tokens import HuggingFaceTokenizer
from npu.lean import Graphs
from npu.moonshine import TINY
from npu.moonshine_encoder import cross_graph
from npu.weights import Weights
from npu.whisper import architecture_of, load_backend
from npu.whisper_weights import WhisperWeights
from npu.xdna.check import check
from npu.xdna.emulated import emulated
from npu.xdna.emulator import Fault, Faults
from npu.xdna.encoder import Encoder, EncoderDesign
from npu.xdna.host_kernels import HostKernels
from npu.xdna.runtime import Built, Npu
from streaming.containers import decode_container
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

FIXTURES = Path(__file__).parents[2] / "fixtures"
UTTERANCES = [("two_cities", 0.0, 5.0), ("beckett", 0.5, 4.5)]  # clip, seconds


def cosine(x: NDArray[Any], y: NDArray[Any]) -> float:
    a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def opened(kernels: HostKernels, design: EncoderDesign, faults: Faults | None = None) -> tuple[Npu, Built]:
    npu, (built,) = emulated(kernels, design.design(kernels.stacks), faults=faults)
    return npu, built


@pytest.fixture(scope="module")
def kernels(portable: HostKernels) -> HostKernels:
    """Of one path."""
    return portable


@pytest.fixture(scope="module")
def moonshine(kernels: HostKernels, weights: Weights) -> tuple[Npu, Encoder]:
    """Windows of one span and of two."""
    design = EncoderDesign.moonshine(weights, TINY.heads, (2, 1))
    npu, built = opened(kernels, design)
    return npu, Encoder(npu, built, design)


def test_limits(kernels: HostKernels, weights: Weights) -> None:
    """The whole design fits the hardware."""
    assert not check(EncoderDesign.moonshine(weights, TINY.heads, (1, 3)).design(kernels.stacks))


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_moonshine(
    moonshine: tuple[Npu, Encoder],
    reference: ReferenceBackend,
    rules: Rules,
    clips: dict[str, Array],
    utterance: tuple[str, float, float],
) -> None:
    """Two dispatches give states within 0.999 of float32's, and the reference's decoder the same text of both."""
    npu, encoder = moonshine
    name, begin, end = utterance
    audio = clips[name][round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    before = npu.dispatches
    states = encoder.states(audio)
    assert npu.dispatches - before == 2
    same_text(reference, reference.encode(audio).states, states, rules)


def same_text(reference: Reference, expected: Array, found: Array, rules: Rules) -> None:
    """Of either states, which are close."""
    assert cosine(found, expected) >= 0.999
    text = [decode(reference, reference.window(each).start(), rules).tokens for each in (expected, found)]
    assert text[0] == text[1] and len(text[0]) >= 5


def test_lengths(
    moonshine: tuple[Npu, Encoder], reference: ReferenceBackend, clips: dict[str, Array]
) -> None:
    """Long and short windows in turn: nothing of one is left in the next."""
    _, encoder = moonshine
    for seconds in (11.0, 1.0, 3.0):
        audio = clips["two_cities"][: round(seconds * SAMPLE_RATE)]
        found = encoder.states(audio)
        assert cosine(found, reference.encode(audio).states) >= 0.999
    with pytest.raises(ModelError, match="the NPU takes 510"):
        encoder.states(np.zeros(5000 * 64, np.float32))


def test_as_a_list(
    kernels: HostKernels, weights: Weights, moonshine: tuple[Npu, Encoder], clips: dict[str, Array]
) -> None:
    """Unit by unit in one list there are 33 dispatches, and the same states bit for bit."""
    design = EncoderDesign.moonshine(weights, TINY.heads, (1,), by_unit=True)
    npu, built = opened(kernels, design)
    audio = clips["beckett"][: 2 * SAMPLE_RATE]
    assert np.array_equal(Encoder(npu, built, design).states(audio), moonshine[1].states(audio))
    assert npu.dispatches == 33


def test_whisper(kernels: HostKernels, tmp_path: Path) -> None:
    """The one that speaks: its states from samples, short and long in turn, and by the CPU's decoder its text."""
    checkpoint = Checkpoint(FIXTURES / "whisper-small-talk")
    architecture = architecture_of(checkpoint)

    weights = WhisperWeights(checkpoint, "fp32")
    there = elsewhere(lambda design: opened(kernels, design), whisper_design(weights))

    def load(hybrid: bool) -> OnnxBackend:
        options = (checkpoint.folder, "cpu", tmp_path, "fp32", 1, lambda _line: None)
        return load_backend(*options, there if hybrid else None)[0]

    with (FIXTURES / "speech" / "english-talk.flac").open("rb") as file:
        audio = np.concatenate(list(decode_container(file)))[: 6 * SAMPLE_RATE]
    reference = WhisperReference(architecture, checkpoint)
    states, beginning = there.states, audio[: 2 * SAMPLE_RATE]
    short = states(beginning, True)
    assert cosine(short, reference.encode(beginning, True).states) >= 0.9999
    assert cosine(states(audio, False), reference.encode(audio).states) >= 0.9999
    assert np.array_equal(states(beginning, True), short)
    signals = load_tokens(checkpoint)
    backends = [load(False), load(True)]
    backends[1].architecture = replace(architecture, prepare=unasked)
    texts = [decode(backend, backend.encode(audio).start(), signals).tokens for backend in backends]
    assert texts[0] == texts[1] and len(texts[0]) > 8


def unasked(audio: Array, short: bool) -> Array:
    """Features by the CPU."""
    raise AssertionError("the NPU makes them")


def load_tokens(checkpoint: Checkpoint) -> Rules:
    """Greedy, English, without times."""
    tokenizer = HuggingFaceTokenizer.read(checkpoint.folder)
    signals = tokenizer.signals
    return Rules(signals.opening("en", "transcribe"), signals.end, 60, tokenizer.word_starts)


def hybrid(kernels: HostKernels, weights: Weights, graphs: Graphs, faults: Faults) -> HybridBackend:
    where = elsewhere(lambda design: opened(kernels, design, faults), moonshine_design(weights))
    cross = cross_graph(weights)
    return HybridBackend(TINY, where, cross, lambda: graphs.encoder, graphs.decoder, graphs.lockstep)


@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.LOST_CONTEXT])
def test_falling_back(
    kernels: HostKernels,
    weights: Weights,
    graphs: Graphs,
    backend: OnnxBackend,
    rules: Rules,
    clips: dict[str, Array],
    fault: Fault,
) -> None:
    """An NPU that fails once is used on; one that fails for good leaves the window to the CPU, and all after it."""
    audio = clips["two_cities"][: 2 * SAMPLE_RATE]
    faults = Faults({fault: 1})
    ours = hybrid(kernels, weights, graphs, faults)
    text = decode(ours, ours.encode(audio).start(), rules).tokens
    assert ours.fallen_back is None and "npu1" in ours.device
    faults.left[fault] = None
    again = decode(ours, ours.encode(audio).start(), rules)
    assert ours.fallen_back and "npu1" not in ours.device
    exact = decode(backend, backend.encode(audio).start(), rules)
    assert again.tokens == exact.tokens and np.array_equal(again.log_probs, exact.log_probs)
    assert text == exact.tokens
