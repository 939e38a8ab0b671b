from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.clustering import Array, cluster, pair


def people(*who: int, noise: float = 0.2) -> Array:
    """A noisy voiceprint for each entry, of that person."""
    random = np.random.default_rng(1)
    voices = np.linalg.qr(random.standard_normal((64, 8)))[0].T
    prints = voices[list(who)] + noise * random.standard_normal((len(who), 64)) / 8
    return np.asarray(prints / np.linalg.norm(prints, axis=1, keepdims=True), np.float32)


def test_people() -> None:
    """Each is a cluster, numbered by first member."""
    found = cluster(people(3, 3, 1, 3, 0, 1), np.ones(6, np.float32), 0.5)
    assert found.tolist() == [0, 0, 1, 0, 2, 1]


@pytest.mark.parametrize(("fewest", "most", "expected"), [(1, 2, 2), (5, None, 5), (1, None, 3), (6, 6, 6)])
def test_bounds(fewest: int, most: int | None, expected: int) -> None:
    """They overrule the similarity."""
    found = cluster(people(0, 0, 1, 1, 2, 2), np.ones(6, np.float32), 0.5, fewest=fewest, most=most)
    assert len(set(found.tolist())) == expected


def test_apart() -> None:
    """Voiceprints that are apart stay so, and so do those that join them, until the bound leaves no choice."""
    prints, ones = people(0, 0, 0, 1), np.ones(4, np.float32)
    assert len(set(cluster(prints, ones, 0.5, apart=[(0, 1)]).tolist())) == 3
    assert len(set(cluster(prints, ones, 0.5, apart=[(0, 1)], most=1).tolist())) == 1


@given(st.integers(1, 3), st.integers(1, 4), st.randoms(use_true_random=False))
def test_pair_is_the_best_there_is(rows: int, columns: int, random: object) -> None:
    """Against every possible pairing."""
    scores = np.random.default_rng(random.randrange(1 << 30)).random((rows, columns))  # type: ignore[attr-defined]
    least = [0.3] * rows
    chosen = pair(scores.astype(np.float32), least)

    def worth(choice: tuple[int | None, ...]) -> float:
        return sum(scores[row, column] - 0.3 for row, column in enumerate(choice) if column is not None)

    options = set(permutations([*range(columns), *[None] * rows], rows))
    assert worth(tuple(chosen)) == pytest.approx(max(worth(choice) for choice in options), abs=1e-4)
