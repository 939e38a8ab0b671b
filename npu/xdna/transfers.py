"""What a sequence has the shims move, as operations of MLIR: tasks of their DMAs.

The tasks of a fifo are done in the order in which they are started, so an `Await` waits for the last one that is to
be done, which alone tells when it is, and frees the descriptors of those before it.
"""

from __future__ import annotations

from typing import TypeVar

from npu.xdna.core_program import memref
from npu.xdna.design import Pattern, Sequence, Start
from npu.xdna.operations import Attribute, Integer, Integers, Operation, Region, Symbol, Value
from streaming.errors import ModelError

_OPERAND_SEGMENTS = Integers(
    (1, 0, 0, 0, 0, 0), "i32"
)  # of aie.dma_bd: memory, nothing computed; six as in xdsl-aie's tests
T = TypeVar("T")

_LOOPS = 4  # of a task, the outermost being its repetition


def sequence(of: Sequence) -> Operation:
    """One sequence; ModelError where a task cannot say a pattern."""
    arguments = {name: Value(f"arg_{name}", memref(block)) for name, block in of.arguments.items()}
    region = Region(_tasks(of, arguments), tuple(arguments.values()))
    return Operation("aie.runtime_sequence", properties={"sym_name": of.name}, regions=(region,))


def loops(pattern: Pattern, what: str) -> tuple[tuple[int, int], ...]:
    """(size, stride) of its loops, the outermost first, none where it visits what lies one after the other.

    The last stride is 1, as the dialect wants it. ModelError names `what` where there is a stride below 0.
    """
    if any(stride < 0 for stride in pattern.strides):
        raise ModelError(f"{what}: a descriptor has no strides below 0, its pattern has {pattern.strides}")
    found = [(size, stride) for size, stride in zip(pattern.sizes, pattern.strides, strict=True) if size != 1]
    if not found or found[-1][1] != 1:
        found.append((1, 1))
    return tuple(found) if len(found) > 1 else ()


def _tasks(of: Sequence, arguments: dict[str, Value]) -> tuple[Operation, ...]:
    out: list[Operation] = []
    awaited = _awaited(of)
    under_way: dict[str, list[Value]] = {}
    for at, step in enumerate(of.steps):
        if isinstance(step, Start):
            task = Value(f"task_{at}", "index")
            under_way.setdefault(step.fifo, []).append(task)
            out += [
                _task(of, step, task, arguments[step.argument], at in awaited),
                Operation("aiex.dma_start_task", (task,)),
            ]
        else:
            done, under_way[step.fifo] = _parted(under_way.get(step.fifo, []), step.but)
            out += [Operation("aiex.dma_await_task", (task,)) for task in done[-1:]]
            out += [Operation("aiex.dma_free_task", (task,)) for task in done[:-1]]
    return tuple(out)


def _awaited(of: Sequence) -> set[int]:
    """The steps that somebody waits for: the last of those that are to be done."""
    under_way: dict[str, list[int]] = {}
    found: set[int] = set()
    for at, step in enumerate(of.steps):
        if isinstance(step, Start):
            under_way.setdefault(step.fifo, []).append(at)
        else:
            done, under_way[step.fifo] = _parted(under_way.get(step.fifo, []), step.but)
            found |= set(done[-1:])
    return found


def _parted(started: list[T], but: int) -> tuple[list[T], list[T]]:
    """What is to be done, and the last ones."""
    done = max(len(started) - but, 0)
    return started[:done], started[done:]


def _task(of: Sequence, step: Start, task: Value, memory: Value, awaited: bool) -> Operation:
    pattern = step.pattern
    order = loops(pattern, f"{of.name}, {step.fifo}")
    if step.repeat > 1:
        order = order or ((pattern.count, 1),)
        order = ((step.repeat, step.step), *((1, 0),) * (_LOOPS - 1 - len(order)), *order)
    if len(order) > _LOOPS or (step.repeat == 1 and len(order) == _LOOPS):
        raise ModelError(f"{of.name}, {step.fifo}: {pattern.sizes} are more loops than a task has")
    described: dict[str, Attribute] = {
        "operandSegmentSizes": _OPERAND_SEGMENTS,
        "static_offset": Integer(pattern.offset),
        "static_len": Integer(pattern.count),  # of one repetition
    }
    if order:
        sizes, strides = zip(*order, strict=True)
        described |= {"static_sizes": Integers(sizes), "static_strides": Integers(strides)}
    configured: dict[str, Attribute] = {"alloc": Symbol(step.fifo)}
    if awaited:
        configured["issue_token"] = True
    if step.repeat > 1:
        configured["repeat_count"] = Integer(step.repeat - 1)  # how often again
    body = Region((Operation("aie.dma_bd", (memory,), (), described), Operation("aie.end")))
    return Operation("aiex.dma_configure_task_for", (), (task,), configured, (body,))
