"""Everything on the AMD NPU: encoder and decoder, with the three verbs of every backend.

What the NPU cannot do, because there are more tokens or states than its sequences take, is a ModelError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.architecture import Architecture
from npu.model import Cache
from npu.xdna.caches import NpuCache, Window
from npu.xdna.decoder import Decoder
from npu.xdna.lockstep import NpuBatch

Array = NDArray[Any]


class NpuBackend:
    """A resident model."""

    def __init__(
        self, architecture: Architecture, states: Callable[[Array], Array], decoder: Decoder, device: str
    ) -> None:
        """states: what the encoder makes [states, width] of what it takes."""
        self.name = architecture.name
        self.device = device
        self._architecture = architecture
        self._states = states
        self._decoder = decoder

    def encode(self, audio: NDArray[np.float32], short: bool = False) -> Window:
        """audio [n] at 16 kHz through the encoder."""
        return self._decoder.window(self._states(self._architecture.prepare(audio, short)))

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        """k tokens on top of the cache -> logits [k, vocabulary]."""
        return self._decoder.extend(_own(cache), tokens)

    def together(self, starts: Sequence[Cache], attended: bool) -> NpuBatch:
        """Goes on with these decodings in lockstep."""
        return NpuBatch(self._decoder, [_own(cache) for cache in starts], attended)


def _own(cache: Cache) -> NpuCache:
    if not isinstance(cache, NpuCache):
        raise TypeError(f"a cache of {type(cache).__name__} given to the NPU")
    return cache
