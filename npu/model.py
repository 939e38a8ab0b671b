"""The seam to every model: three verbs, the second for several decodings as well. What is above them knows no device; what is below knows no policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from npu.acceleration import Acceleration


class Cache(Protocol):
    """The decoder's memory of one decoding over one encoded window. Light; one per decoding."""

    @property
    def length(self) -> int:
        """How many tokens it holds."""

    def truncate(self, n: int) -> None:
        """Forgets all but the first n tokens. O(1): nothing is copied."""

    def copy(self) -> Cache:
        """Another decoding of the same window that begins with the same tokens."""

    def attention(self) -> NDArray[np.float32]:
        """[length, frames]: where in the audio each token looked; the mean over the heads that follow the speech."""


class Encoded(Protocol):
    """A window after the encoder, resident on the device."""

    @property
    def frames(self) -> int:
        """Encoder states that hold its audio; a model may have padded it to more."""

    def start(self) -> Cache:
        """An empty cache over this window."""


class Batch(Protocol):
    """The decoders' memory of several decodings that take one token each a call, in lockstep."""

    def extend(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """One token for each decoding, in order -> logits [decodings, vocab]."""

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these decodings, in this order; one that is named twice goes on as two.

        Those of one window stay side by side, and every window that stays has as many of them as the others.
        """

    def attention(self, row: int) -> NDArray[np.float32]:
        """[calls of `extend`, frames] of a decoding: where in the audio each token looked."""


class Backend(Protocol):
    """A resident model. Heavy, shared by all sessions, safe to call from several threads at once."""

    name: str  # model, e.g. "moonshine-tiny"
    device: str  # what it runs on, e.g. "cpu (onnxruntime 1.31.1)"; another one once the NPU has failed

    @property
    def acceleration(self) -> Acceleration:
        """What it has of the NPU."""

    def encode(self, audio: NDArray[np.float32], short: bool = False) -> Encoded:
        """audio [n] at 16 kHz through stem and encoder.

        A model with a context of fixed length pads the audio to it, unless the audio is to be `short`: then it is
        heard as long as it is, which costs less and which such a model was not trained for.
        """

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        """One pass for k tokens on top of the cache -> logits [k, vocab].

        Row i is bit-identical to what a call with one token at a time would have given.
        """

    def extend_all(
        self, caches: Sequence[Cache], tokens: Sequence[tuple[int, ...]]
    ) -> list[NDArray[np.float32]]:
        """Tokens on top of each of several caches, one at least -> the logits [k, vocab] of each.

        In as few passes as the backend can; the logits are those of `extend` within the noise of another order of
        summation.
        """

    def together(self, starts: Sequence[Cache], attended: bool) -> Batch:
        """Goes on with these decodings in lockstep; `attended`: `attention` will be asked for.

        Those of one window stand side by side, as many for each window. The caches themselves are left as they are,
        and may be named several times. The logits are those of `extend` within the noise of another order of
        summation.
        """


def in_turn(
    backend: Backend, caches: Sequence[Cache], tokens: Sequence[tuple[int, ...]]
) -> list[NDArray[np.float32]]:
    """`extend_all` one cache after the other, all tokens of each in a pass."""
    return [backend.extend(cache, each) for cache, each in zip(caches, tokens, strict=True)]


class OneByOne:
    """A batch over separate caches: for backends that gain nothing from lockstep, and the oracle of those that do."""

    def __init__(self, backend: Backend, starts: Sequence[Cache]) -> None:
        self._backend = backend
        self._caches = [cache.copy() for cache in starts]
        self._since = [cache.length for cache in starts]

    def extend(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """One token for each decoding -> logits [decodings, vocab]."""
        pairs = zip(self._caches, tokens, strict=True)
        return np.concatenate([self._backend.extend(cache, (token,)) for cache, token in pairs])

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these decodings."""
        self._caches = [self._caches[row].copy() for row in rows]
        self._since = [self._since[row] for row in rows]

    def attention(self, row: int) -> NDArray[np.float32]:
        """[calls, frames] of a decoding."""
        return self._caches[row].attention()[self._since[row] :]
