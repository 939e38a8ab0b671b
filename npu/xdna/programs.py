"""What a core's program takes and gives back, followed without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from npu.xdna.design import (
    Acquire,
    Block,
    Call,
    Choose,
    Design,
    Held,
    Local,
    Release,
    Repeat,
    Step,
    Word,
    Worker,
)

WORD = 4  # bytes, what cores and descriptors count in


class Program:
    """One walk through a program, counting what it holds."""

    def __init__(self, design: Design, worker: Worker) -> None:
        self._design = design
        self._worker = worker

    def faults(self) -> Iterator[str]:
        """What is wrong with it, in a few words each."""
        held: Counter[str] = Counter()
        yield from self._run(self._worker.body, held)
        yield from (f"ends holding {n} of {name}" for name, n in held.items() if n)

    def _run(self, steps: tuple[Step, ...], held: Counter[str]) -> Iterator[str]:
        for step in steps:
            match step:
                case Acquire(name, count):
                    held[name] += count
                    fifo = self._design.fifo(name)
                    if self._worker.tile not in (fifo.producer, *fifo.consumers):
                        yield f"acquires of {name}, which does not lead here"
                    if held[name] > fifo.depth:
                        yield f"holds {held[name]} of {name}, which is {fifo.depth} deep"
                case Release(name, count):
                    if held[name] < count:
                        yield f"releases {count} of {name} and holds {held[name]}"
                    held[name] = max(0, held[name] - count)
                case Call(name, _):
                    yield from self._call(step, held)
                case Repeat(times, body):
                    if isinstance(times, Word):
                        yield from self._word(times, held)
                    yield from self._balanced(body, held, "a round of a loop")
                case Choose(value, bodies):
                    yield from self._word(value, held)
                    for body in bodies.values():
                        yield from self._balanced(body, held, "a branch")

    def _balanced(self, body: tuple[Step, ...], held: Counter[str], what: str) -> Iterator[str]:
        before = +held
        after = Counter(held)
        yield from self._run(body, after)
        if +after != before:
            names = sorted(set((after - before) + (before - after)))
            yield f"{what} ends with more or less of {', '.join(names)} than it began with"

    def _word(self, word: Word, held: Counter[str]) -> Iterator[str]:
        block = self._worker.locals.get(word.source)
        if block is None and not held[word.source]:
            yield f"reads a word of {word.source} without holding any"
        elif word.at >= (block or self._design.fifo(word.source).block).bytes // WORD:
            yield f"reads word {word.at} of {word.source}, beyond its end"

    def _call(self, call: Call, held: Counter[str]) -> Iterator[str]:
        function = self._design.function(call.function)
        if len(call.arguments) != len(function.arguments):
            yield f"{len(call.arguments)} arguments for {call.function}, which takes {len(function.arguments)}"
            return
        for at, (given, wanted) in enumerate(zip(call.arguments, function.arguments, strict=True)):
            block: Block | None = None
            match given:
                case Held(name, index):
                    block = self._design.fifo(name).block
                    if index >= held[name]:
                        yield f"passes object {index} of {name} to {call.function} and holds {held[name]}"
                case Local(name):
                    table = self._worker.tables.get(name)
                    block = table[0] if table else self._worker.locals.get(name)
                    if block is None:
                        yield f"passes the buffer {name} to {call.function}, and there is none"
                        continue
                case Word():
                    yield from self._word(given, held)
            if block != wanted:
                yield f"argument {at} of {call.function} is {_named(block)}, {_named(wanted)} is wanted"


def _named(block: Block | None) -> str:
    if block is None:
        return "an integer"
    return f"{'x'.join(map(str, block.shape))}x{block.element.mlir}"
