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

from npu.xdna.caches import NpuCache, Window
from npu.xdna.composition import Constants, Lengths
from npu.xdna.decoders import Crossing, Parts, Pass, crossings, passes
from npu.xdna.design import Design
from npu.xdna.design import Sequence as HostSequence
from npu.xdna.gemm import SPAN, TILE
from npu.xdna.oracle import from_bf16, to_bf16
from npu.xdna.overlay import DEPTH, Bits, overlay
from npu.xdna.regions import Region
from npu.xdna.runtime import Built, Command, Npu, Shared
from npu.xdna.streams import turns
from streaming.errors import ModelError

Array = NDArray[Any]

_BYTES = 2  # of a value


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

    def sequences(self) -> tuple[HostSequence, ...]:
        """All of them."""
        return tuple(each.composer.sequence(each.name, each.composer.units, self.work) for each in self.all())


@dataclass(frozen=True, eq=False)
class Rows:
    """What a pass is to do: tokens with their positions, each of which sees what was before it and a window."""

    tokens: Sequence[int]
    positions: Sequence[int]
    past: Sequence[tuple[Bits, ...]]  # of every decoding: pieces of up to 32 rows
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


class Decoder:
    """A decoder's buffers on the NPU, made once. Safe to call from several threads, one at a time."""

    def __init__(self, npu: Npu, built: Built, decoder: DecoderDesign) -> None:
        """built: the decoder's design; NpuUnavailable where there is no memory."""
        self._npu = npu
        self._built = built
        self._design = decoder
        self.parts = decoder.parts
        self._one = threading.Lock()
        constants = decoder.constants.laid()
        sizes: dict[str, int] = {"work": _BYTES * decoder.work, "constants": constants.nbytes}
        for each in decoder.all():
            for name, block in each.composer.arguments(0).items():
                sizes[name] = max(sizes.get(name, 0), block.bytes)
        self._buffers = {name: npu.buffer(size) for name, size in sizes.items()}
        for name, buffer in self._buffers.items():
            # what is no number would spoil what it is masked from
            buffer.here[:] = constants.view(np.uint8) if name == "constants" else 0
            buffer.to_device()
        self._past, self._states = (
            _Memory([(self._buffers[name], columns) for name, columns in self.parts.buffers(kind).items()])
            for kind in ("past", "states")
        )

    def window(self, states: NDArray[np.float32]) -> Window:
        """states [frames, width]; ModelError when they are too many, NpuUnavailable."""
        frames = len(states)
        fitting = [each for each in self._design.crossings if each.spans * SPAN >= frames]
        if not fitting:
            raise ModelError(f"a window of {frames} states is more than the NPU's sequences take")
        crossing, steps = fitting[0], -(-frames // DEPTH)
        with self._one:
            self._give("work", crossing.states, states)
            self._dispatch(crossing, {})
            rows = np.zeros((steps * DEPTH, self.parts.memory), np.uint16)
            rows[:frames] = self._taken(crossing.out, slice(0, frames))[:, : self.parts.memory]
        return Window(self.parts, frames, tuple(np.split(rows, steps)))

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

    def fits(self, past: int, states: int) -> bool:
        """Whether there is a sequence for so many steps."""
        return any(each.past >= past and each.states >= states for each in self._design.passes)

    def found(self, rows: Rows) -> Found:
        """One pass."""
        past, states = _steps(rows.past), _steps([window.pieces for window in rows.windows])
        fitting = [each for each in self._design.passes if each.past >= past and each.states >= states]
        if not fitting:
            raise ModelError(
                f"{past * DEPTH} tokens over {states * DEPTH} states are more than the NPU's sequences take"
            )
        chosen = min(fitting, key=lambda each: (each.past + each.states, each.past))
        with self._one:
            self._past.hold(rows.past)
            self._states.hold([window.pieces for window in rows.windows])
            self._give("work", chosen.into, self.parts.embedded(rows.tokens, rows.positions))
            if self.parts.frequencies is not None:
                angles = np.asarray(rows.positions, np.float32)[:, None] * self.parts.frequencies
                self._put("work", chosen.turns.offset, turns(angles, TILE))
            self._dispatch(chosen, _lengths(rows))
            return self._read(chosen, rows)

    def _read(self, chosen: Pass, rows: Rows) -> Found:
        parts, asked = self.parts, slice(rows.new, len(rows.tokens))
        high, low = (from_bf16(self._taken(part, asked)) for part in chosen.logits)
        fresh = [
            self._taken(each, slice(0, len(rows.tokens)))[:, parts.each : 3 * parts.each]
            for each in chosen.fresh
        ]
        queries = chosen.queries.items() if rows.attended else ()
        return Found(
            (high + low)[:, : parts.vocabulary],
            np.concatenate(fresh, axis=1),
            {layer: self._taken(region, asked) for layer, region in queries},
        )

    def _dispatch(self, chosen: Pass | Crossing, lengths: Lengths) -> None:
        self._put("headers", 0, chosen.composer.headers(lengths))
        buffers = tuple(self._buffers[name] for name in chosen.composer.arguments(0))
        self._npu.run(self._built, [Command(chosen.name, buffers)])

    def _give(self, name: str, region: Region, rows: NDArray[np.float32]) -> None:
        whole = np.zeros((region.rows, region.width), np.uint16)
        whole[: len(rows), : rows.shape[1]] = to_bf16(rows)
        self._put(name, region.offset, whole)

    def _put(self, name: str, offset: int, values: Bits) -> None:
        _write(self._buffers[name], offset, values)

    def _taken(self, region: Region, rows: slice) -> Bits:
        """[rows, width], a copy."""
        buffer = self._buffers["work"]
        at = _BYTES * (region.offset + rows.start * region.width)
        size = _BYTES * (rows.stop - rows.start) * region.width
        buffer.to_host(at, size)
        return buffer.here[at : at + size].view(np.uint16).reshape(-1, region.width).copy()

    def _chunks(self, length: int, tokens: Sequence[int]) -> Iterable[Sequence[int]]:
        """As many at a time as there is room behind those that are computed once more."""
        at = 0
        while at < len(tokens):
            room = TILE - (length + at) % DEPTH
            yield tokens[at : at + room]
            at += room


class _Memory:
    """Pieces of 32 rows in a buffer, or in several, each of which has columns of them; and what lies there."""

    def __init__(self, buffers: Sequence[tuple[Shared, slice]]) -> None:
        self._buffers = buffers
        self._lies: dict[int, Bits] = {}

    def hold(self, groups: Sequence[tuple[Bits, ...]]) -> None:
        """Pieces of the groups in turn; only what is not there is written."""
        for group, pieces in enumerate(groups):
            for at, piece in enumerate(pieces):
                step = at * len(groups) + group
                if self._lies.get(step) is not piece:
                    for buffer, columns in self._buffers:
                        _write(buffer, step * DEPTH * (columns.stop - columns.start), piece[:, columns])
                    self._lies[step] = piece


def _write(buffer: Shared, offset: int, values: Bits) -> None:
    at = _BYTES * offset
    buffer.here[at : at + values.nbytes] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    buffer.to_device(at, values.nbytes)


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
