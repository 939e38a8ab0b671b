"""Matrices as the overlay wants them: a head takes 64 columns, whatever its own width; what is added for that is zero."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.weights import Attention, Matrix
from npu.xdna.overlay import DEPTH
from npu.xdna.regions import LANE, Region, View

Array = NDArray[Any]


def own(x: Region, width: int) -> View:
    """The columns of a matrix without those that fill its spans."""
    return x.view(width=-(-width // DEPTH) * DEPTH)


def projections(attention: Attention, heads: int, lanes: int) -> tuple[Array, Array]:
    """[width, 3 * lanes * 64] and what is added to it."""
    parts = (attention.query, attention.key, attention.value)
    matrix = np.concatenate([in_lanes(part.dense(), heads, lanes) for part in parts], axis=1)
    bias = np.concatenate([in_lanes(bias_of(part)[None], heads, lanes)[0] for part in parts])
    return matrix, bias


def bias_of(matrix: Matrix) -> Array:
    """[n]: what is added, zeros where there is nothing."""
    return np.zeros(matrix.shape[1], np.float32) if matrix.bias is None else matrix.bias


def in_lanes(x: Array, heads: int, lanes: int) -> Array:
    """[rows, heads * width] -> [rows, lanes * 64]."""
    apart = x.reshape(len(x), heads, -1)
    wide = np.pad(apart, ((0, 0), (0, lanes - heads), (0, LANE - apart.shape[2])))
    return wide.reshape(len(x), -1)
