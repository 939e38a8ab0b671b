"""Voiceprints into speakers: average-linkage clustering, and the best pairing of voices with speakers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def cluster(
    voiceprints: Array,
    weights: Array,
    alike: float,
    apart: Sequence[tuple[int, int]] = (),
    fewest: int = 1,
    most: int | None = None,
) -> NDArray[np.int64]:
    """Voiceprints [n, width], unit vectors with weights [n] -> the cluster of each, 0, 1, 2 ... by first member.

    The two clusters of highest mean similarity become one, as long as it is at least `alike`. There will not be
    fewer than `fewest` clusters, nor more than `most`; pairs of voiceprints that are `apart` stay so as long as that
    can be had. The mean similarity of two clusters is the product of their means.
    """
    n = len(voiceprints)
    means, sizes = voiceprints.astype(np.float64), weights.astype(np.float64).copy()
    gone = np.zeros(n, bool)  # into another cluster
    barred = np.eye(n, dtype=bool)
    for i, j in apart:
        barred[i, j] = barred[j, i] = True
    similarity = np.where(barred, -np.inf, means @ means.T)
    member = np.arange(n)
    for left in range(n, fewest, -1):
        a, b = sorted(divmod(int(np.argmax(similarity)), n))
        if similarity[a, b] < alike and (most is None or left <= most):
            break
        if np.isneginf(similarity[a, b]):  # only barred pairs are left: the most similar of them
            allowed = np.where(
                gone[:, None] | gone[None, :] | np.eye(n, dtype=bool), -np.inf, means @ means.T
            )
            a, b = sorted(divmod(int(np.argmax(allowed)), n))
        means[a] = (sizes[a] * means[a] + sizes[b] * means[b]) / (sizes[a] + sizes[b])
        sizes[a] += sizes[b]
        gone[b] = True
        barred[a] |= barred[b]
        barred[:, a] |= barred[:, b]
        similarity[a] = similarity[:, a] = np.where(barred[a] | gone, -np.inf, means @ means[a])
        similarity[b] = similarity[:, b] = -np.inf
        member[member == b] = a
    return np.unique(member, return_inverse=True)[1]


def pair(scores: Array, least: Sequence[float], groups: Sequence[int] | None = None) -> list[int | None]:
    """The column of each row, no column twice, of the highest sum of scores; None where none reaches the row's least.

    Rows of one group may have the same column. For the few rows of a window: each needs only as many columns as there
    are rows.
    """
    rows = len(scores)
    gains = scores - np.asarray(least)[:, None]
    order = np.argsort(-gains, axis=1)[:, :rows]
    choices = [[None, *(int(c) for c in order[r] if gains[r, c] >= 0)] for r in range(rows)]
    best: tuple[float, list[int | None]] = (-1.0, [None] * rows)
    owners = range(rows) if groups is None else groups
    for chosen in product(*choices):
        taken = {(c, owner) for c, owner in zip(chosen, owners, strict=True) if c is not None}
        if len(taken) == len({c for c, _ in taken}):
            gain = sum(1e-6 + gains[r, c] for r, c in enumerate(chosen) if c is not None)
            best = max(best, (float(gain), list(chosen)), key=lambda each: each[0])
    return best[1]
