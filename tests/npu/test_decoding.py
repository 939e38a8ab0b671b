from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npu.backends.onnx import OnnxBackend
from npu.decoding import Decoding, Draft, Rules, decode, decode_together
from npu.moonshine import TINY
from npu.tokens import Tokenizer
from streaming.window import SAMPLE_RATE

START = 1  # Moonshine's signal

Array = NDArray[np.float32]

VOCABULARY = 24
END = 2


def free_rules(most: int) -> Rules:
    """Rules for parrots: any token may begin a word."""
    return Rules((1,), END, most, np.ones(VOCABULARY, np.bool_))


def rules_for(audio: Array, tokenizer: Tokenizer) -> Rules:
    most = TINY.token_limit(len(audio), SAMPLE_RATE)
    return Rules((START,), END, most, tokenizer.word_starts)


@given(
    seed=st.integers(0, 2**32),
    forced=st.lists(st.integers(3, VOCABULARY - 1), max_size=6),
    draft=st.lists(st.integers(0, VOCABULARY - 1), max_size=40),
    most=st.integers(0, 30),
    kept=st.integers(0, 30),
)
@settings(max_examples=300, deadline=None)
def test_any_draft(
    seed: int, forced: list[int], draft: list[int], most: int, kept: int, parrot: type
) -> None:
    """Tokens and log-probabilities are those of decoding without it, in no more passes."""
    model, rules = parrot(VOCABULARY, seed), free_rules(most)
    plain = decode(model, model.encode(None).start(), rules, forced, scored=True)
    right = plain.tokens[len(forced) :]
    for guess in (draft, [*right[:kept], *draft], [*draft[:3], *right]):
        drafted = decode(model, model.encode(None).start(), rules, forced, guess, scored=True)
        assert drafted.tokens == plain.tokens
        assert np.allclose(drafted.log_probs, plain.log_probs)
        assert drafted.passes <= plain.passes
    assert len(plain.log_probs) == len(plain.tokens)


def updates(clip: Array, step_s: float, longest_s: float) -> list[Array]:
    """The windows of an utterance that grows, and begins anew when it is too long."""
    cuts, start = [], 0
    for end in range(round(0.3 * SAMPLE_RATE), len(clip), round(step_s * SAMPLE_RATE)):
        if end - start > longest_s * SAMPLE_RATE:
            start = end - SAMPLE_RATE
        cuts.append(clip[start:end])
    return cuts


@pytest.mark.timeout(300)
def test_live_updates(backend: OnnxBackend, clips: dict[str, Array], tokenizer: Tokenizer) -> None:
    """Over hundreds of updates the last hypothesis as draft changes no token and saves most passes."""
    plain_passes = drafted_passes = count = 0
    for clip in clips.values():
        last: tuple[int, ...] = ()
        for audio in updates(clip, step_s=0.37, longest_s=8):
            rules, encoded = rules_for(audio, tokenizer), backend.encode(audio)
            plain = decode(backend, encoded.start(), rules)
            drafted = decode(backend, encoded.start(), rules, draft=last)
            assert drafted.tokens == plain.tokens
            last = plain.tokens
            plain_passes += plain.passes
            drafted_passes += drafted.passes
            count += 1
    assert count > 200
    assert drafted_passes < 0.45 * plain_passes


@pytest.mark.timeout(300)
def test_live_updates_with_committed_words(
    backend: OnnxBackend, clips: dict[str, Array], tokenizer: Tokenizer
) -> None:
    """With a forced beginning, too; and the forced words stay words of their own."""
    clip = clips["two_cities"]
    committed: tuple[int, ...] = ()
    last: tuple[int, ...] = ()
    for audio in updates(clip, step_s=0.5, longest_s=60)[:24]:
        rules, encoded = rules_for(audio, tokenizer), backend.encode(audio)
        plain = decode(backend, encoded.start(), rules, committed)
        drafted = decode(backend, encoded.start(), rules, committed, last[len(committed) :])
        assert drafted.tokens == plain.tokens
        assert plain.tokens[: len(committed)] == committed
        words = [spelling for _, spelling in tokenizer.words(plain.tokens)]
        kept = [spelling for _, spelling in tokenizer.words(committed)]
        assert words[: len(kept)] == kept
        last = plain.tokens
        committed = tuple(token for spelling in words[:-2] for token in spelling)


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_mutated_drafts_on_the_model(
    data: st.DataObject, backend: OnnxBackend, clips: dict[str, Array], tokenizer: Tokenizer
) -> None:
    """Drafts with tokens replaced, left out, put in or made up change nothing."""
    audio = clips["beckett"][: 4 * SAMPLE_RATE]
    rules, encoded = rules_for(audio, tokenizer), backend.encode(audio)
    plain = decode(backend, encoded.start(), rules)
    draft = list(plain.tokens)
    token = st.integers(0, TINY.vocabulary - 1)
    for at, change, other in data.draw(
        st.lists(st.tuples(st.integers(0, 30), st.sampled_from("rdi"), token), max_size=5)
    ):
        at = min(at, len(draft))
        draft[at : at + (change != "i")] = [] if change == "d" else [other]
    assert decode(backend, encoded.start(), rules, draft=draft).tokens == plain.tokens


def test_log_probabilities(backend: OnnxBackend, clips: dict[str, Array], tokenizer: Tokenizer) -> None:
    """They are those of the tokens in one pass over all of them."""
    audio = clips["beckett"][: 5 * SAMPLE_RATE]
    rules, encoded = rules_for(audio, tokenizer), backend.encode(audio)
    decoding = decode(backend, encoded.start(), rules, scored=True)
    logits = backend.extend(encoded.start(), (START, *decoding.tokens[:-1])).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    chosen = expected[np.arange(len(decoding.tokens)), list(decoding.tokens)]
    assert np.allclose(decoding.log_probs, chosen, atol=1e-4)


class Loop:
    """A model that says the same few tokens for ever."""

    name = "loop"
    device = "none"

    def __init__(self, unit: list[int]) -> None:
        self._unit = unit

    def extend(self, cache: LoopCache, tokens: tuple[int, ...]) -> Array:
        rows = np.zeros((len(tokens), VOCABULARY), np.float32)
        for row in rows:
            row[self._unit[cache.length % len(self._unit)]] = 1
            cache.length += 1
        return rows


class LoopCache:
    """Where the loop stands."""

    length = 0

    def truncate(self, n: int) -> None:
        self.length = n


@pytest.mark.parametrize("unit", [[5], [5, 6], [5, 6, 7, 8, 9]])
@pytest.mark.parametrize("drafted", [0, 7, 60])
def test_loop(unit: list[int], drafted: int) -> None:
    """What a model repeats without end is said once, draft or not."""
    draft = (unit * drafted)[:drafted]
    decoding: Decoding = decode(Loop(unit), LoopCache(), free_rules(60), draft=draft)  # type: ignore[arg-type]
    assert list(decoding.tokens) == unit


def test_loop_in_forced_tokens() -> None:
    """Committed tokens stay, even those of a loop."""
    forced = [5] * 20
    decoding = decode(Loop([5]), LoopCache(), free_rules(60), forced)  # type: ignore[arg-type]
    assert list(decoding.tokens) == forced


def test_few_repetitions() -> None:
    """What people say three times is said three times."""
    said = [5, 6, 7] * 3 + [END]
    decoding = decode(Loop(said), LoopCache(), free_rules(60))  # type: ignore[arg-type]
    assert list(decoding.tokens) == said[:-1]


def test_forced_tokens_beyond_the_limit(parrot: type) -> None:
    """They are all there, and nothing else."""
    model = parrot(VOCABULARY, 1)
    assert decode(model, model.encode(None).start(), free_rules(2), [5, 6, 7, 8]).tokens == (5, 6, 7, 8)


def test_draft_with_one_token_replaced(parrot: type) -> None:
    """Two passes around the difference, not one for every token after it."""
    chance = random.Random(3)
    for seed in range(200):
        model = parrot(VOCABULARY, seed)
        plain = decode(model, model.encode(None).start(), free_rules(30))
        if len(plain.tokens) < 20 or len(set(plain.tokens[4:12])) < 8:
            continue
        draft = list(plain.tokens)
        draft[5] = chance.choice([token for token in range(3, VOCABULARY) if token not in plain.tokens[4:12]])
        assert decode(model, model.encode(None).start(), free_rules(30), draft=draft).passes <= 6
        return
    pytest.fail("no parrot said enough")


def test_draft_that_was_lost() -> None:
    """It proposes nothing until a decoded token is found in it again."""
    draft = Draft([10, 11, 12, 13, 14])
    assert draft.proposal(9) == [10, 11, 12, 13, 14]
    draft.receive_decided(1, 99)
    assert draft.proposal(9) == []
    draft.receive_decided(0, 12)
    assert draft.proposal(9) == [13, 14]


@given(seed=st.integers(0, 2**32), most=st.lists(st.integers(0, 30), min_size=1, max_size=9))
@settings(max_examples=100, deadline=None)
def test_windows_decoded_together(seed: int, most: list[int], parrot: type) -> None:
    """Each comes out as alone, whenever the others end."""
    model = parrot(VOCABULARY, seed)
    windows = [model.encode(None) for _ in most]
    # Parrots repeat themselves: what differs is how long each may go on.
    expected = [
        decode(model, window.start(), free_rules(n), scored=True)
        for window, n in zip(windows, most, strict=True)
    ]
    batch = model.together([window.start() for window in windows], True)
    found = decode_together(batch, [free_rules(n) for n in most], scored=True)
    assert [each.tokens for each in found] == [each.tokens for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert np.allclose(one.log_probs, other.log_probs)
        assert one.attention.shape == (len(one.tokens), 1)
