"""When each token was said: a monotone path through the decoder's cross-attention."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def token_starts(attention: NDArray[np.float32]) -> NDArray[np.int64]:
    """attention [tokens, frames] -> the frame at which each token begins, [tokens], ascending.

    Dynamic time warping: of all paths that go through the tokens in order and give each frame to one token, the one
    along which the attention adds up to most.
    """
    tokens, frames = attention.shape
    best = np.full(frames + 1, -np.inf)
    best[0] = 0.0  # best[f]: highest sum with f frames given to the tokens so far
    came: list[NDArray[np.int64]] = []
    summed = np.concatenate([np.zeros((tokens, 1)), attention.cumsum(axis=1)], axis=1)  # [tokens, frames + 1]
    for i in range(tokens):
        gain = best - summed[i]  # token i begins at frame f
        begin = _running_argmax(gain)
        came.append(begin)
        best = gain[begin] + summed[i]
    starts = np.zeros(tokens, np.int64)
    end = frames
    for i in range(tokens - 1, -1, -1):
        end = starts[i] = came[i][end]
    return starts


def _running_argmax(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The index of the highest value up to and including each place."""
    highest = np.maximum.accumulate(values)
    fresh = np.concatenate([[True], values[1:] > highest[:-1]])
    return np.maximum.accumulate(np.where(fresh, np.arange(len(values)), 0))
