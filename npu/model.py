"""The seam to every model: three verbs. What is above them knows no device; what is below knows no policy."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Cache(Protocol):
    """The decoder's memory of one decoding over one encoded window. Light; one per window."""

    @property
    def length(self) -> int:
        """How many tokens it holds."""

    def truncate(self, n: int) -> None:
        """Forgets all but the first n tokens. O(1): nothing is copied."""

    def attention(self) -> NDArray[np.float32]:
        """[length, frames]: where in the audio each token looked; rows sum to 1."""


class Encoded(Protocol):
    """A window after the encoder, resident on the device."""

    @property
    def frames(self) -> int:
        """Encoder states."""

    def start(self) -> Cache:
        """An empty cache over this window."""


class Backend(Protocol):
    """A resident model. Heavy, shared by all sessions, safe to call from several threads at once."""

    name: str  # model, e.g. "moonshine-tiny"
    device: str  # what it runs on, e.g. "cpu (onnxruntime 1.31.1)"

    def encode(self, audio: NDArray[np.float32]) -> Encoded:
        """audio [n] at 16 kHz through stem and encoder."""

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        """One pass for k tokens on top of the cache -> logits [k, vocab].

        Row i is bit-identical to what a call with one token at a time would have given.
        """
