"""The array of tiles, executed on this machine: real bytes moved by the descriptors of a design, kernels run on them.

One thread, cooperative: whoever can go on does, in an order drawn from a seed, so that a design which depends on the
order of its workers is found out. When nobody can go on before the sequence is over, that is a deadlock, and it is
named. Time is not modelled; nor are bank conflicts, arbitration and routing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from npu.xdna.check import check
from npu.xdna.design import (
    Acquire,
    Await,
    Call,
    Choose,
    Design,
    Fifo,
    Held,
    Local,
    Number,
    Operand,
    Release,
    Repeat,
    Start,
    Step,
    Tile,
    Worker,
)
from npu.xdna.design import Sequence as HostSequence
from npu.xdna.rings import Bytes, Part, Ring
from npu.xdna.target import NPU1, Target
from streaming.errors import ModelError

_WHOLE = 0  # writer or reader number of a ring that has one


class Deadlock(ModelError):
    """Nobody in the array can go on: a fifo is too shallow, or somebody waits for what never comes."""


class Kernels(Protocol):
    """The compiled functions of a design."""

    def call(self, name: str, arguments: Sequence[Bytes | int]) -> None:
        """Runs one on memory of the array and on integers."""


@dataclass(frozen=True)
class _End:
    """Where a fifo begins or ends within the array: a ring, which part of its objects, and as whom."""

    ring: Ring
    part: Part
    role: int  # number of writer or reader


_Pieces = tuple[NDArray[np.void], NDArray[np.int64]]  # memory in pieces, and which of them, in order


@dataclass
class _Stream:
    """What a shim has been told to move of one fifo. Transfers move whole objects, so each object is of one."""

    started: deque[_Pieces] = field(default_factory=deque)

    def left(self) -> int:
        """Bytes."""
        return sum(len(order) * memory.itemsize for memory, order in self.started)

    def take(self, size: int) -> Bytes:
        """The next bytes, an object, towards the array."""
        memory, now = self._next(size)
        return memory[now].view(np.uint8)

    def put(self, stream: Bytes) -> None:
        """The next bytes, an object, from the array."""
        memory, now = self._next(len(stream))
        memory[now] = stream.view(memory.dtype)

    def _next(self, size: int) -> _Pieces:
        memory, order = self.started.popleft()
        count = size // memory.itemsize
        if len(order) > count:
            self.started.appendleft((memory, order[count:]))
        return memory, order[:count]


Waiting = Generator[str, None, None]  # yields what it waits for


class Array:
    """A design loaded on the tiles. Rings, local buffers and the places in the programs outlive a sequence."""

    def __init__(self, design: Design, kernels: Kernels, target: Target = NPU1, seed: int = 0) -> None:
        """Refuses what the checker rejects."""
        if violations := check(design, target):
            raise ModelError(f"{design.name} does not fit {target.name}: {'; '.join(map(str, violations))}")
        self._design = design
        self._kernels = kernels
        self.moves = 0  # objects moved, taken and given on so far
        self._random = np.random.default_rng(seed)
        self._outs: dict[str, _End] = {}  # of each fifo, where its producer's DMA reads
        self._ins: dict[str, list[_End]] = {}  # and where its consumers' DMAs write
        self._core_rings: dict[tuple[Tile, str], Ring] = {}
        self._streams = {fifo.name: _Stream() for fifo in design.fifos}
        self._join_ends()
        self._processes: list[tuple[str, Waiting]] = [
            *((f"core ({w.tile.column}, {w.tile.row})", self._program(w)) for w in design.workers),
            *((f"DMA of {fifo.name}", self._dma(fifo)) for fifo in design.fifos),
        ]

    def run(self, name: str, arguments: Mapping[str, Bytes]) -> None:
        """One dispatch of a sequence over the host's buffers [bytes]; Deadlock where it never ends."""
        sequence = next(each for each in self._design.sequences if each.name == name)
        host = self._sequence(sequence, arguments)
        waits: dict[str, str] = {}
        moved = -1
        while (waiting := next(host, None)) is not None:
            if moved == self.moves:
                stuck = "; ".join(f"{who} waits for {what}" for who, what in waits.items() if what)
                raise Deadlock(f"{self._design.name}, {name}: nobody can go on: {stuck}")
            moved, waits["host"] = self.moves, waiting
            for index in self._random.permutation(len(self._processes)):
                who, process = self._processes[index]
                waits[who] = next(process)

    # the ends of fifos

    def _join_ends(self) -> None:
        design = self._design
        linked: set[tuple[str, bool]] = set()  # a fifo's name, and whether it is a source of its link
        for link in design.links:
            sources, targets = ([design.fifo(name) for name in side] for side in (link.sources, link.targets))
            big = sources[0] if len(sources) == 1 else targets[0]
            ring = Ring(big.name, big.block, big.depth, len(sources), len(targets))
            offsets = link.offsets or (0,)
            for at, fifo in enumerate(sources):
                start = 0 if fifo is big else offsets[at]
                end = _End(ring, Part(start, fifo.block.count, fifo.received), at)
                self._ins.setdefault(fifo.name, []).append(end)
                linked.add((fifo.name, True))
            for at, fifo in enumerate(targets):
                start = offsets[at] if big is sources[0] else 0
                self._outs[fifo.name] = _End(ring, Part(start, fifo.block.count, fifo.sent), at)
                linked.add((fifo.name, False))
        for fifo in design.fifos:
            if fifo.producer.row > 1:
                ring = self._core_rings[fifo.producer, fifo.name] = Ring(
                    fifo.name, fifo.block, fifo.depth, 1, 1
                )
                self._outs[fifo.name] = _End(ring, Part(0, fifo.block.count, fifo.sent), _WHOLE)
            for tile in fifo.consumers:
                if tile.row > 1:
                    ring = self._core_rings[tile, fifo.name] = Ring(fifo.name, fifo.block, fifo.depth, 1, 1)
                    end = _End(ring, Part(0, fifo.block.count, fifo.received), _WHOLE)
                    self._ins.setdefault(fifo.name, []).append(end)

    def _dma(self, fifo: Fifo) -> Waiting:
        """Moves objects of a fifo for ever. Yields "" after each, else what it waits for."""
        stream, size = self._streams[fifo.name], fifo.block.bytes
        source, ends = self._outs.get(fifo.name), self._ins.get(fifo.name, [])
        to_shim = any(tile.row == 0 for tile in fifo.consumers)
        while True:
            if any(end.ring.empty(end.role) < 1 for end in ends):
                yield f"room at the end of {fifo.name}"
            elif source is not None and source.ring.full(source.role) < 1:
                yield f"an object of {fifo.name}"
            elif (source is None or to_shim) and stream.left() < size:
                yield f"the host to move {fifo.name}"
            else:
                data = stream.take(size) if source is None else source.ring.take(source.role, source.part)
                if to_shim:
                    stream.put(data)
                for end in ends:
                    end.ring.put(end.role, end.part, data)
                self.moves += 1
                yield ""

    # the host

    def _sequence(self, sequence: HostSequence, arguments: Mapping[str, Bytes]) -> Waiting:
        for step in sequence.steps:
            stream = self._streams[step.fifo]
            if isinstance(step, Await):
                while len(stream.started) > step.but:
                    yield f"the end of {step.fifo}"
                continue
            piece, order = _visited(step, self._design.fifo(step.fifo))
            size = piece * sequence.arguments[step.argument].element.bytes
            memory = arguments[step.argument].reshape(-1)
            in_pieces = memory[: memory.size // size * size].view(np.dtype((np.void, size)))
            stream.started.append((in_pieces, order))

    # cores

    def _program(self, worker: Worker) -> Waiting:
        memory = {name: np.zeros(block.bytes, np.uint8) for name, block in worker.locals.items()}
        memory |= {name: np.frombuffer(data, np.uint8).copy() for name, (_, data) in worker.tables.items()}
        yield from _Core(self, worker, memory).run(worker.body)
        while True:
            yield "nothing: its program has ended"


class _Core:
    """A core in the middle of its program."""

    def __init__(self, array: Array, worker: Worker, memory: Mapping[str, Bytes]) -> None:
        self._array = array
        self._worker = worker
        self._memory = memory
        self._held: dict[str, int] = {}
        self._rings = {name: ring for (tile, name), ring in array._core_rings.items() if tile == worker.tile}
        self._written = {fifo.name for fifo in array._design.fifos if fifo.producer == worker.tile}

    def run(self, steps: Sequence[Step]) -> Waiting:
        """Executes them; yields "" after each kernel, else what it waits for."""
        for step in steps:
            match step:
                case Acquire(name, count):
                    yield from self._acquire(name, count)
                case Release(name, count):
                    ring = self._rings[name]
                    note = ring.note_written if name in self._written else ring.note_read
                    note(_WHOLE, count)
                    self._held[name] -= count
                    self._array.moves += 1
                case Call(name, operands):
                    self._array._kernels.call(name, [self._value(each) for each in operands])
                    self._array.moves += 1
                    yield ""
                case Repeat(times, body):
                    done, limit = 0, None if times is None else self._number(times)
                    while limit is None or done < limit:
                        yield from self.run(body)
                        done += 1
                case Choose(value, bodies):
                    yield from self.run(bodies.get(self._number(value), ()))

    def _acquire(self, name: str, count: int) -> Waiting:
        ring, writes, held = self._rings[name], name in self._written, self._held.get(name, 0)
        while (ring.empty(_WHOLE) if writes else ring.full(_WHOLE)) < held + count:
            yield f"{'room in' if writes else 'an object of'} {name}"
        if writes:
            for ahead in range(held, held + count):
                ring.to_write(_WHOLE, ahead, poisoned=True)
        self._held[name] = held + count
        self._array.moves += 1

    def _object(self, name: str, index: int) -> Bytes:
        ring = self._rings[name]
        return ring.to_write(_WHOLE, index) if name in self._written else ring.to_read(_WHOLE, index)

    def _number(self, number: Number) -> int:
        if isinstance(number, int):
            return number
        local = self._memory.get(number.source)
        lies_in = self._object(number.source, 0) if local is None else local
        return int(lies_in.view(np.int32)[number.at])

    def _value(self, operand: Operand) -> Bytes | int:
        if isinstance(operand, Held):
            return self._object(operand.fifo, operand.index)
        if isinstance(operand, Local):
            return self._memory[operand.name]
        return self._number(operand)


def _visited(step: Start, fifo: Fifo) -> tuple[int, NDArray[np.int64]]:
    """How many elements of the argument are moved as one, and which of these pieces, in order."""
    piece = step.pattern.piece(step.step, fifo.block.count)
    once = step.pattern.indices(piece)
    rounds = np.arange(step.repeat, dtype=np.int64) * (step.step // piece)
    return piece, (rounds[:, None] + once).ravel()
