"""What a decoder with weights in 8 bits remembers of a window: its keys and values in 8 bits, in the host's memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.xdna.caches import Window
from npu.xdna.overlay import Bits
from npu.xdna.windows import keys_of


@dataclass(frozen=True, eq=False)
class WindowW8(Window):
    """A window after the encoder."""

    tiles: (
        Bits  # [layers, heads, blocks, 4096]: of 64 states, keys and values of a head as the NPU wants them
    )
    scales: NDArray[np.float32]  # [layers, heads, blocks, 2]: of either

    def keys(self, layer: int, head: int) -> NDArray[np.float32]:
        """[frames, width of a head]."""
        found = keys_of(self.tiles[layer, head], self.scales[layer, head, :, 0])
        return found[: self.frames, : self.parts.head_width]
