"""What several windows give to one batch, as arrays: laid side by side, padded, cut, and brought together again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from npu.architecture import Architecture

Array = NDArray[np.float32]
Window = TypeVar("Window")

_UNHEARD = -1e9  # added to the score of a state that is only padding


def each_once(of_rows: Iterable[Window]) -> tuple[list[Window], int]:
    """The windows that rows are of, and how many rows each has; ValueError where they do not stand side by side."""
    of_rows = list(of_rows)
    windows = list({id(window): window for window in of_rows}.values())
    rows = len(of_rows) // len(windows)
    if any(window is not windows[row // rows] for row, window in enumerate(of_rows)):
        raise ValueError("decodings of one window do not stand side by side, as many for each window")
    return windows, rows


def side_by_side(parts: Sequence[NDArray[Any]], axis: int | None) -> NDArray[Any]:
    """Arrays [1, ...] -> [windows, ...], with zeros up to the longest along the axis, if there is one."""
    longest = list(max(parts, key=lambda part: part.shape[axis or 0]).shape)
    laid = np.zeros((len(parts), *longest[1:]), parts[0].dtype)
    for row, part in enumerate(parts):
        cut(laid[row : row + 1], axis, part.shape[axis or 0])[:] = part
    return laid


def cut(x: NDArray[Any], axis: int | None, n: int) -> NDArray[Any]:
    """The first n along the axis, if there is one."""
    return x if axis is None else x[(slice(None),) * axis + (slice(n),)]


def heard(states: Sequence[int]) -> Array:
    """[windows, 1, 1, longest]: what is added to the scores of windows of so many states."""
    found = np.zeros((len(states), 1, 1, max(states)), np.float32)
    for row, n in enumerate(states):
        found[row, ..., n:] = _UNHEARD
    return found


def reordered(stored: Array, rows: Sequence[int], length: int, room: int) -> Array:
    """stored [decodings, heads, capacity, width] of these decodings, with room for more than their first tokens.

    Where their number stays, only those that change are copied, in place.
    """
    if len(rows) == len(stored):
        moved = [row for row, source in enumerate(rows) if row != source]
        stored[moved, :, :length] = stored[[rows[row] for row in moved], :, :length]
        return stored
    kept = np.zeros((len(rows), stored.shape[1], max(room, length), stored.shape[3]), np.float32)
    for row, source in enumerate(rows):
        kept[row, :, :length] = stored[source, :, :length]
    return kept


def mean_of_heads(layers: Sequence[Array], architecture: Architecture) -> Array:
    """Of each aligned layer [windows, heads, k, states] -> [windows, k, states], the mean over the aligned heads."""
    chosen = [layer[:, heads] for layer, heads in zip(layers, architecture.aligned.values(), strict=True)]
    return np.asarray(np.concatenate(chosen, axis=1).mean(axis=1), np.float32)
