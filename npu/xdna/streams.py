"""What never changes of a model, in the order in which it streams into the overlay in bf16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.oracle import to_bf16
from npu.xdna.overlay import DEPTH, OBJECT, Bits, columns

Array = NDArray[Any]


def padded(x: Array, rows: int, width: int) -> Array:
    """x [m, n] with zeros behind its rows and columns."""
    return np.pad(x, ((0, rows - x.shape[0]), (0, width - x.shape[1])))


def streamed(matrix: Array, bias: Array | None) -> Bits:
    """[n / 64][depth / 32 + 1][2048]: for 64 columns the tiles of B in their order, then what belongs to the columns."""
    depth, n = matrix.shape
    tiles = to_bf16(matrix).reshape(depth // DEPTH, DEPTH, n // TILE, TILE).transpose(2, 0, 1, 3)
    start = np.zeros(n, np.float32)
    if bias is not None:
        start[: len(bias)] = bias
    behind = np.stack([columns(row) for row in start.reshape(-1, TILE)]).reshape(n // TILE, 1, OBJECT)
    return np.concatenate([tiles.reshape(n // TILE, -1, OBJECT), behind], axis=1)


def spread(tiles: Bits) -> Bits:
    """What `streamed` gives, with tiles for the four rows of cores in turn: [n / 256][depth / 32 + 1][4][2048]."""
    return tiles.reshape(-1, SIDE, *tiles.shape[1:]).swapaxes(1, 2)


def gains_of(gain: Array, offset: Array | None, i: int, rounds: int) -> Bits:
    """[rounds][2048]: of every fourth 64 columns, from the i-th on."""
    words = np.zeros((2, rounds * SPAN), np.float32)
    words[0, : len(gain)] = gain
    if offset is not None:
        words[1, : len(offset)] = offset
    own = words.reshape(2, rounds, SIDE, TILE)[:, :, i].swapaxes(0, 1)
    return np.stack([columns(each.ravel()) for each in own])


def turns(angles: Array, rows: int) -> Bits:
    """angles [up to rows, pairs] -> [rows / 64][2][64][32]: cosines, and sines with a minus before those of even values."""
    cosine, sine = np.ones((rows, DEPTH), np.float32), np.zeros((rows, DEPTH), np.float32)
    width = 2 * angles.shape[1]
    cosine[: len(angles), :width] = np.repeat(np.cos(angles), 2, axis=1)
    sine[: len(angles), :width:2], sine[: len(angles), 1:width:2] = -np.sin(angles), np.sin(angles)
    both = np.stack([each.reshape(-1, TILE, DEPTH) for each in (cosine, sine)], axis=1)
    return to_bf16(both)
