"""The canary of a decoder with weights in 8 bits: what the other asks, and a product of few rows and attention to windows.

Weights are whole numbers whose largest is 127 in every column, and so they are as they are in 8 bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npu.xdna import oracle_bf16
from npu.xdna.canary import Answer, Canary, whole
from npu.xdna.composer import Composer
from npu.xdna.decoders_w8 import ComposerW8
from npu.xdna.few import ROWS, plain_bits
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.oracle import Bits, to_bf16
from npu.xdna.oracle_few import plain_rows, product_few
from npu.xdna.oracle_windows import Window, laid_tile, windows_attention
from npu.xdna.overlay import B_ORDER, Activation
from npu.xdna.regions import LANE
from npu.xdna.windows import SCALES, STATES, Room, Windows, laid_scales

_DEPTH, _COLUMNS = 256, 2 * SPAN + 40  # of the product: some cores have columns, and some none
_FRAMES = np.array([50, TILE, 1, 20])  # states of the windows
_ROOM = Room(groups=SIDE, blocks=1, layers=1, heads=SIDE)
_SCALE = 1 / 8  # powers of two for a score of 1
_SCALES = np.array([1 / 64, 1 / 32], np.float32)  # of keys and of values: powers of two


class CanaryW8(Canary):
    """The questions, and the answers that are known."""

    asks = "products and attentions in bf16, and with weights, keys and values in 8 bits"

    def __init__(self) -> None:
        super().__init__()
        self.answers = (*self.answers, self._few(), self._windows())

    def _composed(self) -> Composer:
        self._stages = ComposerW8(self._constants)
        return self._stages

    def _more(self) -> tuple[Bits, ...]:
        states, scales = (np.zeros(_ROOM.sizes[name], np.uint16) for name in (STATES, SCALES))
        keys, values = self._tiles()
        both = np.tile(_SCALES, (1, SIDE, 1, 1))
        for group, head in np.ndindex(SIDE, SIDE):
            laid = laid_tile(keys[group, head], values[group, head]).view(np.uint16).reshape(2, -1)
            _ROOM.tiles_of(states)[0, head, group, 0].reshape(2, -1)[:, B_ORDER.indices()] = laid
            _ROOM.scales_of(scales)[:, :, group] = laid_scales(both)
        return states, scales

    def _few(self) -> Answer:
        """GELU(x @ matrix + bias) of 16 rows."""
        x, matrix = whole(8, -7, 7, ROWS, _DEPTH) / np.float32(256), whole(9, -126, 126, _DEPTH, _COLUMNS)
        matrix[0] = 127
        bias = whole(10, -8, 8, _COLUMNS)
        to = self._stages.few_region(_COLUMNS)
        self._stages.few("few rows", self._given(x), matrix, to, bias=bias, function=Activation.GELU)
        rows = plain_rows(to_bf16(x), plain_bits(_DEPTH))
        sums = product_few(rows, matrix.astype(np.int8), np.ones(_COLUMNS, np.float32), bias)
        nothing = np.zeros(_COLUMNS, np.float32)
        return Answer("product of few rows", to, oracle_bf16.epilogue_bf16(sums, nothing, Activation.GELU))

    def _windows(self) -> Answer:
        """Four windows of other lengths, four heads."""
        query = whole(11, -2, 2, TILE, SIDE * LANE)
        to = self._stages.region(TILE, SIDE * LANE)
        self._stages.windows(
            "windows", self._given(query), Windows(_ROOM, SIDE, 1, 0), to, scale=_SCALE * np.log(2),
            states=lambda _: _FRAMES,
        )  # fmt: skip
        keys, values = self._tiles()
        seen = []
        for head in range(SIDE):
            of_head = [
                Window(keys[at, head], values[at, head], _SCALES[None], int(frames))
                for at, frames in enumerate(_FRAMES)
            ]
            asked = to_bf16(query[:SIDE, head * LANE : (head + 1) * LANE])
            seen.append(windows_attention(asked, of_head, np.float32(_SCALE)))
        return Answer("attention to windows", to, np.concatenate(seen, axis=1))

    def _tiles(self) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """Keys and values [windows, heads, 64, 64]; values are positive, so that nothing cancels."""
        shape = (SIDE, SIDE, TILE, LANE)
        keys, values = whole(12, -127, 127, *shape), whole(13, 1, 127, *shape)
        return keys.astype(np.int8), values.astype(np.int8)
