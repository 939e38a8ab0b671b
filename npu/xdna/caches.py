"""What decodings on the NPU remember: keys and values in the host's memory, in pieces of 32 rows that never change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.backends.reference import softmax
from npu.xdna.decoders import Parts
from npu.xdna.oracle import from_bf16
from npu.xdna.overlay import DEPTH, Bits
from npu.xdna.regions import LANE

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Window(ABC):
    """A window after the encoder: its keys and values for all layers."""

    parts: Parts
    frames: int  # encoder states

    @abstractmethod
    def keys(self, layer: int, head: int) -> Array:
        """[frames, width of a head], as the NPU sees them."""

    def start(self) -> NpuCache:
        """An empty cache over this window."""
        return NpuCache(self, Remembered.nothing(self.parts))

    def weights(self, layer: int, queries: Bits) -> NDArray[np.float32]:
        """queries [n, heads] of an aligned layer -> [its aligned heads, n, frames]: where they look."""
        parts, found = self.parts, []
        for head in parts.aligned[layer]:
            query = from_bf16(queries[:, head * LANE : head * LANE + parts.head_width])
            found.append(softmax(query @ self.keys(layer, head).T * np.float32(parts.scale)))
        return np.stack(found)

    def attention(self, queries: Mapping[int, Bits]) -> NDArray[np.float32]:
        """The mean over the aligned heads [n, frames]; queries: those of each aligned layer."""
        if not queries:
            return np.zeros((0, self.frames), np.float32)
        weights = [self.weights(layer, rows) for layer, rows in queries.items()]
        return np.asarray(np.concatenate(weights).mean(axis=0), np.float32)


@dataclass(frozen=True, eq=False)
class WindowBf16(Window):
    """In bf16, every layer's keys and values side by side in a row."""

    pieces: tuple[Bits, ...]  # [32, memory] each, zeros behind the last state

    def keys(self, layer: int, head: int) -> Array:
        """[frames, width of a head]."""
        at = layer * 2 * self.parts.each + head * LANE
        keys = np.concatenate([piece[:, at : at + self.parts.head_width] for piece in self.pieces])
        return from_bf16(keys[: self.frames])


@dataclass(frozen=True, eq=False)
class Remembered:
    """Keys and values of tokens, and what they asked for."""

    pieces: tuple[Bits, ...]  # [32, memory] each
    rest: Bits  # [fewer than 32, memory]
    queries: Mapping[int, Bits]  # an aligned layer: [length, heads]

    @classmethod
    def nothing(cls, parts: Parts) -> Remembered:
        """Of no tokens."""
        queries = {layer: np.zeros((0, parts.each), np.uint16) for layer in parts.aligned}
        return cls((), np.zeros((0, parts.memory), np.uint16), queries)

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.pieces) * DEPTH + len(self.rest)

    @property
    def all_pieces(self) -> tuple[Bits, ...]:
        """The rest is one, too."""
        return (*self.pieces, self.rest) if len(self.rest) else self.pieces

    def first(self, n: int) -> Remembered:
        """Of the first n tokens; nothing is copied."""
        whole, more = divmod(n, DEPTH)
        rest = self.pieces[whole] if whole < len(self.pieces) else self.rest
        queries = {layer: rows[:n] for layer, rows in self.queries.items()}
        return Remembered(self.pieces[:whole], rest[:more], queries)

    def and_then(self, memory: Bits, queries: Mapping[int, Bits]) -> Remembered:
        """And of further tokens: memory [k, memory]; queries, where they are asked for."""
        rows = np.concatenate([self.rest, memory])
        whole = len(rows) // DEPTH
        pieces = tuple(np.split(rows[: whole * DEPTH], whole)) if whole else ()
        asked = {layer: np.concatenate([self.queries[layer], more]) for layer, more in queries.items()}
        return Remembered((*self.pieces, *pieces), rows[whole * DEPTH :], asked)

    def behind(self, before: Remembered) -> Remembered:
        """With what was asked before, too."""
        queries = {
            layer: np.concatenate([before.queries[layer], rows]) for layer, rows in self.queries.items()
        }
        return replace(self, queries=queries)

    def without_queries(self) -> Remembered:
        """As if nothing had been asked before."""
        return replace(self, queries={layer: rows[:0] for layer, rows in self.queries.items()})


@dataclass(eq=False)
class NpuCache:
    """The decoder's memory of one decoding."""

    window: Window
    remembered: Remembered
    tokens: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return len(self.tokens)

    def truncate(self, n: int) -> None:
        """Forgets all but the first n tokens."""
        del self.tokens[n:]
        self.remembered = self.remembered.first(n)

    def copy(self) -> NpuCache:
        """Another decoding that begins with the same tokens."""
        return NpuCache(self.window, self.remembered, list(self.tokens))

    def attention(self) -> NDArray[np.float32]:
        """[length, frames]: the mean over the aligned heads."""
        return self.window.attention(self.remembered.queries)
