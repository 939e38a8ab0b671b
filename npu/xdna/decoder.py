"""A decoder on the NPU: buffers, and one dispatch for all layers of up to 64 rows.

Tokens of one decoding are taken from the last multiple of 32 on: those that are known already are computed once more,
which costs nothing where 64 rows are computed anyway. So every token finds its keys in the same steps, whether it
comes alone or behind others, and its logits are the same bit for bit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna.buffers import Buffers
from npu.xdna.caches import NpuCache, Window, WindowBf16
from npu.xdna.composition import Constants, Lengths
from npu.xdna.decoders import Crossing, Parts, Pass, crossings, passes
from npu.xdna.design import Design
from npu.xdna.design import Sequence as HostSequence
from npu.xdna.gemm import SPAN, TILE
from npu.xdna.oracle import from_bf16
from npu.xdna.overlay import DEPTH, Bits, overlay
from npu.xdna.passing import Found, Past, Rows
from npu.xdna.runtime import Built, Npu
from npu.xdna.streams import turns
from streaming.errors import ModelError

Array = NDArray[Any]


@dataclass(frozen=True)
class Sizes:
    """What sequences there are."""

    past: tuple[int, ...]  # steps of 32 rows of the past, of all decodings together
    states: tuple[int, ...]  # and of states, of all their windows
    spans: tuple[int, ...]  # of 256 states, of one window


class DecoderDesign:
    """A model's decoder, and the design with its sequences."""

    def __init__(self, parts: Parts, sizes: Sizes) -> None:
        self.parts = parts
        self.constants = Constants()
        pairs = [(past, states) for past in sorted(sizes.past) for states in sorted(sizes.states)]
        self.passes = passes(parts, self.constants, pairs)
        self.crossings = crossings(parts, self.constants, sorted(sizes.spans))
        self.work = max(each.composer.work for each in self.all())

    def all(self) -> list[Pass | Crossing]:
        """Whatever has a sequence."""
        return [*self.passes, *self.crossings]

    def design(self, stacks: Mapping[str, int]) -> Design:
        """The overlay with all sequences. stacks: what the kernels need, bytes by name."""
        return overlay(stacks, self.sequences())

    def on(self, npu: Npu, built: Built) -> Decoder:
        """The decoder; built: a design with its sequences."""
        return Decoder(npu, built, self)

    def sequences(self) -> tuple[HostSequence, ...]:
        """All of them."""
        return tuple(each.composer.sequence(each.name, each.composer.units, self.work) for each in self.all())


class Decoder:
    """A decoder's buffers on the NPU, made once. Safe to call from several threads, one at a time."""

    at_once = TILE

    def __init__(self, npu: Npu, built: Built, decoder: DecoderDesign) -> None:
        """built: the decoder's design; NpuUnavailable where there is no memory."""
        self._design = decoder
        self.parts = decoder.parts
        self._one = threading.Lock()
        composers = [each.composer for each in decoder.all()]
        self._buffers = Buffers(npu, built, decoder.constants, composers, decoder.work)
        self._past, self._states = (self._buffers.pieces(self.parts, kind) for kind in ("past", "states"))

    def window(self, states: NDArray[np.float32]) -> WindowBf16:
        """states [frames, width]; ModelError when they are too many, NpuUnavailable."""
        frames = len(states)
        fitting = [each for each in self._design.crossings if each.spans * SPAN >= frames]
        if not fitting:
            raise ModelError(f"a window of {frames} states is more than the NPU's sequences take")
        crossing, steps = fitting[0], -(-frames // DEPTH)
        with self._one:
            self._buffers.give(crossing.states, states)
            self._buffers.dispatch(crossing.name, crossing.composer, {})
            rows = np.zeros((steps * DEPTH, self.parts.memory), np.uint16)
            rows[:frames] = self._buffers.taken(crossing.out, slice(0, frames))[:, : self.parts.memory]
        return WindowBf16(self.parts, frames, tuple(np.split(rows, steps)))

    def extend(self, cache: NpuCache, tokens: Sequence[int]) -> NDArray[np.float32]:
        """k tokens on top of the cache -> logits [k, vocabulary]; ModelError when they are too many."""
        logits = []
        for chunk in self._chunks(cache.length, tokens):
            known, more = divmod(cache.length, DEPTH)
            first = known * DEPTH
            rows = [*cache.tokens[first:], *chunk]
            positions = range(first, first + len(rows))
            pieces = cache.remembered.pieces
            found = self.found(Rows(rows, positions, [pieces], [cache.window], False, more))
            logits.append(found.logits)
            before = cache.remembered.first(first)
            queries = {
                layer: np.concatenate([cache.remembered.queries[layer][first:], asked])
                for layer, asked in found.queries.items()
            }
            cache.remembered = before.and_then(found.memory, queries)
            cache.tokens += chunk
        return np.concatenate([np.zeros((0, self.parts.vocabulary), np.float32), *logits])

    def fits(self, past: Sequence[Past], windows: Sequence[Window]) -> bool:
        """Whether there is a sequence for a token of each decoding, of several of each window."""
        return len(past) <= TILE and bool(self._fitting(past, _own(windows)))

    def found(self, rows: Rows) -> Found:
        """One pass."""
        windows = _own(rows.windows)
        past, states = _steps(rows.past), _steps([window.pieces for window in windows])
        fitting = self._fitting(rows.past, windows)
        if not fitting:
            raise ModelError(
                f"{past * DEPTH} tokens over {states * DEPTH} states are more than the NPU's sequences take"
            )
        chosen = min(fitting, key=lambda each: (each.past + each.states, each.past))
        with self._one:
            self._past.hold(rows.past)
            self._states.hold([window.pieces for window in windows])
            self._buffers.give(chosen.into, self.parts.embedded(rows.tokens, rows.positions))
            if self.parts.frequencies is not None:
                angles = np.asarray(rows.positions, np.float32)[:, None] * self.parts.frequencies
                self._buffers.put("work", chosen.turns.offset, turns(angles, TILE))
            self._buffers.dispatch(chosen.name, chosen.composer, _lengths(rows))
            return self._read(chosen, rows)

    def _fitting(self, past: Sequence[Past], windows: Sequence[WindowBf16]) -> list[Pass]:
        steps, states = _steps(past), _steps([window.pieces for window in windows])
        return [each for each in self._design.passes if each.past >= steps and each.states >= states]

    def _read(self, chosen: Pass, rows: Rows) -> Found:
        parts, asked = self.parts, slice(rows.new, len(rows.tokens))
        high, low = (from_bf16(self._buffers.taken(part, asked)) for part in chosen.logits)
        fresh = [
            self._buffers.taken(each, slice(0, len(rows.tokens)))[:, parts.each : 3 * parts.each]
            for each in chosen.fresh
        ]
        queries = chosen.queries.items() if rows.attended else ()
        return Found(
            (high + low)[:, : parts.vocabulary],
            np.concatenate(fresh, axis=1),
            {layer: self._buffers.taken(region, asked) for layer, region in queries},
        )

    def _chunks(self, length: int, tokens: Sequence[int]) -> Iterable[Sequence[int]]:
        """As many at a time as there is room behind those that are computed once more."""
        at = 0
        while at < len(tokens):
            room = TILE - (length + at) % DEPTH
            yield tokens[at : at + room]
            at += room


def _own(windows: Sequence[Window]) -> list[WindowBf16]:
    own = [window for window in windows if isinstance(window, WindowBf16)]
    if len(own) < len(windows):
        raise TypeError("a window of another decoder given to the one in bf16")
    return own


def _steps(groups: Sequence[tuple[Bits, ...]]) -> int:
    return len(groups) * max(map(len, groups))


def _lengths(rows: Rows) -> Lengths:
    """Of the headers."""
    count = len(rows.tokens)
    past, states = np.zeros(TILE, np.int64), np.zeros(TILE, np.int64)
    known = [sum(map(len, pieces)) for pieces in rows.past]
    past[:count] = known if rows.together else known[0]
    of_window = count // len(rows.windows)
    states[:count] = np.repeat([window.frames for window in rows.windows], of_window)
    return {
        "queries": count,
        "alone": int(rows.together),
        "past": past,
        "past groups": len(rows.past),
        "past shared": 1 if rows.together else TILE,
        "states": states,
        "states groups": len(rows.windows),
        "states shared": of_window,
    }
