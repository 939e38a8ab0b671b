"""What a decoder with weights in 8 bits remembers of a window: its keys and values in 8 bits, in the host's memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.xdna.caches import Window
from npu.xdna.overlay import Bits


@dataclass(frozen=True, eq=False)
class WindowW8(Window):
    """A window after the encoder."""

    tiles: Bits  # [blocks, layers * heads * 4096]: of 64 states, keys and values of each head as the NPU wants them
    scales: Bits  # [layers * heads * 2048]: of each head, of all its blocks, as a tile

    def keys(self, layer: int, head: int) -> NDArray[np.float32]:
        """[frames, width of a head]."""
        raise NotImplementedError
