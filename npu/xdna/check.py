"""Whether a design fits the hardware: every limit that can be known without a toolchain, as a rule with a name.

What passes here can still fail on silicon: code size, routing and bank conflicts are not known before the vendor's
tools have run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from npu.xdna.design import (
    Acquire,
    Await,
    Block,
    Call,
    Design,
    Fifo,
    Pattern,
    Release,
    Sequence,
    Start,
    Tile,
    walk,
)
from npu.xdna.programs import WORD, Program
from npu.xdna.target import NPU1, Kind, Target

_CALL_FRAME = 32  # bytes of stack that the core's main program needs beside its deepest kernel
_LOCKS_PER_END = 2  # of a fifo: one counts what is full, the other what is empty


@dataclass(frozen=True)
class Violation:
    """A limit that a design breaks."""

    rule: str  # the rule's name
    where: str  # tile, fifo, worker or sequence
    what: str  # what is too much, and how much there is

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.rule})"


Rule = Callable[[Design, Target], Iterator[tuple[str, str]]]


def check(design: Design, target: Target = NPU1) -> tuple[Violation, ...]:
    """All limits the design breaks; none where it fits. Later rules are not asked while names or places are wrong."""
    for rules in (_PLACES, _LIMITS):
        found = tuple(
            Violation(rule.__name__.strip("_"), where, what)
            for rule in rules
            for where, what in rule(design, target)
        )
        if found:
            return found
    return ()


# places and names


def _names(design: Design, _: Target) -> Iterator[tuple[str, str]]:
    """Names are unique, and those that are used exist."""
    kinds = {
        "fifo": [fifo.name for fifo in design.fifos],
        "function": [function.name for function in design.functions],
        "sequence": [sequence.name for sequence in design.sequences],
    }
    for kind, names in kinds.items():
        for name, times in Counter(names).items():
            if times > 1:
                yield name, f"{times} times the name of a {kind}"
    fifos = {fifo.name for fifo in design.fifos}
    functions = {function.name for function in design.functions}
    for link in design.links:
        for name in {*link.sources, *link.targets} - fifos:
            yield name, "a link names this fifo, and there is none"
    for worker in design.workers:
        for step in walk(worker.body):
            if isinstance(step, Acquire | Release) and step.fifo not in fifos:
                yield _at(worker.tile), f"its program names the fifo {step.fifo}, and there is none"
            if isinstance(step, Call) and step.function not in functions:
                yield _at(worker.tile), f"its program calls {step.function}, and there is no such function"
    for sequence in design.sequences:
        for move in sequence.steps:
            if move.fifo not in fifos:
                yield sequence.name, f"it moves data of the fifo {move.fifo}, and there is none"
            elif isinstance(move, Start) and move.argument not in sequence.arguments:
                yield sequence.name, f"it moves the argument {move.argument}, and there is none"


def _tiles(design: Design, target: Target) -> Iterator[tuple[str, str]]:
    """Tiles lie in the array; programs run on cores, one on each; fifos have two ends."""
    for tile in design.tiles():
        if not (0 <= tile.column < target.columns and 0 <= tile.row < target.rows):
            yield _at(tile), f"{target.name} has {target.columns} columns and {target.rows} rows"
    for tile, programs in Counter(worker.tile for worker in design.workers).items():
        if programs > 1:
            yield _at(tile), f"{programs} programs on one core"
        if tile.row < 2:
            yield _at(tile), "only cores run programs"
    for fifo in design.fifos:
        if not fifo.consumers:
            yield fifo.name, "nobody consumes it"
        if fifo.depth < 1:
            yield fifo.name, f"a depth of {fifo.depth}"


_PLACES: tuple[Rule, ...] = (_names, _tiles)

# limits


def _links(design: Design, target: Target) -> Iterator[tuple[str, str]]:
    """A link joins fifos that meet in one memory tile, and its parts tile the larger object."""
    for link in design.links:
        where = f"link {'+'.join(link.sources)} to {'+'.join(link.targets)}"
        sources, targets = ([design.fifo(name) for name in side] for side in (link.sources, link.targets))
        if len(sources) != 1 and len(targets) != 1:
            yield where, "several to several"
            continue
        meeting = {tile for fifo in sources for tile in fifo.consumers} | {fifo.producer for fifo in targets}
        if len(meeting) != 1 or target.kind(next(iter(meeting)).row) is not Kind.MEMORY:
            yield where, "its fifos do not meet in one memory tile"
        parts, big = (targets, sources[0]) if len(sources) == 1 else (sources, targets[0])
        if len({fifo.block.element for fifo in (*parts, big)}) != 1:
            yield where, "elements of different kinds"
        offsets = link.offsets or (0,)
        spans = sorted((start, start + part.block.count) for start, part in zip(offsets, parts, strict=False))
        tiled = all(before[1] == after[0] for before, after in pairwise(spans))
        if len(offsets) != len(parts) or not tiled or spans[0][0] != 0 or spans[-1][1] != big.block.count:
            yield where, f"its parts do not tile the {big.block.count} elements of {big.name}"


def _memory(design: Design, target: Target) -> Iterator[tuple[str, str]]:
    """What a tile holds fits its memory: fifos at both ends, and on cores stack, buffers and tables."""
    workers = {worker.tile: worker for worker in design.workers}
    for tile in design.tiles():
        limit = target.limits[target.kind(tile.row)].memory
        if not limit:
            continue
        used = sum(fifo.depth * fifo.block.bytes for fifo in _stored(design, tile))
        if worker := workers.get(tile):
            used += worker.stack
            used += sum(block.bytes for block in worker.locals.values())
            used += sum(block.bytes for block, _ in worker.tables.values())
        if used > limit:
            yield _at(tile), f"{used} of {limit} bytes of data memory"


def _stored(design: Design, tile: Tile) -> list[Fifo]:
    """The fifos whose objects lie in a tile; of linked ones only the larger side, which the other is a part of."""
    shared: set[str] = set()
    for link in design.links:
        shared.update(link.targets if len(link.sources) == 1 else link.sources)
    return [
        fifo
        for fifo in design.fifos
        if tile in (fifo.producer, *fifo.consumers) and not (tile.row == 1 and fifo.name in shared)
    ]


def _channels(design: Design, target: Target) -> Iterator[tuple[str, str]]:
    """Every fifo takes a DMA channel at each of its ends."""
    for tile in design.tiles():
        limits = target.limits[target.kind(tile.row)]
        inwards = sum(tile in fifo.consumers for fifo in design.fifos)
        outwards = sum(tile == fifo.producer for fifo in design.fifos)
        if inwards > limits.channels_in:
            yield _at(tile), f"{inwards} of {limits.channels_in} DMA channels into it"
        if outwards > limits.channels_out:
            yield _at(tile), f"{outwards} of {limits.channels_out} DMA channels out of it"


def _descriptors(design: Design, target: Target) -> Iterator[tuple[str, str]]:
    """In cores and memory tiles each object of a fifo has a descriptor, or each part of one, and each end two locks."""
    for tile in design.tiles():
        kind = target.kind(tile.row)
        if kind is Kind.SHIM:
            continue
        limits = target.limits[kind]
        ends = [fifo for fifo in design.fifos for end in (fifo.producer, *fifo.consumers) if end == tile]
        if (used := sum(_described(design, fifo, kind) for fifo in ends)) > limits.descriptors:
            yield _at(tile), f"{used} of {limits.descriptors} buffer descriptors"
        if (used := _LOCKS_PER_END * len(ends)) > limits.locks:
            yield _at(tile), f"{used} of {limits.locks} locks"


def _described(design: Design, fifo: Fifo, kind: Kind) -> int:
    """Descriptors at an end. Linked fifos share the objects of the larger, whose DMA goes from part to part."""
    for link in design.links if kind is Kind.MEMORY else ():
        if fifo.name in (*link.sources, *link.targets):
            larger = link.sources[0] if len(link.sources) == 1 else link.targets[0]
            parts = max(len(link.sources), len(link.targets)) if fifo.name == larger else 1
            return design.fifo(larger).depth * parts
    return fifo.depth


def _live_descriptors(design: Design, target: Target) -> Iterator[tuple[str, str]]:
    """A shim has only so many transfers under way before some are awaited."""
    limit = target.limits[Kind.SHIM].descriptors
    for sequence in design.sequences:
        live: dict[str, int] = {}
        for step in sequence.steps:
            if isinstance(step, Await):
                live[step.fifo] = min(live.get(step.fifo, 0), step.but)
                continue
            live[step.fifo] = live.get(step.fifo, 0) + 1
            tile = _shim(design.fifo(step.fifo))
            used = sum(n for name, n in live.items() if _shim(design.fifo(name)) == tile)
            if tile is not None and used > limit:
                yield f"{sequence.name} at {_at(tile)}", f"{used} of {limit} transfers under way"
                break


def _queues(design: Design, target: Target) -> Iterator[tuple[str, str]]:
    """A shim's channel has a queue, and nobody is told when it overflows: the array then waits for ever."""
    for sequence in design.sequences:
        live: Counter[str] = Counter()
        for step in sequence.steps:
            if isinstance(step, Await):
                live[step.fifo] = min(live[step.fifo], step.but)
                continue
            live[step.fifo] += 1
            if live[step.fifo] > target.queued:
                yield (
                    f"{sequence.name}, {step.fifo}",
                    f"{live[step.fifo]} of {target.queued} transfers queued",
                )
                break


def _patterns(design: Design, target: Target) -> Iterator[tuple[str, str]]:
    """Descriptors can say how the DMAs of fifos visit their objects, and they visit all of each once."""
    for fifo in design.fifos:
        ends = [(fifo.sent, fifo.producer), *((fifo.received, tile) for tile in fifo.consumers)]
        for pattern, tile in ends:
            kind = target.kind(tile.row)
            if pattern is None or (kind is Kind.SHIM):
                if pattern is not None:
                    yield fifo.name, f"{_at(tile)} is a shim: its patterns are those of the sequence"
                continue
            where = f"{fifo.name} at {_at(tile)}"
            yield from ((where, what) for what in _unsayable(pattern, fifo.block, kind, target))
            if pattern.count != fifo.block.count:
                yield where, f"visits {pattern.count} elements of {fifo.block.count}"
        if fifo.block.bytes % target.granularity:
            yield fifo.name, f"objects of {fifo.block.bytes} bytes, no multiple of {target.granularity}"


def _transfers(design: Design, target: Target) -> Iterator[tuple[str, str]]:
    """Sequences move whole objects, between a shim and an argument of the same elements."""
    for sequence in design.sequences:
        for step in sequence.steps:
            fifo = design.fifo(step.fifo)
            where = f"{sequence.name}, {step.fifo}"
            if _shim(fifo) is None:
                yield where, "neither end of it is a shim"
            elif isinstance(step, Start):
                yield from ((where, what) for what in _transfer(sequence, step, fifo, target))


def _transfer(sequence: Sequence, step: Start, fifo: Fifo, target: Target) -> Iterator[str]:
    block = sequence.arguments[step.argument]
    if block.element is not fifo.block.element:
        yield f"{step.argument} holds {block.element.mlir}, the fifo {fifo.block.element.mlir}"
    yield from _unsayable(step.pattern, block, Kind.SHIM, target)
    low, high = step.pattern.reach
    if low < 0 or high + max(0, (step.repeat - 1) * step.step) > block.count:
        yield f"it visits elements outside the {block.count} of {step.argument}"
    if step.repeat * step.pattern.count % fifo.block.count:
        yield f"{step.repeat * step.pattern.count} elements are no whole number of objects of {fifo.block.count}"
    if step.step * block.element.bytes % target.granularity:
        yield f"a step of {step.step} elements is no whole number of words"
    fields = target.limits[Kind.SHIM].fields
    if step.repeat > fields.iterations:
        yield f"{step.repeat} iterations of {fields.iterations}"
    if step.repeat > 1 and abs(step.step) * block.element.bytes // WORD > 1 << fields.step_bits:
        yield f"iterations {step.step} elements apart, the field has {fields.step_bits} bits"


def _unsayable(pattern: Pattern, block: Block, kind: Kind, target: Target) -> Iterator[str]:
    """Why a descriptor cannot say this pattern."""
    size = block.element.bytes
    fields = target.limits[kind].fields
    loops = [
        (n, stride) for n, stride in zip(pattern.sizes, pattern.strides, strict=True) if n != 1 or stride == 1
    ]
    low, high = pattern.reach
    if kind is not Kind.SHIM and (low < 0 or high > block.count):
        yield f"visits elements outside the {block.count} of the object"
    if pattern.count * size % target.granularity or pattern.offset * size % target.granularity:
        yield f"begins or ends within a word of {target.granularity} bytes"
    if pattern.count * size // WORD >= 1 << fields.length_bits:
        yield f"{pattern.count * size // WORD} words, the field has {fields.length_bits} bits"
    if not loops:
        return
    inner, stride = loops[-1]
    if size < WORD and (stride != 1 or inner * size % WORD):
        yield f"its innermost loop is over {inner} elements {stride} apart: no whole words"
    outer = loops[:-1]
    if len(loops) > fields.dimensions:
        yield f"{len(loops)} loops of {fields.dimensions}"
    for n, apart in outer:
        if apart * size % WORD:
            yield f"a stride of {apart} elements is no whole number of words"
        if n > 1 << fields.wrap_bits:
            yield f"a loop over {n}, the field has {fields.wrap_bits} bits"
        if abs(apart) * size // WORD > 1 << fields.step_bits:
            yield f"a stride of {apart} elements, the field has {fields.step_bits} bits"
    if outer and inner * size // WORD > 1 << fields.wrap_bits:
        yield f"an inner loop over {inner * size // WORD} words, the field has {fields.wrap_bits} bits"


def _stacks(design: Design, _: Target) -> Iterator[tuple[str, str]]:
    """The stack reserved is that of the deepest kernel and the program's own: an overflow would go unnoticed."""
    for worker in design.workers:
        called = {step.function for step in walk(worker.body) if isinstance(step, Call)}
        needed = _CALL_FRAME + max((design.function(name).stack for name in called), default=0)
        if worker.stack < needed:
            yield _at(worker.tile), f"{worker.stack} bytes of stack, {needed} are needed"


def _programs(design: Design, _: Target) -> Iterator[tuple[str, str]]:
    """Programs take and give back: no more than a fifo is deep, and as much in every round of a loop."""
    for worker in design.workers:
        yield from ((_at(worker.tile), what) for what in Program(design, worker).faults())


_LIMITS: tuple[Rule, ...] = (
    _links,
    _memory,
    _channels,
    _descriptors,
    _live_descriptors,
    _queues,
    _patterns,
    _transfers,
    _stacks,
    _programs,
)


def _shim(fifo: Fifo) -> Tile | None:
    """The end of it that is a shim."""
    return next((tile for tile in (fifo.producer, *fifo.consumers) if tile.row == 0), None)


def _at(tile: Tile) -> str:
    return f"tile ({tile.column}, {tile.row})"
