"""Whole decoders with weights, keys and values in 8 bits through the runtime and the emulated NPU: close to float32, the same text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends.reference import Reference, ReferenceBackend, ReferenceEncoded
from npu.backends.whisper_reference import WhisperReference
from npu.backends.xdna_whole import NpuBackend
from npu.checkpoint import Checkpoint
from npu.decoding import Rules, decode, decode_together
from npu.hf_tokens import HuggingFaceTokenizer
from npu.model import Cache, OneByOne
from npu.moonshine import TINY
from npu.weights import Weights
from npu.whisper import architecture_of
from npu.whisper_weights import WhisperWeights
from npu.xdna.check import check
from npu.xdna.counts import disagreements
from npu.xdna.decoder_w8 import DecoderDesignW8, DecoderW8
from npu.xdna.decoders import Parts
from npu.xdna.decoders_w8 import Size
from npu.xdna.design import Design
from npu.xdna.emulated import emulated
from npu.xdna.host_kernels import HostKernels
from npu.xdna.overlay import overlay
from npu.xdna.rounded import Rounded
from npu.xdna.runtime import Built, Command
from streaming.containers import decode_container
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

FIXTURES = Path(__file__).parents[2] / "fixtures"


def cosine(x: NDArray[Any], y: NDArray[Any]) -> float:
    a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def whole(kernels: HostKernels, decoder: DecoderDesignW8) -> Design:
    """The overlay with the decoder's sequences."""
    return overlay(kernels.stacks, decoder.sequences())


class Both:
    """A model's reference, and the NPU's decoder over the reference's states."""

    def __init__(self, kernels: HostKernels, reference: Reference, decoder: DecoderDesignW8) -> None:
        self.npu, (built,) = emulated(kernels, whole(kernels, decoder))
        self.reference = reference
        self.decoder = DecoderW8(self.npu, built, decoder)
        self.backend = NpuBackend(reference._architecture, reference._states, self.decoder, self.npu.name)

    def windows(self, *clips: Array, short: bool = False) -> list[tuple[ReferenceEncoded, Any]]:
        """Each by the reference, and on the NPU."""
        found = [self.reference.encode(clip, short) for clip in clips]
        return [(each, self.decoder.window(each.states)) for each in found]


@pytest.fixture(scope="module")
def kernels(portable: HostKernels) -> HostKernels:
    """Of one path."""
    return portable


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """The one that speaks."""
    return Checkpoint(FIXTURES / "whisper-small-talk")


@pytest.fixture(scope="module")
def parts(checkpoint: Checkpoint) -> Parts:
    """Its decoder."""
    return Parts.whisper(WhisperWeights(checkpoint, "fp32"), architecture_of(checkpoint))


@pytest.fixture(scope="module")
def small(kernels: HostKernels, checkpoint: Checkpoint, parts: Parts) -> Both:
    """It."""
    sizes = [Size(groups, past, 4) for groups in (4, 8) for past in (1, 2)]
    decoder = DecoderDesignW8(parts, sizes, (1,))
    return Both(kernels, WhisperReference(architecture_of(checkpoint), checkpoint), decoder)


@pytest.fixture(scope="module")
def spoken(checkpoint: Checkpoint) -> Rules:
    """Greedy, English, without times."""
    tokenizer = HuggingFaceTokenizer.read(checkpoint.folder)
    signals = tokenizer.signals
    return Rules(signals.opening("en", "transcribe"), signals.end, 60, tokenizer.word_starts)


@pytest.fixture(scope="module")
def talk() -> Array:
    """Sentences, 16 kHz."""
    with (FIXTURES / "speech" / "english-talk.flac").open("rb") as file:
        return np.concatenate(list(decode_container(file)))


def clip(audio: Array, begin: float, end: float) -> Array:
    return audio[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)]


def test_moonshine(
    kernels: HostKernels, weights: Weights, reference: ReferenceBackend, rules: Rules, clips: dict[str, Array]
) -> None:
    """The text of two seconds, with a gated network, turned heads and a head width below 64; the logits are those of the
    weights in 8 bits, and nearer to them than to float32's.
    """
    decoder = DecoderDesignW8(Parts.moonshine(weights, TINY), [Size(4, 1, 4)], (1,))
    both = Both(kernels, reference, decoder)
    ((exact, ours),) = both.windows(clip(clips["two_cities"], 0, 2))
    expected = decode(reference, exact.start(), rules)
    tokens = (*rules.opening, *expected.tokens)[:6]
    theirs, cache = exact.start(), ours.start()
    logits = both.backend.extend(cache, tokens)
    in_eight = Rounded(reference)
    close = cosine(logits, in_eight.extend(in_eight.window(exact.states).start(), tokens))
    assert close >= 0.99995
    assert close > cosine(logits, reference.extend(theirs, tokens)) >= 0.999
    assert np.array_equal(logits.argmax(axis=1), [*expected.tokens, rules.end][: len(tokens)])
    assert np.allclose(cache.attention(), theirs.attention(), atol=0.02)


def test_lockstep(small: Both, spoken: Rules, talk: Array) -> None:
    """Decodings of five windows give the text that each gives in float32, and look where it looks."""
    cuts = ((0, 3), (3, 5), (1, 3), (2, 4), (0, 2))
    windows = small.windows(*(clip(talk, *cut) for cut in cuts), short=True)
    starts = []
    for _, ours in windows:
        starts.append(ours.start())
        small.backend.extend(starts[-1], spoken.opening[:-1])
    batch = small.backend.together(starts, attended=True)
    found = decode_together(batch, [spoken] * len(windows), scored=True)
    for (exact, _), each in zip(windows, found, strict=True):
        expected = decode(small.reference, exact.start(), spoken, scored=True)
        assert each.tokens == expected.tokens and len(each.tokens) > 2
        assert np.allclose(each.attention, expected.attention, atol=0.03)


def test_the_same_bits(small: Both, talk: Array) -> None:
    """A token's logits are the same alone, behind others, and in lockstep, wherever its window lies."""
    windows = [ours for _, ours in small.windows(clip(talk, 0, 3), clip(talk, 3, 5), short=True)]
    alone = [small.backend.extend(window.start(), (1, 2, 3)) for window in windows]
    again = [small.backend.extend(window.start(), (1, 2, 3)) for window in reversed(windows)]
    assert all(np.array_equal(*pair) for pair in zip(alone, reversed(again), strict=True))
    of = (1, 1, 0, 0)
    batch = small.backend.together([windows[at].start() for at in of], attended=False)
    for step, token in enumerate((1, 2, 3)):
        for at, logits in zip(of, batch.extend((token,) * 4), strict=True):
            assert np.array_equal(logits, alone[at][step])


def test_beams(small: Both, talk: Array) -> None:
    """Decodings that fork and end, with pasts of several lengths."""
    windows = small.windows(clip(talk, 0, 3), clip(talk, 3, 5), short=True)
    starts: tuple[list[Cache], list[Cache]] = ([], [])
    for (exact, ours), length in zip(windows, (33, 3), strict=True):
        for side, backend, window in ((0, small.reference, exact), (1, small.backend, ours)):
            cache = window.start()
            backend.extend(cache, tuple(range(length)))
            starts[side].extend([cache, cache])
    theirs = OneByOne(small.reference, starts[0])
    batch = small.backend.together(starts[1], attended=False)

    def same(tokens: Sequence[int]) -> None:
        before = small.npu.dispatches
        found = [cosine(*pair) for pair in zip(batch.extend(tokens), theirs.extend(tokens), strict=True)]
        assert min(found) >= 0.998
        assert small.npu.dispatches - before == 1

    same((5, 6, 7, 8))
    for each in (batch, theirs):
        each.keep([0, 1, 1, 3, 2, 2])
    same((9, 10, 11, 12, 13, 14))


def test_a_window_stays_where_it_lies(small: Both, talk: Array) -> None:
    """Its keys and values are written to the NPU's memory once, also when others end."""
    windows = [ours for _, ours in small.windows(*(clip(talk, at, at + 2) for at in range(3)), short=True)]
    batch = small.backend.together([window.start() for window in windows], attended=False)
    batch.extend((1, 2, 3))
    tiles, written = small.decoder._buffers["states"], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "to_device", lambda *span: written.append(span))
        batch.keep([1, 2])
        batch.extend((4, 5))
        assert not written


def test_trying_again(small: Both, talk: Array) -> None:
    """A pass that failed halfway can be done anew: it leaves what it reads as it was."""
    ((_, ours),) = small.windows(clip(talk, 0, 2), short=True)
    run, logits = small.npu.run, []
    for times in (1, 2):

        def again(built: Built, commands: Sequence[Command], times: int = times) -> None:
            run(built, [*commands] * times)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(small.npu, "run", again)
            logits.append(small.backend.extend(ours.start(), (1, 2)))
    assert np.array_equal(logits[0], logits[1])


def test_too_much(small: Both, talk: Array) -> None:
    """Is refused."""
    with pytest.raises(ModelError, match="states is more"):
        small.decoder.window(np.zeros((513, 128), np.float32))
    ((_, ours),) = small.windows(clip(talk, 0, 2), short=True)
    cache = ours.start()
    cache.remembered = cache.remembered.and_then(np.zeros((96, small.decoder.parts.memory), np.uint16), {})
    with pytest.raises(ModelError, match="96 tokens over"):
        small.backend.extend(cache, (1,))


def test_limits(kernels: HostKernels, parts: Parts) -> None:
    """The whole design fits the hardware, for pasts and states of many steps."""
    assert not check(whole(kernels, DecoderDesignW8(parts, [Size(16, 14, 24)], (6,))))


def test_calls(kernels: HostKernels, parts: Parts) -> None:
    """Stages say how often the busiest core calls each kernel."""
    decoder = DecoderDesignW8(parts, [Size(4, 1, 2)], ())
    (each,) = decoder.passes
    composer = each.composer
    sequence = composer.sequence(each.name, composer.units, composer.work)
    lengths = {"queries": 1, "past": np.zeros(64), "past groups": 4, "past shared": 1}
    lengths["states"] = np.zeros(64)
    memory = {name: np.zeros(block.bytes, np.uint8) for name, block in sequence.arguments.items()}
    memory["headers"][:] = composer.headers(lengths).view(np.uint8)
    stages = [stage for unit in composer.units.values() for stage in unit]
    assert not disagreements(whole(kernels, decoder), sequence, stages, memory, kernels)
