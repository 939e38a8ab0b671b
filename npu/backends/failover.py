"""A model on the NPU that goes on on the CPU wherever the NPU cannot.

What it has no sequence for goes to the CPU alone; when it fails for good, everything does. Windows and decodings know
what they were made of, so that a failure in their middle costs time and no words: the audio is encoded again, and the
tokens that were chosen already stay.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from npu.acceleration import Acceleration
from npu.architecture import Architecture
from npu.backends.onnx import OnnxBackend
from npu.backends.xdna import Opener, asked
from npu.backends.xdna_whole import NpuBackend, WholeDesign
from npu.model import Batch, Cache, Encoded
from npu.xdna.encoder import Encoder
from npu.xdna.failures import NpuUnavailable
from npu.xdna.standing import failed, in_use
from streaming.errors import ModelError

Array = NDArray[np.float32]
_Done = TypeVar("_Done")

logger = logging.getLogger("amanuensis.npu")


class FailoverBackend:
    """A resident model. `fallen_back`: why everything is on the CPU; None while it is not."""

    def __init__(
        self,
        architecture: Architecture,
        npu: NpuBackend,
        cpu: Callable[[], OnnxBackend],
        found: Callable[[], Acceleration],
    ) -> None:
        """cpu: loads the model there, when that is needed first. found: how the NPU stands."""
        self.architecture = architecture
        self.name = architecture.name
        self.device = npu.device
        self.npu = npu
        self.fallen_back: str | None = None
        self._load = cpu
        self._found = found
        self._cpu: OnnxBackend | None = None
        self._loading = threading.Lock()

    @property
    def acceleration(self) -> Acceleration:
        """What it has of the NPU."""
        found = self._found()
        return found if self.fallen_back is None else failed(found, self.fallen_back)

    @property
    def cpu(self) -> OnnxBackend:
        """The same model there."""
        with self._loading:
            if self._cpu is None:
                self._cpu = self._load()
            return self._cpu

    def encode(self, audio: Array, short: bool = False) -> FailoverWindow:
        """audio [n] at 16 kHz -> the window; ModelError when it is too long for the model."""
        return FailoverWindow(self, audio, short)

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> Array:
        """k tokens on top of the cache -> logits [k, vocabulary]."""
        return _own(cache).extend(tokens)

    def extend_all(self, caches: Sequence[Cache], tokens: Sequence[tuple[int, ...]]) -> list[Array]:
        """Tokens on top of each cache -> the logits [k, vocabulary] of each; all on the NPU or all on the CPU."""
        ours = [_own(cache) for cache in caches]
        found: list[Array] | None = None
        if all(cache.on_npu for cache in ours):
            found = self.tried(lambda: self.npu.extend_all([cache.held for cache in ours], tokens))
        if found is None:
            for cache in ours:
                cache.move()
            found = self.cpu.extend_all([cache.held for cache in ours], tokens)
        for cache, each in zip(ours, tokens, strict=True):
            cache.tokens += each
        return found

    def together(self, starts: Sequence[Cache], attended: bool) -> FailoverBatch:
        """Goes on with these decodings in lockstep."""
        return FailoverBatch(self, [_own(cache) for cache in starts], attended)

    def tried(self, work: Callable[[], _Done]) -> _Done | None:
        """What the NPU makes of it; None where that is the CPU's to do."""
        if self.fallen_back is None:
            try:
                return work()
            except NpuUnavailable as error:
                self.fallen_back = str(error)
                logger.warning("%s goes on on the CPU: %s", self.name, error)
                self.device = self.cpu.device
            except ModelError as error:
                logger.info("a window is decoded on the CPU: %s", error)
        return None


class FailoverWindow:
    """A window after the encoder, on the NPU or the CPU."""

    def __init__(self, backend: FailoverBackend, audio: Array, short: bool) -> None:
        self.backend = backend
        self._audio = audio
        self._short = short
        self._on_cpu: Encoded | None = None
        self._on_npu = backend.tried(lambda: backend.npu.encode(audio, short))
        states = (self._on_npu or self.on_cpu).frames
        self.frames = min(backend.architecture.states(len(audio)), states)

    @property
    def on_cpu(self) -> Encoded:
        """Encoded there, once for all of its decodings."""
        if self._on_cpu is None:
            self._on_cpu = self.backend.cpu.encode(self._audio, self._short)
        return self._on_cpu

    def start(self) -> FailoverCache:
        """An empty cache over this window."""
        if self._on_npu is None:
            return FailoverCache(self, self.on_cpu.start(), on_npu=False)
        return FailoverCache(self, self._on_npu.start(), on_npu=True)

    def anew(self, tokens: Sequence[int]) -> Cache:
        """The CPU's memory of a decoding that has come to these tokens."""
        cache = self.on_cpu.start()
        if tokens:
            self.backend.cpu.extend(cache, tuple(tokens))
        return cache


class FailoverCache:
    """A decoding on the NPU or the CPU, with its tokens."""

    def __init__(self, window: FailoverWindow, held: Cache, on_npu: bool, tokens: Sequence[int] = ()) -> None:
        """held: the memory there, of these tokens."""
        self.window = window
        self.held = held
        self.on_npu = on_npu
        self.tokens = list(tokens)

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return len(self.tokens)

    def truncate(self, n: int) -> None:
        """Forgets all but the first n tokens."""
        del self.tokens[n:]
        self.held.truncate(n)

    def copy(self) -> FailoverCache:
        """Another decoding that begins with the same tokens."""
        return FailoverCache(self.window, self.held.copy(), self.on_npu, self.tokens)

    def attention(self) -> Array:
        """[length, frames]: the mean over the aligned heads."""
        return self.held.attention()[:, : self.window.frames]

    def extend(self, tokens: tuple[int, ...]) -> Array:
        """k tokens on top -> logits [k, vocabulary]."""
        backend = self.window.backend
        logits = backend.tried(lambda: backend.npu.extend(self.held, tokens)) if self.on_npu else None
        if logits is None:
            self.move()
            logits = backend.cpu.extend(self.held, tokens)
        self.tokens += tokens
        return logits

    def move(self) -> None:
        """To the CPU, if it is not there."""
        if self.on_npu:
            self.held, self.on_npu = self.window.anew(self.tokens), False


@dataclass(frozen=True, eq=False)
class _Decoding:
    window: FailoverWindow
    begun: tuple[int, ...]  # tokens at the start of the batch
    said: tuple[int, ...] = ()  # since then


class FailoverBatch:
    """Decodings in lockstep, all on the NPU or all on the CPU."""

    def __init__(self, backend: FailoverBackend, starts: Sequence[FailoverCache], attended: bool) -> None:
        self._backend = backend
        self._attended = attended
        self._decodings = [_Decoding(cache.window, tuple(cache.tokens)) for cache in starts]
        batch: Batch | None = None
        if all(cache.on_npu for cache in starts):
            batch = backend.tried(lambda: backend.npu.together([each.held for each in starts], attended))
        self._on_npu = batch is not None
        if batch is None:
            for cache in starts:
                cache.move()
            batch = backend.cpu.together([cache.held for cache in starts], attended)
        self._batch: Batch = batch

    def extend(self, tokens: Sequence[int]) -> Array:
        """One token for each decoding -> logits [decodings, vocabulary]."""
        logits = self._backend.tried(lambda: self._batch.extend(tokens)) if self._on_npu else None
        if logits is None:
            if self._on_npu:
                self._move()
            logits = self._batch.extend(tokens)
        self._decodings = [
            replace(each, said=(*each.said, token))
            for each, token in zip(self._decodings, tokens, strict=True)
        ]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these decodings."""
        self._batch.keep(rows)
        self._decodings = [self._decodings[row] for row in rows]

    def attention(self, row: int) -> Array:
        """[calls, frames] of a decoding."""
        return self._batch.attention(row)[:, : self._decodings[row].window.frames]

    def _move(self) -> None:
        """To the CPU, which goes the same way as far as they have come."""
        starts = [each.window.anew(each.begun) for each in self._decodings]
        self._batch, self._on_npu = self._backend.cpu.together(starts, self._attended), False
        for tokens in zip(*(each.said for each in self._decodings), strict=True):
            self._batch.extend(tokens)


def load_whole(
    opener: Opener,
    design: WholeDesign,
    architecture: Architecture,
    cpu: Callable[[], OnnxBackend],
    cache_dir: Path | None = None,
) -> FailoverBackend:
    """Encoder and decoder on the NPU; NpuUnavailable where it cannot be used. cache_dir: where packages lie."""
    npu, built = asked(opener, design)
    encoder, decoder = Encoder(npu, built, design.encoder), design.decoder.on(npu, built)
    backend = NpuBackend(architecture, encoder.states, decoder, npu.name)
    return FailoverBackend(architecture, backend, cpu, in_use(npu, [built], design.mode, cache_dir))


def _own(cache: Cache) -> FailoverCache:
    if not isinstance(cache, FailoverCache):
        raise TypeError(f"a cache of {type(cache).__name__} given to a model on the NPU")
    return cache
