"""What a pass of a decoder on the NPU takes and gives, whatever its weights are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from npu.xdna.caches import NpuCache, Window
from npu.xdna.decoders import Parts
from npu.xdna.overlay import Bits

Past = tuple[Bits, ...]  # keys and values of a decoding's tokens: pieces of up to 32 rows


@dataclass(frozen=True, eq=False)
class Rows:
    """What a pass is to do: tokens with their positions, each of which sees what was before it and a window."""

    tokens: Sequence[int]
    positions: Sequence[int]
    past: Sequence[Past]  # of every decoding
    windows: Sequence[Window]  # as many tokens of each
    together: bool  # a token of each decoding, not tokens of one
    new: int  # rows from here on are asked for
    attended: bool = True  # and so is what they ask for


@dataclass(frozen=True, eq=False)
class Found:
    """What a pass gives."""

    logits: NDArray[np.float32]  # [rows asked for, vocabulary]
    memory: Bits  # [rows, memory]: keys and values of all layers
    queries: Mapping[int, Bits]  # an aligned layer: [rows asked for, heads]


class NpuDecoder(Protocol):
    """A decoder that is resident on the NPU. Safe to call from several threads, one at a time."""

    parts: Parts
    at_once: int  # tokens of one decoding that a pass takes at most

    def window(self, states: NDArray[np.float32]) -> Window:
        """states [frames, width]; ModelError when they are too many, NpuUnavailable."""

    def extend(self, cache: NpuCache, tokens: Sequence[int]) -> NDArray[np.float32]:
        """k tokens on top of the cache -> logits [k, vocabulary]; ModelError when they are too many."""

    def fits(self, past: Sequence[Past], windows: Sequence[Window]) -> bool:
        """Whether there is a sequence for a token of each decoding, of several of each window."""

    def found(self, rows: Rows) -> Found:
        """One pass."""
