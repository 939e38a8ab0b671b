from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npu.beam import Beam, beam_search
from npu.decoding import Decoding, Ending, Rules, decode

Array = NDArray[np.float32]

VOCABULARY, END = 24, 2


def rules(most: int, vocabulary: int = VOCABULARY, guarded: bool = True) -> Rules:
    """Any token may begin a word."""
    return Rules((1,), END, most, np.ones(vocabulary, np.bool_), guarded=guarded)


def searched(model: object, every: list[Rules], beam: Beam, forced: tuple[int, ...] = ()) -> list[Decoding]:
    """A search over parrots, which hear nothing."""
    starts = [model.encode(None).start() for _ in every]  # type: ignore[attr-defined]
    for start in starts:
        if given := (*every[0].opening, *forced)[:-1]:
            model.extend(start, given)  # type: ignore[attr-defined]
    return beam_search(model.together(starts, False), every, beam, [forced] * len(every))  # type: ignore[attr-defined]


def log_softmax(row: Array) -> Array:
    return np.asarray(row - row.max() - np.log(np.exp(row - row.max()).sum()))


@given(seed=st.integers(0, 2**32), penalty=st.sampled_from([0.0, 0.6, 1.0]))
@settings(max_examples=40, deadline=None)
def test_against_every_hypothesis(seed: int, penalty: float, parrot: type) -> None:
    """A beam as wide as there are hypotheses, and patient, finds the best of them all."""
    small, most = 4, 3
    model, found = parrot(small, seed), {}

    def scored(tokens: tuple[int, ...]) -> float:
        rows = model.extend(model.encode(None).start(), (1, *tokens[:-1]))
        return float(sum(log_softmax(row)[token] for row, token in zip(rows, tokens, strict=True)))

    others = [token for token in range(small) if token != END]
    for length in range(most):
        for tokens in itertools.product(others, repeat=length):
            found[tokens] = scored((*tokens, END)) / (length + 1) ** penalty
    for tokens in itertools.product(others, repeat=most):
        found[tokens] = scored(tokens) / most**penalty
    (best,) = searched(model, [rules(most, small)], Beam(32, penalty, patience=4.0))
    assert found[best.tokens] == pytest.approx(max(found.values()), abs=1e-4)


@given(seed=st.integers(0, 2**32), most=st.lists(st.integers(1, 20), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_windows_together(seed: int, most: list[int], parrot: type) -> None:
    """Each comes out as alone, whenever the others end."""
    model = parrot(VOCABULARY, seed)
    together = searched(model, [rules(n) for n in most], Beam(3))
    for n, found in zip(most, together, strict=True):
        (alone,) = searched(model, [rules(n)], Beam(3))
        assert found.tokens == alone.tokens
        assert np.allclose(found.log_probs, alone.log_probs, atol=1e-5)
        assert found.ending is alone.ending


@given(seed=st.integers(0, 2**32), most=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_beam_of_one(seed: int, most: int, parrot: type) -> None:
    """Is the most probable token, one after the other, with the same scores."""
    model = parrot(VOCABULARY, seed)
    (found,) = searched(model, [rules(most)], Beam(1))
    greedy = decode(model, model.encode(None).start(), rules(most), scored=True)
    if greedy.ending is not Ending.LOOP:
        assert found.tokens == greedy.tokens
        assert np.allclose(found.log_probs, greedy.log_probs, atol=1e-4)
        if found.ending is Ending.END:
            assert found.mean_log_prob == pytest.approx(greedy.mean_log_prob, abs=1e-4)


def test_forced_tokens(parrot: type) -> None:
    """Every hypothesis begins with them, and goes on with a word of its own."""
    model = parrot(VOCABULARY, 5)
    starts = np.zeros(VOCABULARY, np.bool_)
    starts[[7, 8]] = True
    every = [Rules((1,), END, 12, starts)]
    (found,) = searched(model, every, Beam(4), (5, 6))
    assert found.tokens[:2] == (5, 6)
    assert found.tokens[2:3] in [(7,), (8,), ()]


def test_loop(parrot: type) -> None:
    """A hypothesis that repeats itself goes no further, and says so if it is the best."""

    class Loop(parrot):  # type: ignore[misc, valid-type]
        def extend(self, cache: object, tokens: tuple[int, ...]) -> Array:
            logits = super().extend(cache, tokens)
            logits[:, 9] = 50
            return np.asarray(logits)

    (found,) = searched(Loop(VOCABULARY, 1), [rules(60)], Beam(2))
    assert (found.tokens, found.ending) == ((9,), Ending.LOOP)
    (unguarded,) = searched(Loop(VOCABULARY, 1), [rules(60, guarded=False)], Beam(2))
    assert unguarded.tokens == (9,) * 60
