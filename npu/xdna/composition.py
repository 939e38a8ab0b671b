"""What composers of any overlay share: memory, headers, transfers, and stages in their order.

Three buffers hold everything: constants (weights in the order in which tiles stream in), headers (small, written anew
for every window, because they say how long it is), and work (activations). What the host keeps from one dispatch to the
next can have buffers of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna.design import Await, Block, Pattern, Sequence, Stage, Start
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.junction import joined
from npu.xdna.target import NPU1, Kind

ITERATIONS = NPU1.limits[Kind.SHIM].fields.iterations  # of a transfer

Values = NDArray[Any]
Counts = NDArray[np.int64]  # of each of 64 rows
Lengths = Mapping[str, Any]  # what a window's length decides, by name: numbers, and counts
Said = int | float | Callable[[Lengths], int | float | Counts]  # a word of a header, or 64


class Constants:
    """What never changes: kept once, whoever names it."""

    def __init__(self, kind: type[np.unsignedinteger[Any]] = np.uint16) -> None:
        """kind: of what the array moves."""
        self._kind = kind
        self._parts: list[Values] = []
        self._places: dict[tuple[object, ...], int] = {}
        self.size = 0  # values

    def place(self, key: tuple[object, ...], made: Callable[[], Values]) -> int:
        """Where it begins."""
        if key not in self._places:
            part = made().ravel()
            self._places[key] = self.size
            self._parts.append(part)
            self.size += part.size
        return self._places[key]

    def laid(self) -> Values:
        """The whole buffer."""
        return np.concatenate([np.zeros(0, self._kind), *self._parts])


class Moves:
    """Transfers of a stage. Where a channel has no place left in its queue, its oldest ones are awaited, so that the
    array has others to go on with.

    Queues of all channels together are no longer than a shim has descriptors.
    """

    def __init__(self) -> None:
        self.steps: list[Start | Await] = []
        self.first = 0  # of the first steps: those that need each other
        self._live: Counter[str] = Counter()  # transfers under way, by fifo
        self._last: Counter[str] = Counter()  # and the newest of them, which are not awaited without need

    def together(self, of_shim: Callable[[int], Iterable[Start]]) -> None:
        """Transfers of all shims that need each other: they are under way at the same time.

        They need no result of those before them, unless `settle` is between.
        """
        group = [start for i in range(SIDE) for start in of_shim(i)]
        for name, count in sorted(Counter(each.fifo for each in group).items()):
            if self._live[name] + count > NPU1.queued:
                self._live[name] = min(self._last[name], NPU1.queued - count)
                self.steps.append(Await(name, self._live[name]))
            self._live[name] += count
            self._last[name] = count
        self.first = self.first or len(group)
        self.steps += group

    def settle(self) -> None:
        """Waits for all of them, results last: then nothing else is waited for when they are there."""
        self.steps += [Await(name) for name in sorted(self._live)]
        self._live.clear()
        self._last.clear()


class Composition:
    """Stages of a model and its headers, on whatever overlay."""

    def __init__(
        self,
        constants: Constants,
        item: Block,
        header: Callable[[Mapping[int, int | float | Counts]], Values],
        operation: int,
    ) -> None:
        """item: what comes to a core at a time; header: that with words at its beginning; operation: the word that says
        what to do.
        """
        self.units: dict[str, list[Stage]] = {}  # stages that could be a dispatch of their own, by name
        self._constants = constants
        self._object = item
        self._written = header
        self._operation = operation
        self._headers: list[Mapping[int, Said]] = []
        self._placed: dict[tuple[str, tuple[tuple[int, Said], ...]], int] = {}
        self._work = 0
        self._own: dict[str, int] = {}  # values of further buffers, by name
        self._unit: list[Stage] = []

    @property
    def work(self) -> int:
        """Values of the work buffer."""
        return self._work

    def headers(self, lengths: Lengths) -> Values:
        """The buffer of headers for a window."""
        found = [
            self._written({at: said(lengths) if callable(said) else said for at, said in words.items()})
            for words in self._headers
        ]
        return np.concatenate(found)

    def arguments(self, work: int) -> dict[str, Block]:
        """Of every sequence; `work`: the size of the buffer that all windows share."""
        headers = len(self._headers) * self._object.count
        sizes = {"constants": self._constants.size, "headers": headers, "work": work} | self._own
        return {name: Block(self._object.element, (size,)) for name, size in sizes.items()}

    def sequence(self, name: str, units: Iterable[str], work: int) -> Sequence:
        """One dispatch for these units. Only when everything is composed: until then the buffers grow."""
        stages = (stage for unit in units for stage in self.units[unit])
        return Sequence(name, self.arguments(work), joined(stages))

    def unit(self, name: str) -> None:
        """What is written from here on belongs together."""
        self._unit = self.units.setdefault(name, [])

    def _header(self, operation: int, words: Mapping[Any, Said], stage: str = "") -> int:
        """Its number. stage: that which shares it with no other, whatever its words are."""
        said: dict[int, Said] = {self._operation: int(operation)}
        said |= {int(at): value for at, value in words.items()}
        key = stage, tuple(said.items())
        if key not in self._placed:
            self._placed[key] = len(self._headers)
            self._headers.append(said)
        return self._placed[key]

    def _head(self, i: int, number: int) -> Start:
        size = self._object.count
        return Start(f"A{i}", "headers", Pattern((size,), (1,), number * size))

    def _add(self, name: str, moves: Moves, calls: Mapping[str, int], times: int) -> None:
        moves.settle()
        counted = {kernel: n * times for kernel, n in calls.items() if n}
        self._unit.append(Stage(name, tuple(moves.steps), counted, moves.first))


def whole_spans(n: int) -> int:
    """Up to a multiple of 256."""
    return -(-n // SPAN) * SPAN


@cache
def within(rows: Callable[[Lengths], int], first: int) -> Callable[[Lengths], int]:
    """How many of 64 rows from the first on there are."""
    return lambda lengths: int(np.clip(rows(lengths) - first, 0, TILE))
