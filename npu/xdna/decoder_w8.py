"""A decoder with weights in 8 bits on the NPU: buffers, and one dispatch for a token each of up to 16 decodings.

Every decoding has a place of its own, where the keys and values of its window lie, and stays there while there is room:
decodings that end leave theirs empty. So a window is written to the NPU's memory once, and not for every token.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import NDArray

from npu.xdna.buffers import Buffers
from npu.xdna.caches import NpuCache, Window
from npu.xdna.caches_w8 import WindowW8
from npu.xdna.composition import Constants
from npu.xdna.decoders import Parts
from npu.xdna.decoders_w8 import CrossingW8, PassW8, Size, crossings_w8, passes_w8
from npu.xdna.design import Sequence as HostSequence
from npu.xdna.gemm import SPAN, TILE
from npu.xdna.oracle import from_bf16
from npu.xdna.passing import Found, Past, Rows
from npu.xdna.runtime import Built, Npu
from npu.xdna.streams import turns
from npu.xdna.windows import SCALES, STATES, Room, laid_scales
from streaming.errors import ModelError


class DecoderDesignW8:
    """A model's decoder, and its sequences."""

    def __init__(self, parts: Parts, sizes: Iterable[Size], spans: Iterable[int]) -> None:
        """spans: of 256 states, of one window."""
        sizes = sorted(sizes, key=lambda size: (size.groups, size.past, size.blocks))
        self.parts = parts
        self.constants = Constants()
        self.most = Size(
            *(max(getattr(size, name) for size in sizes) for name in ("groups", "past", "blocks"))
        )
        self.passes = passes_w8(parts, self.constants, self.most, sizes)
        behind = max(each.composer.work for each in self.passes)
        self.crossings = crossings_w8(parts, self.constants, sorted(spans), behind)
        self.work = max(each.composer.work for each in self.all())

    def all(self) -> list[PassW8 | CrossingW8]:
        """Whatever has a sequence."""
        return [*self.passes, *self.crossings]

    def on(self, npu: Npu, built: Built) -> DecoderW8:
        """The decoder; built: a design with its sequences."""
        return DecoderW8(npu, built, self)

    def sequences(self) -> tuple[HostSequence, ...]:
        """All of them."""
        return tuple(each.composer.sequence(each.name, each.composer.units, self.work) for each in self.all())


class DecoderW8:
    """A decoder's buffers on the NPU, made once. Safe to call from several threads, one at a time."""

    at_once = 1

    def __init__(self, npu: Npu, built: Built, decoder: DecoderDesignW8) -> None:
        """built: the design that has its sequences; NpuUnavailable where there is no memory."""
        self._design = decoder
        self.parts = decoder.parts
        self._one = threading.Lock()
        composers = [each.composer for each in decoder.all()]
        self._buffers = Buffers(npu, built, decoder.constants, composers, decoder.work)
        self._past = self._buffers.pieces(self.parts, "past")
        self._places = _Places(self._buffers, decoder.most.room(decoder.parts))

    def window(self, states: NDArray[np.float32]) -> WindowW8:
        """states [frames, width]; ModelError when they are too many, NpuUnavailable."""
        frames = len(states)
        fitting = [each for each in self._design.crossings if each.spans * SPAN >= frames]
        if not fitting:
            raise ModelError(f"a window of {frames} states is more than the NPU's sequences take")
        crossing, to, blocks = fitting[0], fitting[0].to, -(-frames // TILE)
        with self._one:
            self._buffers.give(crossing.states, states)
            self._buffers.dispatch(crossing.name, crossing.composer, {"frames": frames})
            tiles = to.tiles_of(self._buffers.seen(to.tiles))[:, :, :blocks].copy()
            scales = to.scales_of(self._buffers.seen(to.scales))[:, :, :blocks]
        return WindowW8(self.parts, frames, tiles, scales)

    def extend(self, cache: NpuCache, tokens: Sequence[int]) -> NDArray[np.float32]:
        """k tokens on top of the cache, a pass each -> logits [k, vocabulary]; ModelError when they are too many."""
        logits = [np.zeros((0, self.parts.vocabulary), np.float32)]
        for token in tokens:
            past = cache.remembered.all_pieces
            found = self.found(Rows([token], [cache.length], [past], [cache.window], True, 0))
            logits.append(found.logits)
            cache.remembered = cache.remembered.and_then(found.memory, found.queries)
            cache.tokens.append(token)
        return np.concatenate(logits)

    def fits(self, past: Sequence[Past], windows: Sequence[Window]) -> bool:
        """Whether there is a sequence for a token of each decoding, of several of each window."""
        return bool(self._fitting(past, _own(windows)))

    def found(self, rows: Rows) -> Found:
        """One pass, of a token of each decoding."""
        heard = _own(rows.windows)
        fitting = self._fitting(rows.past, heard)
        if not fitting:
            tokens, states = max(map(_length, rows.past)), max(window.frames for window in heard)
            raise ModelError(
                f"{len(rows.tokens)} decodings of {tokens} tokens over {states} states are more than the NPU's"
                " sequences take"
            )
        chosen = min(fitting, key=lambda each: (each.size.groups, each.size.past, each.size.blocks))
        of_window = len(rows.tokens) // len(heard)
        windows = [window for window in heard for _ in range(of_window)]
        with self._one:
            places = self._places.of(windows, chosen.size.groups)
            self._give(chosen, rows, places)
            self._buffers.dispatch(chosen.name, chosen.composer, _lengths(rows, windows, places, chosen.size))
            return self._read(chosen, rows, places)

    def _fitting(self, past: Sequence[Past], windows: Sequence[WindowW8]) -> list[PassW8]:
        steps, blocks = max(map(len, past)), max(window.tiles.shape[2] for window in windows)
        sizes = ((each, each.size) for each in self._design.passes)
        return [
            each
            for each, size in sizes
            if size.groups >= len(past) and size.past >= steps and size.blocks >= blocks
        ]

    def _give(self, chosen: PassW8, rows: Rows, places: Sequence[int]) -> None:
        groups = chosen.size.groups
        tokens, positions = [0] * groups, [0] * groups
        past: list[Past] = [()] * groups
        for place, token, position, pieces in zip(
            places, rows.tokens, rows.positions, rows.past, strict=True
        ):
            tokens[place], positions[place], past[place] = token, position, pieces
        self._past.hold(past)
        self._buffers.give(chosen.into, self.parts.embedded(tokens, positions))
        if self.parts.frequencies is not None:
            angles = np.asarray(positions, np.float32)[:, None] * self.parts.frequencies
            self._buffers.put("work", chosen.turns.offset, turns(angles, TILE))

    def _read(self, chosen: PassW8, rows: Rows, places: Sequence[int]) -> Found:
        parts, taken = self.parts, slice(0, chosen.size.groups)
        high, low = (from_bf16(self._buffers.taken(part, taken)[places]) for part in chosen.logits)
        fresh = [
            self._buffers.taken(each, taken)[places, parts.each : 3 * parts.each] for each in chosen.fresh
        ]
        queries = chosen.queries.items() if rows.attended else ()
        return Found(
            (high + low)[:, : parts.vocabulary],
            np.concatenate(fresh, axis=1),
            {layer: self._buffers.taken(region, taken)[places, : parts.each] for layer, region in queries},
        )


class _Places:
    """Where windows lie in the NPU's memory, a place for each decoding. None is kept alive for lying there."""

    def __init__(self, buffers: Buffers, room: Room) -> None:
        self._room = room
        self._states, self._scales = (buffers[name] for name in (STATES, SCALES))
        self._lie: list[ReferenceType[WindowW8] | None] = [None] * room.groups

    def of(self, windows: Sequence[WindowW8], groups: int) -> list[int]:
        """The place of each window among the first ones; what does not lie in one yet is written there."""
        free = list(range(groups))
        found = [self._kept(window, free) for window in windows]
        return [
            self._taken(window, free) if at is None else at for window, at in zip(windows, found, strict=True)
        ]

    def _kept(self, window: WindowW8, free: list[int]) -> int | None:
        for at in free:
            if (lies := self._lie[at]) is not None and lies() is window:
                free.remove(at)
                return at
        return None

    def _taken(self, window: WindowW8, free: list[int]) -> int:
        at, room = free.pop(0), self._room
        tiles, scales = (each.here.view(np.uint16) for each in (self._states, self._scales))
        room.tiles_of(tiles)[:, :, at, : window.tiles.shape[2]] = window.tiles
        room.scales_of(scales)[:, :, at] = laid_scales(window.scales)
        for buffer in (self._states, self._scales):
            buffer.to_device()
        self._lie[at] = ref(window)
        return at


def _own(windows: Sequence[Window]) -> list[WindowW8]:
    own = [window for window in windows if isinstance(window, WindowW8)]
    if len(own) < len(windows):
        raise TypeError("a window of another decoder given to the one in 8 bits")
    return own


def _length(pieces: Past) -> int:
    return sum(map(len, pieces))


def _lengths(
    rows: Rows, windows: Sequence[WindowW8], places: Sequence[int], size: Size
) -> Mapping[str, int | NDArray[np.int64]]:
    """Of the headers."""
    past, states = np.zeros(TILE, np.int64), np.zeros(TILE, np.int64)
    for place, pieces, window in zip(places, rows.past, windows, strict=True):
        past[place], states[place] = _length(pieces), window.frames
    return {
        "queries": size.groups,
        "past": past,
        "past groups": size.groups,
        "past shared": 1,
        "states": states,
    }
