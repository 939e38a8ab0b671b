"""The program of one core as operations of MLIR.

An acquire of the AIE dialect names all the objects that the core wants to hold, those it holds already included, and
gives them from the oldest on; `Acquire` of a design says how many more. So each becomes an acquire of the sum. What was
held before a loop or a choice may be another object after it; a use there is preceded by an acquire of just what is
held, which waits for nothing and gives the objects as they are then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npu.xdna.design import (
    Acquire,
    Block,
    Call,
    Choose,
    Design,
    Element,
    Held,
    Local,
    Number,
    Operand,
    Release,
    Repeat,
    Step,
    Word,
    Worker,
    walk,
)
from npu.xdna.operations import Attribute, Attributes, Integer, Integers, Operation, Region, Symbol, Value
from npu.xdna.programs import WORD

FOR_EVER = 2**63 - 1  # rounds of a loop without end: what IRON, mlir-aie's Python interface, writes
_PRODUCE, _CONSUME = 0, 1  # of the enumeration ObjectFifoPort
_BITS = 8


def memref(block: Block) -> str:
    """The type of a block in memory. Bytes are written without a sign, which `arith` and LLVM do not know."""
    return f"memref<{_shaped(block)}>"


def tensor(block: Block) -> str:
    """The type of the contents of a block."""
    return f"tensor<{_shaped(block)}>"


def _shaped(block: Block) -> str:
    element = Element.I8 if block.element is Element.U8 else block.element
    return "x".join((*map(str, block.shape), element.mlir))


@dataclass(frozen=True)
class _Objects:
    """Objects that a core holds of a fifo."""

    count: int = 0
    values: tuple[Value, ...] | None = ()  # the oldest first; None: not known here


class CoreProgram:
    """Turns the steps of a worker into operations, one after the other."""

    def __init__(self, design: Design, worker: Worker, buffers: Mapping[str, Value]) -> None:
        """buffers: the worker's local buffers and tables by name."""
        self._design = design
        self._worker = worker
        self._buffers = buffers
        self.most: dict[str, int] = {}  # objects acquired at a time, by fifo; known when `region` was called
        self._blocks = dict(worker.locals) | {name: block for name, (block, _) in worker.tables.items()}
        self._held: dict[str, _Objects] = {}
        self._constants: dict[tuple[int, str], Operation] = {}
        self._out: list[Operation] = []
        self._values = 0

    def region(self) -> Region:
        """What the core executes."""
        body = self._body(self._worker.body)
        return Region((*self._constants.values(), *body, Operation("aie.end")))

    # steps

    def _body(self, steps: Sequence[Step]) -> tuple[Operation, ...]:
        """The operations of a block."""
        outer, self._out = self._out, []
        for step in steps:
            match step:
                case Acquire(name, count):
                    self._acquire(name, self._objects(name).count + count)
                case Release(name, count):
                    self._release(name, count)
                case Call(name, operands):
                    arguments = tuple(self._value(each) for each in operands)
                    self._emit("func.call", arguments, callee=Symbol(name))
                case Repeat(times, body):
                    self._repeat(times, body)
                case Choose(value, bodies):
                    self._choose(value, bodies)
        inner, self._out = self._out, outer
        return tuple(inner)

    def _acquire(self, name: str, count: int) -> tuple[Value, ...]:
        kind = memref(self._design.fifo(name).block)
        values = tuple(self._new(name, kind) for _ in range(count))
        properties: Attributes = {"objFifo_name": Symbol(name), "port": self._port(name)}
        self._out.append(Operation("aie.objectfifo.acquire", (), values, properties))
        self._held[name] = _Objects(count, values)
        self.most[name] = max(count, self.most.get(name, 0))
        return values

    def _release(self, name: str, count: int) -> None:
        self._emit(
            "aie.objectfifo.release", objFifo_name=Symbol(name), port=self._port(name), size=Integer(count)
        )
        held = self._objects(name)
        self._held[name] = _Objects(held.count - count, held.values and held.values[count:])

    def _repeat(self, times: Number | None, body: tuple[Step, ...]) -> None:
        if isinstance(times, Word):
            limit = self._index(self._word(times))
        else:
            limit = self._constant(FOR_EVER if times is None else times, "index")
        bounds = (self._constant(0, "index"), limit, self._constant(1, "index"))
        round_ = self._new("round", "index")
        (inner,) = self._within(body, (body,))
        self._out.append(
            Operation("scf.for", bounds, regions=(Region((*inner, Operation("scf.yield")), (round_,)),))
        )

    def _choose(self, value: Word, bodies: Mapping[int, tuple[Step, ...]]) -> None:
        chosen = self._index(self._word(value))
        touched = tuple(step for body in bodies.values() for step in body)
        blocks = self._within(touched, ((), *bodies.values()))
        regions = tuple(Region((*block, Operation("scf.yield"))) for block in blocks)
        self._emit("scf.index_switch", (chosen,), regions=regions, cases=Integers(tuple(bodies)))

    def _within(
        self, touched: tuple[Step, ...], bodies: Sequence[tuple[Step, ...]]
    ) -> list[tuple[Operation, ...]]:
        """Bodies that leave as much held as there was: of each fifo that they touch, perhaps other objects."""
        names = {step.fifo for step in walk(touched) if isinstance(step, Acquire | Release)}
        before = {
            name: _Objects(held.count, None) if name in names and held.count else held
            for name, held in self._held.items()
        }
        blocks = []
        for body in bodies:
            self._held = dict(before)
            blocks.append(self._body(body))
        self._held = before
        return blocks

    # values

    def _value(self, operand: Operand) -> Value:
        match operand:
            case Held(name, index):
                return self._known(name)[index]
            case Local(name):
                return self._buffers[name]
            case Word():
                return self._word(operand)
        return self._constant(operand, "i32")

    def _known(self, name: str) -> tuple[Value, ...]:
        """The objects held of a fifo."""
        held = self._objects(name)
        return self._acquire(name, held.count) if held.values is None else held.values

    def _word(self, word: Word) -> Value:
        """A word as its parts lie in memory, the lowest first, which hold for any compiler.

        `memref.view` would need memory of bytes in one dimension, and casts of memory keep the type of its elements.
        """
        block = self._blocks.get(word.source)
        memory = self._known(word.source)[0] if block is None else self._buffers[word.source]
        block = block or self._design.fifo(word.source).block
        size = block.element.bytes
        parts = [self._part(memory, block, word.at * WORD // size + part) for part in range(WORD // size)]
        value = parts[0]
        for at, part in enumerate(parts[1:], start=1):
            by = self._constant(at * size * _BITS, "i32")
            value = self._compute("arith.ori", (value, self._compute("arith.shli", (part, by), "i32")), "i32")
        return value

    def _part(self, memory: Value, block: Block, at: int) -> Value:
        """An element's bits as the low ones of 32."""
        places = (self._constant(int(each), "index") for each in np.unravel_index(at, block.shape))
        integer = f"i{block.element.bytes * _BITS}"
        loaded = self._compute("memref.load", (memory, *places), memory.type[:-1].rpartition("x")[2])
        if loaded.type != integer:
            loaded = self._compute("arith.bitcast", (loaded,), integer)  # of MLIR; never tried with Peano
        return loaded if integer == "i32" else self._compute("arith.extui", (loaded,), "i32")

    def _index(self, value: Value) -> Value:
        return self._compute("arith.index_cast", (value,), "index")

    def _constant(self, number: int, kind: str) -> Value:
        if (number, kind) not in self._constants:
            name = f"c{number}" if number >= 0 else f"minus{-number}"
            value = Value(name if kind == "index" else f"{name}_{kind}", kind)
            self._constants[number, kind] = Operation(
                "arith.constant", (), (value,), {"value": Integer(number, kind)}
            )
        return self._constants[number, kind].results[0]

    def _compute(self, name: str, operands: tuple[Value, ...], kind: str) -> Value:
        value = self._new("v", kind)
        self._out.append(Operation(name, operands, (value,)))
        return value

    def _new(self, stem: str, kind: str) -> Value:
        self._values += 1
        return Value(f"{stem}.{self._values}", kind)

    def _emit(
        self,
        name: str,
        operands: tuple[Value, ...] = (),
        regions: tuple[Region, ...] = (),
        **properties: Attribute,
    ) -> None:
        self._out.append(Operation(name, operands, (), properties, regions))

    def _objects(self, name: str) -> _Objects:
        return self._held.get(name, _Objects())

    def _port(self, name: str) -> Integer:
        return Integer(_PRODUCE if self._design.fifo(name).producer == self._worker.tile else _CONSUME)
