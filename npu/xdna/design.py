"""Designs for an array of tiles, as data: what the checker judges, the emulator executes, the MLIR says and the cost
model prices.

A design is an overlay (tiles, object FIFOs between them, programs on cores) and the sequences that the host can start
on it. Nothing here decides whether it fits the hardware: that is the checker's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from math import gcd, prod

import numpy as np
from numpy.typing import NDArray


class Element(Enum):
    """What memory holds: its name in MLIR, and its bytes."""

    I8 = ("i8", 1)
    U8 = ("ui8", 1)
    I16 = ("i16", 2)
    BF16 = ("bf16", 2)
    I32 = ("i32", 4)
    F32 = ("f32", 4)

    def __init__(self, mlir: str, bytes_: int) -> None:
        self.mlir = mlir
        self.bytes = bytes_


@dataclass(frozen=True)
class Block:
    """Memory of one kind of element, rows after rows."""

    element: Element
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.count * self.element.bytes


@dataclass(frozen=True, order=True)
class Tile:
    """A place in the array."""

    column: int
    row: int  # 0: shim, 1: memory, the others: cores


@dataclass(frozen=True)
class Pattern:
    """The order in which a DMA visits the elements of a block: nested loops, the outermost first."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    offset: int = 0  # in elements

    @property
    def count(self) -> int:
        """Elements visited."""
        return prod(self.sizes)

    def indices(self, piece: int = 1) -> NDArray[np.int64]:
        """[count / piece]: the elements in the order of the visit, or pieces of as many. Shared: not to be changed."""
        return _visited(self, piece)

    def piece(self, *spans: int) -> int:
        """How many elements can move as one: they lie side by side wherever the visit goes, and divide the spans."""
        if self.strides[-1] != 1:
            return 1
        return gcd(self.sizes[-1], self.offset, *self.strides[:-1], *spans)

    @property
    def reach(self) -> tuple[int, int]:
        """The first element visited, and the one after the last."""
        steps = [(size - 1) * stride for size, stride in zip(self.sizes, self.strides, strict=True)]
        low = self.offset + sum(step for step in steps if step < 0)
        return low, self.offset + sum(step for step in steps if step > 0) + 1


@lru_cache(maxsize=256)
def _visited(pattern: Pattern, piece: int) -> NDArray[np.int64]:
    at = np.array([pattern.offset], np.int64)
    *outer, inner = zip(pattern.sizes, pattern.strides, strict=True)
    for size, stride in (*outer, (inner[0] // piece, inner[1] * piece)):
        at = (at[:, None] + np.arange(size, dtype=np.int64) * stride).ravel()
    at //= piece
    at.setflags(write=False)
    return at


def whole(block: Block) -> Pattern:
    """Every element once, as it lies."""
    return Pattern((block.count,), (1,))


@dataclass(frozen=True)
class Fifo:
    """A bounded queue of objects from one tile to others; with several consumers each gets every object."""

    name: str
    producer: Tile
    consumers: tuple[Tile, ...]
    block: Block  # one object
    depth: int = 2  # objects at each end
    sent: Pattern | None = None  # how the producer's DMA reads an object; None: as it lies
    received: Pattern | None = None  # how a consumer's DMA writes it


@dataclass(frozen=True)
class Link:
    """What a memory tile passes on: one fifo split into several, several joined into one, or one to one.

    Either side has one fifo; object by object, part i of the larger one begins at `offsets[i]` of its elements.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    offsets: tuple[int, ...] = ()  # none where one fifo is passed on to one


@dataclass(frozen=True)
class Function:
    """A kernel: a C function whose arguments are pointers to blocks and 32-bit integers."""

    name: str
    source: str  # file under npu/kernels
    arguments: tuple[Block | None, ...]  # None: an integer
    stack: int  # bytes that it and what it calls need, as measured by -fstack-usage


@dataclass(frozen=True)
class Held:
    """An acquired object of a fifo, as an argument of a call."""

    fifo: str
    index: int = 0  # among those acquired


@dataclass(frozen=True)
class Local:
    """A buffer of the worker's, as an argument."""

    name: str


@dataclass(frozen=True)
class Word:
    """An integer that lies in memory: word `at` of the oldest object held of a fifo, or of a buffer of the worker's.

    The first word of an operation's header says what to do, others how often.
    """

    source: str  # a fifo, or a local buffer
    at: int


Number = int | Word
Operand = Held | Local | Word | int


@dataclass(frozen=True)
class Acquire:
    """Waits until `count` objects of a fifo are there: full ones for a consumer, empty ones for the producer."""

    fifo: str
    count: int = 1


@dataclass(frozen=True)
class Release:
    """Gives the oldest `count` acquired objects on: filled by a producer, used up by a consumer."""

    fifo: str
    count: int = 1


@dataclass(frozen=True)
class Call:
    """Runs a kernel."""

    function: str
    arguments: tuple[Operand, ...]


@dataclass(frozen=True)
class Repeat:
    """Runs its body so often; None: for ever."""

    times: Number | None
    body: tuple[Step, ...]


@dataclass(frozen=True)
class Choose:
    """Runs the body that belongs to a value; another value runs none."""

    value: Word
    bodies: Mapping[int, tuple[Step, ...]]


Step = Acquire | Release | Call | Repeat | Choose


@dataclass(frozen=True)
class Worker:
    """The program of one core."""

    tile: Tile
    body: tuple[Step, ...]
    locals: Mapping[str, Block] = field(default_factory=dict)  # accumulators, statistics: zero at the start
    tables: Mapping[str, tuple[Block, bytes]] = field(
        default_factory=dict
    )  # constants, also named by `Local`
    stack: int = 0x400  # bytes reserved


@dataclass(frozen=True)
class Start:
    """Has a shim move elements between an argument of the sequence and a fifo; goes on at once."""

    fifo: str  # whose producer (towards the array) or consumer (from it) is a shim
    argument: str
    pattern: Pattern
    repeat: int = 1  # the pattern again and again, `step` elements further on each time
    step: int = 0


@dataclass(frozen=True)
class Await:
    """Waits until what was started on a fifo is done, but for the last transfers; descriptors of those done are free
    again.
    """

    fifo: str
    but: int = 0  # transfers, the last ones started, that need not be done


@dataclass(frozen=True)
class Sequence:
    """What the host starts with one dispatch."""

    name: str
    arguments: Mapping[str, Block]  # the host's buffers in their order
    steps: tuple[Start | Await, ...]


@dataclass(frozen=True)
class Stage:
    """A part of a sequence: what the shims move for it, and how often the core with most to do calls each kernel."""

    name: str
    steps: tuple[Start | Await, ...]  # by itself
    calls: Mapping[str, int]
    first: int = 0  # of the first steps: those that need each other until every core has something to do


def sequence_of(name: str, arguments: Mapping[str, Block], stages: Iterable[Stage]) -> Sequence:
    """Stages one after the other."""
    return Sequence(name, arguments, tuple(step for stage in stages for step in stage.steps))


@dataclass(frozen=True)
class Design:
    """An overlay and its sequences."""

    name: str
    fifos: tuple[Fifo, ...]
    links: tuple[Link, ...]
    workers: tuple[Worker, ...]
    functions: tuple[Function, ...]
    sequences: tuple[Sequence, ...]

    def fifo(self, name: str) -> Fifo:
        """By name; KeyError where there is none."""
        for each in self.fifos:
            if each.name == name:
                return each
        raise KeyError(name)

    def function(self, name: str) -> Function:
        """By name; KeyError where there is none."""
        for each in self.functions:
            if each.name == name:
                return each
        raise KeyError(name)

    def tiles(self) -> tuple[Tile, ...]:
        """All that are used, in order."""
        ends = {tile for fifo in self.fifos for tile in (fifo.producer, *fifo.consumers)}
        return tuple(sorted(ends | {worker.tile for worker in self.workers}))


def walk(steps: tuple[Step, ...]) -> Iterator[Step]:
    """All steps of a program, those of bodies included, in the order in which they are written."""
    for step in steps:
        yield step
        if isinstance(step, Repeat):
            yield from walk(step.body)
        elif isinstance(step, Choose):
            for body in step.bodies.values():
                yield from walk(body)
