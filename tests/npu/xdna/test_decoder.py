"""Whole decoders through the runtime and the emulated NPU, over the reference's encoder: close to it, the same text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends.reference import Reference, ReferenceBackend, ReferenceEncoded
from npu.backends.whisper_reference import WhisperReference
from npu.backends.xdna_whole import NpuBackend, whisper_passes
from npu.batches import CONTEXT_BATCH
from npu.checkpoint import Checkpoint
from npu.decoding import Rules, decode, decode_together
from npu.hf_tokens import HuggingFaceTokenizer
from npu.model import Cache, OneByOne
from npu.moonshine import TINY
from npu.untrained import BASE
from npu.weights import Weights
from npu.whisper import architecture_of
from npu.whisper_weights import WhisperWeights
from npu.xdna.check import check
from npu.xdna.counts import disagreements
from npu.xdna.decoder import Decoder, DecoderDesign, Sizes
from npu.xdna.decoders import Parts
from npu.xdna.emulated import emulated
from npu.xdna.host_kernels import HostKernels
from npu.xdna.runtime import Built, Command
from npu.xdna.shapes import whisper_parts, whisper_weights
from streaming.containers import decode_container
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

FIXTURES = Path(__file__).parents[2] / "fixtures"


def cosine(x: NDArray[Any], y: NDArray[Any]) -> float:
    a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def rules_of(checkpoint: Checkpoint) -> Rules:
    """Greedy, English, without times."""
    tokenizer = HuggingFaceTokenizer.read(checkpoint.folder)
    signals = tokenizer.signals
    return Rules(signals.opening("en", "transcribe"), signals.end, 60, tokenizer.word_starts)


class Both:
    """A model's reference, and the NPU's decoder over the reference's states."""

    def __init__(
        self, kernels: HostKernels, reference: Reference, design: DecoderDesign, rules: Rules
    ) -> None:
        self.npu, (built,) = emulated(kernels, design.design(kernels.stacks))
        self.reference, self.rules = reference, rules
        self.decoder = Decoder(self.npu, built, design)
        self.backend = NpuBackend(reference._architecture, self._states, self.decoder, self.npu.name)

    def _states(self, audio: Array, short: bool) -> Array:
        return self.reference.encode(audio, short).states

    def windows(self, *clips: Array, short: bool = False) -> list[tuple[ReferenceEncoded, Any]]:
        """Each by the reference, and on the NPU."""
        found = [self.reference.encode(clip, short) for clip in clips]
        return [(each, self.decoder.window(each.states)) for each in found]


@pytest.fixture(scope="module")
def kernels(portable: HostKernels) -> HostKernels:
    """Of one path."""
    return portable


@pytest.fixture(scope="module")
def small(kernels: HostKernels) -> Both:
    """The checkpoint that speaks."""
    checkpoint = Checkpoint(FIXTURES / "whisper-small-talk")
    architecture = architecture_of(checkpoint)
    parts = Parts.whisper(WhisperWeights(checkpoint, "fp32"), architecture)
    design = DecoderDesign(parts, Sizes(past=(0, 1, 8), states=(8, 32), spans=(1, 2)))
    return Both(kernels, WhisperReference(architecture, checkpoint), design, rules_of(checkpoint))


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
    """The text of three seconds token by token at first, then as a draft of all of it, in lockstep with another."""
    design = DecoderDesign(Parts.moonshine(weights, TINY), Sizes(past=(0,), states=(8,), spans=(1,)))
    both = Both(kernels, reference, design, rules)
    ((exact, ours),) = both.windows(clip(clips["two_cities"], 0, 3))
    expected = decode(reference, exact.start(), rules)
    tokens = (*rules.opening, *expected.tokens)
    assert len(tokens) >= 8
    theirs, cache, alone = exact.start(), ours.start(), ours.start()
    logits = both.backend.extend(cache, tokens)
    wanted = reference.extend(theirs, tokens)
    assert cosine(logits, wanted) >= 0.9999
    assert np.array_equal(logits.argmax(axis=1), [*expected.tokens, rules.end])
    assert np.allclose(cache.attention(), theirs.attention(), atol=0.01)
    for row, token in enumerate(tokens[:2]):
        assert np.array_equal(both.backend.extend(alone, (token,))[0], logits[row])


def test_the_same_text(small: Both, talk: Array) -> None:
    """Greedily, token by token, a dispatch each."""
    audio = clip(talk, 0, 3)
    expected = decode(small.reference, small.reference.encode(audio, True).start(), small.rules)
    ours = small.backend.encode(audio, short=True)
    before = small.npu.dispatches
    found = decode(small.backend, ours.start(), small.rules, scored=True)
    assert small.npu.dispatches - before == found.passes == len(found.tokens) + 1
    assert found.tokens == expected.tokens and len(found.tokens) > 4


def test_many_tokens(small: Both, talk: Array) -> None:
    """More than a pass takes: close to the reference, and the same bits as one by one, wherever passes begin."""
    ((exact, ours),) = small.windows(clip(talk, 0, 3), short=True)
    tokens = tuple(np.random.default_rng(1).integers(0, 256, 110).tolist())
    theirs, cache = exact.start(), ours.start()
    logits = small.backend.extend(cache, tokens)
    assert cache.length == 110
    assert cosine(logits, small.reference.extend(theirs, tokens)) >= 0.9999
    assert np.allclose(cache.attention(), theirs.attention(), atol=0.01)
    for length in (95, 31):
        copy = cache.copy()
        copy.truncate(length)
        assert np.allclose(copy.attention(), cache.attention()[:length], atol=1e-6)
        for at in range(length, length + 2):
            assert np.array_equal(small.backend.extend(copy, (tokens[at],))[0], logits[at])
    assert cache.length == 110


def test_a_copy(small: Both, talk: Array) -> None:
    """Goes its own way."""
    ((_, ours),) = small.windows(clip(talk, 0, 2), short=True)
    cache = ours.start()
    small.backend.extend(cache, (1, 2, 3))
    copy = cache.copy()
    first, second = (small.backend.extend(each, (token,)) for each, token in ((cache, 4), (copy, 5)))
    copy.truncate(3)
    assert not np.array_equal(first, second)
    assert np.array_equal(small.backend.extend(copy, (4,)), first)


def test_trying_again(small: Both, talk: Array) -> None:
    """A pass that failed halfway can be done anew: it leaves what it reads as it was."""
    ((_, ours),) = small.windows(clip(talk, 0, 2), short=True)
    run, logits = small.npu.run, []
    for times in (1, 2):

        def again(built: Built, commands: Sequence[Command], times: int = times) -> None:
            run(built, [*commands] * times)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(small.npu, "run", again)
            logits.append(small.backend.extend(ours.start(), (1, 2, 3)))
    assert np.array_equal(*logits)


def test_many_layers(kernels: HostKernels, small: Both, talk: Array) -> None:
    """Keep their keys and values in several buffers, where a row of them all is too wide, and nothing else changes."""
    parts = replace(small.decoder.parts, widest=2 * 2 * small.decoder.parts.each)
    assert list(parts.buffers("past")) == ["past", "past1"]
    design = DecoderDesign(parts, Sizes(past=(0, 1), states=(8,), spans=(1,)))
    apart = Both(kernels, small.reference, design, small.rules)
    for both, logits in ((small, found := []), (apart, wide := [])):
        cache = both.windows(clip(talk, 0, 2), short=True)[0][1].start()
        logits += [both.backend.extend(cache, tuple(range(at, at + 20))) for at in (0, 20, 40)]
    assert all(np.array_equal(*each) for each in zip(found, wide, strict=True))


def test_windows_in_turn(small: Both, talk: Array) -> None:
    """What lies in the NPU's memory of one is not seen by another."""
    windows = small.windows(clip(talk, 0, 3), clip(talk, 3, 5), short=True)
    first = [small.backend.extend(ours.start(), (1, 2)) for _, ours in windows]
    again = [small.backend.extend(ours.start(), (1, 2)) for _, ours in reversed(windows)]
    assert all(np.array_equal(*pair) for pair in zip(first, reversed(again), strict=True))
    assert not np.array_equal(*first)


def test_lockstep(small: Both, talk: Array) -> None:
    """Decodings of two windows give the text that each gives alone, and look where it looks."""
    windows = small.windows(clip(talk, 0, 3), clip(talk, 3, 5), short=True)
    opening = small.rules.opening
    starts = []
    for _, ours in windows:
        starts.append(ours.start())
        small.backend.extend(starts[-1], opening[:-1])
    batch = small.backend.together(starts, attended=True)
    found = decode_together(batch, [small.rules] * 2, scored=True)
    for (exact, _), each in zip(windows, found, strict=True):
        expected = decode(small.reference, exact.start(), small.rules, scored=True)
        assert each.tokens == expected.tokens and len(each.tokens) > 2
        assert np.allclose(each.attention, expected.attention, atol=0.02)


def test_openings(small: Both, talk: Array) -> None:
    """Tokens of many decodings take a pass each for all of them, where that is less, and the caches then hold them."""
    windows = small.windows(clip(talk, 0, 3), clip(talk, 3, 5), short=True)
    exact = [theirs for theirs, _ in windows for _ in range(2)]
    caches = [ours.start() for _, ours in windows for _ in range(2)]
    tokens = [tuple(range(row, row + 3)) for row in range(4)]
    before = small.npu.dispatches
    found = small.backend.extend_all(caches, tokens)
    assert small.npu.dispatches - before == 3
    for each, cache, theirs, said in zip(found, caches, exact, tokens, strict=True):
        wanted = theirs.start()
        assert cosine(each, small.reference.extend(wanted, said)) >= 0.9995
        assert np.allclose(cache.attention(), wanted.attention(), atol=0.02)
        assert cache.length == cache.remembered.length == 3
    again = [ours.start() for _, ours in windows]
    for each, cache, said in zip(
        small.backend.extend_all(again, tokens[::2]), again, tokens[::2], strict=True
    ):
        assert np.array_equal(each[-1:], small.backend.extend(_without_last(caches.pop(0)), said[-1:]))
        assert cache.length == 3
        caches.pop(0)
    assert small.npu.dispatches - before == 3 + 2 + 2


def _without_last(cache: Any) -> Any:
    cache.truncate(cache.length - 1)
    return cache


def test_beams(small: Both, talk: Array) -> None:
    """Decodings that fork and end, with pasts of several lengths, in one pass or in several."""
    windows = small.windows(clip(talk, 0, 3), clip(talk, 3, 5), short=True)
    starts: tuple[list[Cache], list[Cache]] = ([], [])
    for (exact, ours), length in zip(windows, (33, 3), strict=True):
        for side, backend, window in ((0, small.reference, exact), (1, small.backend, ours)):
            cache = window.start()
            backend.extend(cache, tuple(range(length)))
            starts[side].extend([cache, cache])
    theirs = OneByOne(small.reference, starts[0])
    ours_ = small.backend.together(starts[1], attended=False)

    def same(tokens: Sequence[int], passes: int) -> None:
        before = small.npu.dispatches
        pairs = zip(ours_.extend(tokens), theirs.extend(tokens), strict=True)
        found = [cosine(*pair) for pair in pairs]
        assert min(found) >= 0.9995
        assert small.npu.dispatches - before == passes

    same((5, 6, 7, 8), passes=1)
    for batch in (ours_, theirs):
        batch.keep([0, 1, 1, 3, 2, 2])
    same((9, 10, 11, 12, 13, 14), passes=2)  # two pieces of past for each of six are more than eight


def test_too_much(small: Both, talk: Array) -> None:
    """Is refused."""
    with pytest.raises(ModelError, match="states is more"):
        small.decoder.window(np.zeros((513, 128), np.float32))
    ((_, ours),) = small.windows(clip(talk, 0, 2), short=True)
    cache = ours.start()
    cache.remembered = cache.remembered.and_then(np.zeros((288, small.decoder.parts.memory), np.uint16), {})
    cache.tokens = [0] * 288
    with pytest.raises(ModelError, match="288 tokens over"):
        small.backend.extend(cache, (1,))


def test_limits(kernels: HostKernels, weights: Weights) -> None:
    """The whole design fits the hardware, for pasts and states of many steps."""
    parts = Parts.moonshine(weights, TINY)
    assert not check(DecoderDesign(parts, Sizes((64,), (376,), (1,))).design(kernels.stacks))


def test_limits_of_many_layers(kernels: HostKernels) -> None:
    """32 layers of 20 heads, as Whisper's largest have: keys and values of them all in one buffer are too far apart."""
    sizes = replace(BASE, width=80, decoder_layers=32, decoder_heads=20, decoder_hidden=80, vocabulary=80)
    parts = whisper_parts(sizes)
    assert [each.stop - each.start for each in parts.buffers("states").values()] == [16 * 2560] * 2
    for widest, rules in ((parts.widest, set()), (parts.memory, {"transfers"})):
        design = DecoderDesign(replace(parts, widest=widest), Sizes((8,), (8,), ()))
        assert {each.rule for each in check(design.design(kernels.stacks))} == rules


def test_sequences_for_recordings() -> None:
    """There are few, and eight windows of a whole context are one pass for as long as they have half of their tokens."""
    sizes = whisper_passes(whisper_weights(BASE))
    states, tokens = -(-BASE.states // 32), -(-BASE.tokens // 32)
    assert CONTEXT_BATCH * states in sizes.states and CONTEXT_BATCH * tokens // 2 in sizes.past
    assert len(sizes.past) * len(sizes.states) <= 16


def test_calls(kernels: HostKernels) -> None:
    """Stages say how often the busiest core calls each kernel."""
    checkpoint = Checkpoint(FIXTURES / "whisper-small-talk")
    parts = Parts.whisper(WhisperWeights(checkpoint, "fp32"), architecture_of(checkpoint))
    design = DecoderDesign(parts, Sizes((1,), (2,), ()))
    (each,) = design.passes
    composer = each.composer
    sequence = composer.sequence(each.name, composer.units, composer.work)
    lengths = {"queries": 1, "alone": 0, "past": np.zeros(64), "past groups": 1, "past shared": 64}
    lengths |= {"states": np.zeros(64), "states groups": 1, "states shared": 64}
    memory = {name: np.zeros(block.bytes, np.uint8) for name, block in sequence.arguments.items()}
    memory["headers"][:] = composer.headers(lengths).view(np.uint8)
    stages = [stage for unit in composer.units.values() for stage in unit]
    assert not disagreements(design.design(kernels.stacks), sequence, stages, memory, kernels)
