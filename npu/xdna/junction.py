"""Where a stage of a sequence ends and the next begins.

A stage needs the results of the one before, but not for all that it moves: weights and headers were there from the
start, and what is older than those results. Such transfers are started before they are awaited, so that the array waits
only for the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from npu.xdna.design import Await, Stage, Start
from npu.xdna.target import NPU1

_ROWS, _COLUMNS, _RESULTS = "A", "B", "C"  # begin the names of an overlay's fifos
_GIVEN = ("headers", "constants")  # that no stage writes


def joined(stages: Iterable[Stage]) -> tuple[Start | Await, ...]:
    """Steps of stages one after the other."""
    steps: list[Start | Await] = []
    before: Stage | None = None
    for stage in stages:
        ahead, others = parted(before, stage)
        started = Counter(start.fifo for start in ahead)
        steps += room(before, stage)
        steps += ahead
        steps += [Await(name, started[name]) for name in _ends(before)]
        steps += others
        steps += stage.steps[stage.first : _end(stage)]
        before = stage
    return (*steps, *(Await(name) for name in _ends(before)))


def parted(before: Stage | None, stage: Stage) -> tuple[list[Start], list[Start]]:
    """A stage's first transfers: those that need no result of the one before, and the others in the order in which
    cores wait for them.

    Transfers of results need none where cores wait for rows before they have any.
    """
    group = [step for step in stage.steps[: stage.first] if isinstance(step, Start)]
    if before is None:
        return [], group
    written = [step for step in before.steps if isinstance(step, Start) and step.fifo.startswith(_RESULTS)]
    ahead: list[Start] = []
    others: dict[str, list[Start]] = {}  # by fifo, in their order
    for start in group:
        if start.fifo not in others and _is_there(start, written):
            ahead.append(start)
        else:
            others.setdefault(start.fifo, []).append(start)
    if any(name.startswith(_ROWS) for name in others):
        results = [name for name in others if name.startswith(_RESULTS)]
        ahead += [start for name in results for start in others.pop(name)]
    turns = [
        (not name.startswith(_ROWS), turn, start)
        for name in others
        for turn, start in enumerate(others[name])
    ]
    return ahead, [start for *_, start in sorted(turns, key=lambda each: each[:2])]


def room(before: Stage | None, stage: Stage) -> tuple[Await, ...]:
    """What is awaited because queues are too full of one stage for what the next starts ahead."""
    if before is None:
        return ()
    live: Counter[str] = Counter()
    for step in before.steps[: _end(before)]:
        live[step.fifo] = live[step.fifo] + 1 if isinstance(step, Start) else min(live[step.fifo], step.but)
    ahead = sorted(Counter(start.fifo for start in parted(before, stage)[0]).items())
    return tuple(Await(name, NPU1.queued - n) for name, n in ahead if live[name] + n > NPU1.queued)


def _is_there(start: Start, written: list[Start]) -> bool:
    """Whether what it moves to cores is none of the results. Rows always count as such."""
    if start.argument in _GIVEN:
        return True
    return start.fifo.startswith(_COLUMNS) and not any(_overlap(start, each) for each in written)


def _overlap(one: Start, other: Start) -> bool:
    """Whether both may move a value: one lies between the first and the last of the other."""
    (low, high), (from_, to) = _reach(one), _reach(other)
    return one.argument == other.argument and low < to and from_ < high


def _reach(start: Start) -> tuple[int, int]:
    low, high = start.pattern.reach
    further = (start.repeat - 1) * start.step
    return low + min(0, further), high + max(0, further)


def _end(stage: Stage) -> int:
    """The steps before everything is awaited."""
    return max((at for at, step in enumerate(stage.steps) if isinstance(step, Start)), default=-1) + 1


def _ends(stage: Stage | None) -> list[str]:
    """What is awaited at the end, in its order."""
    return [] if stage is None else [step.fifo for step in stage.steps[_end(stage) :]]
