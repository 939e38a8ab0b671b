"""How often each core calls each kernel, counted while the emulated array runs: what the stages of a sequence are held
to, since the cost model believes what they say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from npu.xdna.array import Array, Kernels
from npu.xdna.design import Call, Choose, Design, Repeat, Stage, Step, Tile, Worker, sequence_of
from npu.xdna.design import Sequence as HostSequence
from npu.xdna.rings import Bytes


class _Counting:
    """Kernels whose names say which core calls them."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self.calls: Counter[str] = Counter()

    def call(self, name: str, arguments: Sequence[Bytes | int]) -> None:
        """Counts it, and runs the kernel of that name without the core."""
        self.calls[name] += 1
        self._kernels.call(name.split("@")[0], arguments)


def counted(
    design: Design,
    sequence: HostSequence,
    stages: Sequence[Stage],
    arguments: Mapping[str, Bytes],
    kernels: Kernels,
    seed: int = 0,
) -> tuple[Mapping[Tile, Mapping[str, int]], ...]:
    """What each core calls in each of the sequence's stages, run one after the other on the host's buffers [bytes].

    The design is that which has the sequence; its kernels are run, or others that leave headers alone and do nothing.
    """
    parts = tuple(
        sequence_of(f"{at} {stage.name}", sequence.arguments, (stage,)) for at, stage in enumerate(stages)
    )
    functions = tuple(
        replace(function, name=_of(function.name, worker.tile))
        for worker in design.workers
        for function in design.functions
    )
    workers = tuple(_named(worker) for worker in design.workers)
    counting = _Counting(kernels)
    named = replace(design, workers=workers, functions=functions, sequences=parts)
    array = Array(named, counting, seed=seed)
    found = []
    for part in parts:
        counting.calls.clear()
        array.run(part.name, arguments)
        calls = dict(counting.calls)
        found.append({worker.tile: _calls_of(worker.tile, design, calls) for worker in design.workers})
    return tuple(found)


def busiest(calls: Mapping[Tile, Mapping[str, int]]) -> dict[str, int]:
    """Of each kernel that is called at all, how often the core calls it that does so most."""
    most: dict[str, int] = {}
    for of_core in calls.values():
        for name, count in of_core.items():
            most[name] = max(most.get(name, 0), count)
    return most


def disagreements(
    design: Design,
    sequence: HostSequence,
    stages: Sequence[Stage],
    arguments: Mapping[str, Bytes],
    kernels: Kernels,
) -> list[str]:
    """A sentence for each stage that says other numbers of calls than are counted."""
    found = []
    for stage, calls in zip(stages, counted(design, sequence, stages, arguments, kernels), strict=True):
        says = {name: count for name, count in stage.calls.items() if count}
        if says != (truth := busiest(calls)):
            found.append(f"{stage.name} says that its busiest core calls {says}, and it calls {truth}")
    return found


def _calls_of(tile: Tile, design: Design, calls: Mapping[str, int]) -> Mapping[str, int]:
    names = [function.name for function in design.functions]
    return {name: calls[_of(name, tile)] for name in names if _of(name, tile) in calls}


def _of(name: str, tile: Tile) -> str:
    return f"{name}@{tile.column},{tile.row}"


def _named(worker: Worker) -> Worker:
    return replace(worker, body=_renamed(worker.body, worker.tile))


def _renamed(steps: tuple[Step, ...], tile: Tile) -> tuple[Step, ...]:
    found: list[Step] = []
    for step in steps:
        match step:
            case Call(name, operands):
                found.append(Call(_of(name, tile), operands))
            case Repeat(times, body):
                found.append(Repeat(times, _renamed(body, tile)))
            case Choose(value, bodies):
                found.append(Choose(value, {key: _renamed(body, tile) for key, body in bodies.items()}))
            case _:
                found.append(step)
    return tuple(found)
