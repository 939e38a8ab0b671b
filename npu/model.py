"""The seam to every model: three verbs. What is above them knows no device; what is below knows no policy."""

from __future__ import annotations

from collections.abc import Sequence
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


class Batch(Protocol):
    """The decoders' memory of several windows that take one token each a call, in lockstep."""

    def extend(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """One token for each window, in order -> logits [windows, vocab]."""

    def keep(self, windows: Sequence[int]) -> None:
        """Goes on with these windows only, in this order; the others are done."""

    def attention(self, window: int) -> NDArray[np.float32]:
        """[length, frames] of a window that is still there: where in the audio each token looked."""


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

    def together(self, windows: Sequence[Encoded], attended: bool) -> Batch:
        """Empty decodings over these windows; `attended`: `attention` will be asked for.

        The logits are those of `extend` within the noise of another order of summation.
        """


class OneByOne:
    """A batch over separate caches: for backends that gain nothing from lockstep, and the oracle of those that do."""

    def __init__(self, backend: Backend, windows: Sequence[Encoded]) -> None:
        self._backend = backend
        self._caches = [window.start() for window in windows]

    def extend(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """One token for each window -> logits [windows, vocab]."""
        pairs = zip(self._caches, tokens, strict=True)
        return np.concatenate([self._backend.extend(cache, (token,)) for cache, token in pairs])

    def keep(self, windows: Sequence[int]) -> None:
        """Goes on with these windows only."""
        self._caches = [self._caches[window] for window in windows]

    def attention(self, window: int) -> NDArray[np.float32]:
        """[length, frames] of a window."""
        return self._caches[window].attention()
