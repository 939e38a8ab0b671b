"""Programs of cores as operations: executed as the AIE dialect means them, they do what the steps say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna import overlay_i8
from npu.xdna.core_program import FOR_EVER, CoreProgram, memref
from npu.xdna.design import (
    Acquire,
    Block,
    Call,
    Choose,
    Design,
    Element,
    Fifo,
    Held,
    Local,
    Operand,
    Release,
    Repeat,
    Step,
    Tile,
    Word,
    Worker,
)
from npu.xdna.gemm import gemm
from npu.xdna.operations import Integer, Integers, Operation, Region, Symbol, Value
from npu.xdna.overlay import overlay

EVENTS = 1000  # after which a program is left
CORE, OTHER = Tile(0, 2), Tile(0, 1)
DEPTH = 3

Event = tuple[object, ...]


class Enough(Exception):
    """There are as many events as a test looks at."""


class Memory:
    """What happened to the objects of fifos, and the words that lie in them and in buffers: small numbers."""

    def __init__(self, design: Design, worker: Worker) -> None:
        self.design, self.worker = design, worker
        self.blocks = dict(worker.locals) | {name: block for name, (block, _) in worker.tables.items()}
        self.held: Counter[str] = Counter()
        self.given: Counter[str] = Counter()
        self.events: list[Event] = []

    def note(self, *event: object) -> None:
        """Enough where there are."""
        self.events.append(event)
        if len(self.events) == EVENTS:
            raise Enough

    def take(self, name: str, count: int) -> None:
        """Waits for so many more."""
        if count:
            self.held[name] += count
            self.note("take", name, count)

    def give(self, name: str, count: int) -> None:
        """The oldest."""
        assert count <= self.held[name]
        self.held[name] -= count
        self.given[name] += count
        self.note("give", name, count)

    def object(self, name: str, index: int) -> tuple[str, int]:
        """Its fifo, and its number from the first on."""
        assert index < self.held[name]
        return name, self.given[name] + index

    def words(self, place: tuple[str, int]) -> NDArray[np.int32]:
        """What lies in an object or, with the number -1, in a buffer, which kernels change."""
        name, number = place
        block = self.blocks[name] if number < 0 else self.design.fifo(name).block
        seed = [*name.encode(), number if number >= 0 else len(self.events)]
        return np.random.default_rng(seed).integers(-1, 9, block.bytes // 4).astype(np.int32)


def steps(memory: Memory, body: tuple[Step, ...]) -> None:
    """Executes what a design says."""
    for step in body:
        match step:
            case Acquire(name, count):
                memory.take(name, count)
            case Release(name, count):
                memory.give(name, count)
            case Call(name, operands):
                memory.note("call", name, *(operand(memory, each) for each in operands))
            case Repeat(None, inner):
                while True:
                    steps(memory, inner)
            case Repeat(times, inner):
                for _ in range(times if isinstance(times, int) else word(memory, times)):
                    steps(memory, inner)
            case Choose(value, bodies):
                steps(memory, bodies.get(word(memory, value), ()))


def operand(memory: Memory, of: Operand) -> object:
    """An argument of a call."""
    match of:
        case Held(name, index):
            return memory.object(name, index)
        case Local(name):
            return name, -1
        case Word():
            return word(memory, of)
    return of


def word(memory: Memory, of: Word) -> int:
    """Of the oldest object held, or of a buffer."""
    place = (of.source, -1) if of.source in memory.blocks else memory.object(of.source, 0)
    return int(memory.words(place)[of.at])


class Machine:
    """Executes operations."""

    def __init__(self, memory: Memory, buffers: Mapping[str, Value]) -> None:
        self.memory = memory
        self.known: dict[str, object] = {value.name: (name, -1) for name, value in buffers.items()}

    def run(self, region: Region) -> None:
        """All of its operations, one after the other."""
        for operation in region.operations:
            found = self._does(operation, [self.known[each.name] for each in operation.operands])
            for result, value in zip(operation.results, found, strict=True):
                assert result.name not in self.known or self.known[result.name] is not None
                self.known[result.name] = value

    def _does(self, operation: Operation, given: list[object]) -> tuple[object, ...]:
        properties, memory = operation.properties, self.memory
        match operation.name:
            case "aie.objectfifo.acquire":
                name, wanted = named(properties["objFifo_name"]), len(operation.results)
                memory.take(name, max(0, wanted - memory.held[name]))
                return tuple(memory.object(name, index) for index in range(wanted))
            case "aie.objectfifo.release":
                memory.give(named(properties["objFifo_name"]), number(properties["size"]))
            case "func.call":
                memory.note("call", named(properties["callee"]), *given)
            case "scf.for":
                self._loop(operation, given)
            case "scf.index_switch":
                cases = properties["cases"]
                assert isinstance(cases, Integers)
                at = cases.values.index(given[0]) + 1 if given[0] in cases.values else 0
                self.run(operation.regions[at])
            case "arith.constant":
                return (number(properties["value"]),)
            case "memref.load":
                return (self._load(operation, given),)
            case "scf.yield" | "aie.end":
                pass
            case name:
                return (COMPUTES[name](*map(plain, given)),)
        return ()

    def _loop(self, operation: Operation, given: list[object]) -> None:
        begin, end, by = map(plain, given)
        assert operation.operands[0].type == "index"
        if end == FOR_EVER:
            while True:
                self.run(operation.regions[0])
        for _ in range(begin, end, by):
            self.run(operation.regions[0])

    def _load(self, operation: Operation, given: list[object]) -> int:
        """The bits of an element."""
        place, *index = given
        assert isinstance(place, tuple)
        words = self.memory.words(place)
        shape = tuple(map(int, operation.operands[0].type[len("memref<") : -1].split("x")[:-1]))
        kind = operation.results[0].type
        size = int(kind.strip("bif")) // 8
        bits = words.view(f"u{size}").reshape(shape)
        return int(bits[tuple(map(plain, index))])


COMPUTES: Mapping[str, Callable[..., int]] = {
    "arith.bitcast": lambda bits: bits,
    "arith.extui": lambda bits: bits,
    "arith.shli": lambda bits, by: bits << by & 0xFFFFFFFF,
    "arith.ori": lambda left, right: left | right,
    "arith.index_cast": lambda bits: bits - 2**32 if bits >= 2**31 else bits,
}


def named(attribute: object) -> str:
    """What a symbol names."""
    assert isinstance(attribute, Symbol)
    return attribute.name


def number(attribute: object) -> int:
    """The value of an integer."""
    assert isinstance(attribute, Integer)
    return attribute.value


def plain(value: object) -> int:
    """A number that was computed."""
    assert isinstance(value, int)
    return value


def happened(run: Callable[[], None], memory: Memory) -> list[Event]:
    """Until it ends, or that is enough. Numbers of 32 bits are what kernels take them for."""
    with suppress(Enough):
        run()
    signed = COMPUTES["arith.index_cast"]
    return [
        tuple(signed(each) if isinstance(each, int) else each for each in event) for event in memory.events
    ]


def agrees(design: Design, worker: Worker) -> int:
    """Fails unless steps and operations do the same; how much they do."""
    said, meant = Memory(design, worker), Memory(design, worker)
    buffers = {name: Value(f"buffer_{name}", memref(block)) for name, block in said.blocks.items()}
    region = CoreProgram(design, worker, buffers).region()
    expected = happened(lambda: steps(said, worker.body), said)
    assert happened(lambda: Machine(meant, buffers).run(region), meant) == expected
    return len(expected)


STACKS: Mapping[str, int] = Counter()
DESIGNS: Mapping[str, Callable[[], Design]] = {
    "gemm": lambda: gemm(STACKS, ()),
    "overlay": lambda: overlay(STACKS, ()),
    "overlay in 8 bits": lambda: overlay_i8.overlay(STACKS, ()),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_programs_of_designs(name: str) -> None:
    """Every core of every overlay."""
    design = DESIGNS[name]()
    for worker in design.workers:
        assert agrees(design, worker) == EVENTS


class Author:
    """Writes programs that no person would, and that leave as much held as they find."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.fifos = tuple(
            Fifo(f"f{at}", *((CORE, (OTHER,)) if at % 2 else (OTHER, (CORE,))), Block(element, (4, 8)), DEPTH)
            for at, element in enumerate(self.random.permutation(list(Element))[:3])
        )
        self.locals = {"bits": Block(Element.I16, (2, 6)), "sums": Block(Element.F32, (8,))}

    def body(self, held: Counter[str], depth: int) -> tuple[Step, ...]:
        """Some steps; `held` is as it was."""
        now = Counter(held)
        found = [step for _ in range(self.random.integers(1, 12)) for step in self.step(now, depth)]
        for fifo in self.fifos:
            difference = held[fifo.name] - now[fifo.name]
            if difference:
                found.append((Acquire if difference > 0 else Release)(fifo.name, abs(difference)))
        return tuple(found)

    def step(self, now: Counter[str], depth: int) -> Iterator[Step]:
        """One that is possible."""
        name = f"f{self.random.integers(len(self.fifos))}"
        kind = self.random.integers(5 if depth else 3)
        if kind == 0 and now[name] < DEPTH:
            now[name] += 1
            yield Acquire(name)
        elif kind == 1 and now[name]:
            now[name] -= 1
            yield Release(name)
        elif kind == 2:
            yield Call("kernel", tuple(self.operands(now)))
        elif kind == 3:
            times = int(self.random.integers(4)) if self.random.integers(2) else self.word(now)
            yield Repeat(times, self.body(now, depth - 1))
        elif kind == 4:
            values = self.random.choice(10, 3, replace=False) - 1
            yield Choose(self.word(now), {int(value): self.body(now, depth - 1) for value in values})

    def operands(self, now: Counter[str]) -> Iterator[Operand]:
        """All that can be had."""
        yield from (Held(name, index) for name, count in now.items() for index in range(count))
        yield from (*map(Local, self.locals), self.word(now), int(self.random.integers(-3, 3)))

    def word(self, now: Counter[str]) -> Word:
        """Of anything that is held."""
        source = str(self.random.choice([*self.locals, *(+now)]))
        return Word(source, int(self.random.integers(6)))


@pytest.mark.parametrize("seed", range(60))
def test_programs_that_nobody_would_write(seed: int) -> None:
    """Loops and choices within each other, objects used wherever they are held, words of every element."""
    author = Author(seed)
    body = (Call("kernel", ()), *author.body(Counter(), 3))
    worker = Worker(CORE, (Repeat(None, body),), author.locals)
    agrees(Design("any", author.fifos, (), (worker,), (), ()), worker)
