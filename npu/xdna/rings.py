"""The memory at one end of a fifo, or of several that a link joins: a ring of objects with its writers and readers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from npu.xdna.design import Block, Pattern

Bytes = NDArray[np.uint8]

POISON = 0xA5  # what lies in an object before it is written


@dataclass(frozen=True)
class Part:
    """Which elements of an object a DMA moves, and in what order."""

    start: int  # element
    count: int  # elements
    pattern: Pattern | None  # within these; None: as they lie

    @cached_property
    def piece(self) -> int:
        """Elements that are moved as one."""
        return self.count if self.pattern is None else self.pattern.piece(self.count)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """[count / piece]: the pieces in order."""
        return np.zeros(1, np.int64) if self.pattern is None else self.pattern.indices(self.piece)


class Ring:
    """Objects in turn: one is full when all writers have written it, empty again when all readers have read it."""

    def __init__(self, name: str, block: Block, depth: int, writers: int, readers: int) -> None:
        self.name = name
        self.block = block
        self.depth = depth
        self._slots = [np.full(block.bytes, POISON, np.uint8) for _ in range(depth)]
        self._written = [0] * writers  # objects so far
        self._read = [0] * readers

    def empty(self, writer: int) -> int:
        """Objects this writer may write."""
        return self.depth - (self._written[writer] - min(self._read))

    def full(self, reader: int) -> int:
        """Objects this reader may read."""
        return min(self._written) - self._read[reader]

    def to_write(self, writer: int, ahead: int = 0, poisoned: bool = False) -> Bytes:
        """The object this writer writes next, or one further on; `poisoned`: without what was in it before."""
        slot = self._slots[(self._written[writer] + ahead) % self.depth]
        if poisoned:
            slot.fill(POISON)
        return slot

    def to_read(self, reader: int, ahead: int = 0) -> Bytes:
        """The object this reader reads next, or one further on."""
        return self._slots[(self._read[reader] + ahead) % self.depth]

    def note_written(self, writer: int, count: int = 1) -> None:
        """This writer is done with so many."""
        self._written[writer] += count

    def note_read(self, reader: int, count: int = 1) -> None:
        """This reader is done with so many."""
        self._read[reader] += count

    def take(self, reader: int, part: Part) -> Bytes:
        """The elements of the next object in the order of the part's pattern, as bytes for the stream."""
        found = self._pieces(self.to_read(reader), part)[part.order]
        self.note_read(reader)
        return found.view(np.uint8)

    def put(self, writer: int, part: Part, stream: Bytes) -> None:
        """Bytes of the stream into the next object, in the order of the part's pattern."""
        pieces = self._pieces(self.to_write(writer), part)
        pieces[part.order] = stream.view(pieces.dtype)
        self.note_written(writer)

    def _pieces(self, slot: Bytes, part: Part) -> NDArray[np.void]:
        """[count / piece], a view."""
        size = self.block.element.bytes
        span = slot[part.start * size : (part.start + part.count) * size]
        return span.view(np.dtype((np.void, part.piece * size)))
