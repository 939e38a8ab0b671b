"""Designs as MLIR of the AIE dialect, for the release of mlir-aie that `toolchain` names: 1.4.4.

There are two forms of one tree of operations: the custom one for people, and the generic one, which is verified in the
tests by a small model of the dialect (`dialect.verifier`). **Neither was ever read by mlir-aie's own tools**: what is
verified is that names, types, ports, places and descriptors agree, as the release documents them.

The dialect changes from release to release; what this one wants and others do not:

- `aie.runtime_sequence` is of the dialect aie (of aiex until #2708), its tasks' descriptors say `offset = .. len = ..
  sizes = [..] strides = [..]` (positions before #3306), and a fourth, outermost loop is the task's repetition.
- `aie.objectfifo.acquire` gives the objects themselves (a subview to be opened before).
- `link_with` belongs to the declarations of kernels (to cores before), and names an object file.
- The depth of a fifo is a list, for its producer and each of its consumers: as a number it would be taken as advice.
- A core that fills a fifo gets one object more than it acquires at most (or one, where it has one), whatever its depth.
- Where a link joins or splits objects, descriptors are made part by part, and the order of visits is that of one part.

Sources: mlir-aie's pages AIEDialect, AIEXDialect and ObjectFifoLowering of this release; its pass
`AIEObjectFifoSplit.cpp` for depths and parts of links, `AIEAssignRuntimeSequenceBDIDs.cpp` for tasks; the tests of
xdsl-aie, which send generic text through mlir-aie, for the names and types of properties.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

from npu.xdna.assembly import custom_form
from npu.xdna.core_program import CoreProgram, memref, tensor
from npu.xdna.design import Block, Design, Element, Fifo, Function, Link, Pattern, Tile, Worker
from npu.xdna.operations import (
    Attribute,
    Dense,
    Integer,
    Loops,
    LoopsOfEach,
    Operation,
    Region,
    Symbol,
    Type,
    Value,
    generic_form,
)
from npu.xdna.transfers import loops, sequence
from streaming.errors import ModelError

DEVICE = "main"  # the name that its tools look for
_NPU1 = 4  # of the enumeration AIEDevice


def text(design: Design, generic: bool = False) -> str:
    """A design as MLIR, in its custom or its generic form; ModelError where the dialect cannot say it."""
    form = generic_form if generic else custom_form
    return "\n".join(form(module(design))) + "\n"


def module(design: Design) -> Operation:
    """The tree of operations; ModelError where the dialect cannot say it."""
    for name in _names(design):
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise ModelError(f"{name} is no name for MLIR: use letters, digits and underscores")
    tiles = {tile: Value(f"tile_{tile.column}_{tile.row}", "index") for tile in design.tiles()}
    operations = [_tile(tile, value) for tile, value in tiles.items()]
    operations += [_fifo(design, fifo, tiles) for fifo in design.fifos]
    operations += [_link(design, link) for link in design.links]
    operations += [_function(function) for function in design.functions]
    for worker in design.workers:
        operations += _core(design, worker, tiles[worker.tile])
    operations += [sequence(each) for each in design.sequences]
    device = Operation(
        "aie.device",
        properties={"device": Integer(_NPU1), "sym_name": DEVICE},
        regions=(Region((*operations, Operation("aie.end"))),),
    )
    return Operation("builtin.module", properties={"sym_name": design.name}, regions=(Region((device,)),))


def _names(design: Design) -> Iterator[str]:
    yield design.name
    yield from (fifo.name for fifo in design.fifos)
    yield from (function.name for function in design.functions)
    for worker in design.workers:
        yield from (*worker.locals, *worker.tables)
    for each in design.sequences:
        yield from (each.name, *each.arguments)


def _tile(tile: Tile, value: Value) -> Operation:
    return Operation("aie.tile", (), (value,), {"col": Integer(tile.column), "row": Integer(tile.row)})


def _fifo(design: Design, fifo: Fifo, tiles: dict[Tile, Value]) -> Operation:
    sent, received = _parts_of(design, fifo)
    order = _order(fifo, fifo.received, received)
    properties: dict[str, Attribute] = {
        "sym_name": fifo.name,
        "elemNumber": (fifo.depth,) * (1 + len(fifo.consumers)),
        "elemType": Type(f"!aie.objectfifo<{memref(fifo.block)}>"),
        "dimensionsToStream": _order(fifo, fifo.sent, sent),
        "dimensionsFromStreamPerConsumer": LoopsOfEach((order,) * len(fifo.consumers)),
        "disable_synchronization": False,
        "plio": False,
        "via_DMA": False,
    }
    return Operation(
        "aie.objectfifo", tuple(tiles[end] for end in (fifo.producer, *fifo.consumers)), (), properties
    )


def _parts_of(design: Design, fifo: Fifo) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
    """The parts of its objects that its producer's DMA sends, and those its consumer's writes, one after the other."""
    sent: tuple[Block, ...] = (fifo.block,)
    received = sent
    for link in design.links:
        if link.targets == (fifo.name,):
            sent = tuple(design.fifo(name).block for name in link.sources)
        if link.sources == (fifo.name,):
            received = tuple(design.fifo(name).block for name in link.targets)
    return sent, received


def _order(fifo: Fifo, pattern: Pattern | None, parts: tuple[Block, ...]) -> Loops:
    """How a DMA visits one part of an object; ModelError where it does not visit part after part."""
    if pattern is None:
        return Loops()
    if pattern.offset:
        raise ModelError(f"{fifo.name}: the order of a fifo begins with the first element, its pattern later")
    if len(parts) == 1:
        return Loops(loops(pattern, fifo.name))
    (size, stride), part = (pattern.sizes[0], pattern.strides[0]), parts[0]
    once = Pattern((size // len(parts), *pattern.sizes[1:]), pattern.strides)
    if (
        len(set(parts)) > 1
        or size % len(parts)
        or once.sizes[0] * stride != part.count
        or once.reach[1] > part.count
    ):
        raise ModelError(
            f"{fifo.name}: its pattern does not visit {len(parts)} equal parts one after the other"
        )
    return Loops(loops(once, fifo.name))


def _link(design: Design, link: Link) -> Operation:
    """Parts in the order in which they lie."""
    joined, split = len(link.sources) > 1, len(link.targets) > 1
    parts = link.sources if joined else link.targets
    placed = sorted(zip(link.offsets, parts, strict=True)) if joined or split else []
    offsets, names = tuple(at for at, _ in placed), tuple(Symbol(name) for _, name in placed)
    properties: dict[str, Attribute] = {
        "fifoIns": names if joined else tuple(map(Symbol, link.sources)),
        "fifoOuts": names if split else tuple(map(Symbol, link.targets)),
        "src_offsets": offsets if joined else (),
        "dst_offsets": offsets if split else (),
    }
    return Operation("aie.objectfifo.link", properties=properties)


def _function(function: Function) -> Operation:
    takes = ", ".join("i32" if block is None else memref(block) for block in function.arguments)
    properties: dict[str, Attribute] = {
        "sym_name": function.name,
        "function_type": Type(f"({takes}) -> ()"),
        "sym_visibility": "private",
    }
    linked: dict[str, Attribute] = {"link_with": object_file(function)}
    return Operation("func.func", properties=properties, regions=(Region(),), attributes=linked)


def object_file(function: Function) -> str:
    """What a kernel is compiled to: the name of its source, with another ending."""
    return str(PurePath(function.source).with_suffix(".o"))


def _core(design: Design, worker: Worker, tile: Value) -> list[Operation]:
    """A core with its memory; ModelError where a fifo that it fills would become another."""
    at = f"{worker.tile.column}_{worker.tile.row}"
    contents = {name: (block, _zeros(block)) for name, block in worker.locals.items()}
    contents |= {name: (block, f'"0x{data.hex().upper()}"') for name, (block, data) in worker.tables.items()}
    buffers = {name: Value(f"{name}_{at}", memref(block)) for name, (block, _) in contents.items()}
    operations = [
        Operation(
            "aie.buffer",
            (tile,),
            (buffers[name],),
            {"sym_name": buffers[name].name, "initial_value": Dense(held, tensor(block))},
        )
        for name, (block, held) in contents.items()
    ]
    program = CoreProgram(design, worker, buffers)
    region = program.region()
    for name, most in program.most.items():
        fifo = design.fifo(name)
        filled = fifo.producer == worker.tile and any(end.row < 2 for end in fifo.consumers)
        if filled and fifo.depth != (given := most + 1 if fifo.depth > 1 else most):
            raise ModelError(f"{name} is {fifo.depth} deep, and mlir-aie would make {given} objects of it")
    properties: dict[str, Attribute] = {
        "stack_size": Integer(worker.stack),
        "dynamic_objfifo_lowering": True,  # loops stay loops: unrolled they would not fit the program memory
    }
    core = Operation("aie.core", (tile,), (Value(f"core_{at}", "index"),), properties, (region,))
    return [*operations, core]


def _zeros(block: Block) -> str:
    return "0.0" if block.element in (Element.BF16, Element.F32) else "0"
