"""Where a stage of a sequence ends and the next begins.

A stage needs the results of the one before, but not for all that it moves: weights and headers were there from the
start. Such transfers are started before those results are awaited, so that the array waits only for the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from npu.xdna.design import Await, Stage, Start
from npu.xdna.target import NPU1


def joined(stages: Iterable[Stage]) -> tuple[Start | Await, ...]:
    """Steps of stages one after the other."""
    steps: list[Start | Await] = []
    before: Stage | None = None
    for stage in stages:
        ahead = _ahead(stage)
        steps += room(before, stage)
        steps += stage.steps[: stage.ahead]
        steps += [Await(name, ahead[name]) for name in _ends(before)]
        steps += stage.steps[stage.ahead : _end(stage)]
        before = stage
    return (*steps, *(Await(name) for name in _ends(before)))


def room(before: Stage | None, stage: Stage) -> tuple[Await, ...]:
    """What is awaited because queues are too full of one stage for what the next starts ahead."""
    if before is None:
        return ()
    live: Counter[str] = Counter()
    for step in before.steps[: _end(before)]:
        live[step.fifo] = live[step.fifo] + 1 if isinstance(step, Start) else min(live[step.fifo], step.but)
    ahead = sorted(_ahead(stage).items())
    return tuple(Await(name, NPU1.queued - n) for name, n in ahead if live[name] + n > NPU1.queued)


def _ahead(stage: Stage) -> Counter[str]:
    """Transfers of each fifo."""
    return Counter(step.fifo for step in stage.steps[: stage.ahead])


def _end(stage: Stage) -> int:
    """The steps before everything is awaited."""
    return max((at for at, step in enumerate(stage.steps) if isinstance(step, Start)), default=-1) + 1


def _ends(stage: Stage | None) -> list[str]:
    """What is awaited at the end, in its order."""
    return [] if stage is None else [step.fifo for step in stage.steps[_end(stage) :]]
