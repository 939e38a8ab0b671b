"""What a decoder would take on the NPU, out of the stages of its passes: predicted, never measured.

All layers are alike, so one is composed, and counted as often as there are layers. Sequences are taken to be there for
just so many tokens and states as there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from npu.xdna.composition import Constants
from npu.xdna.cost import KERNELS, Estimate, Machine, StageCost, price
from npu.xdna.decoders import Crossing, Parts, Pass, crossings, passes
from npu.xdna.decoders_w8 import CrossingW8, PassW8, Size, crossings_w8, passes_w8
from npu.xdna.design import Stage
from npu.xdna.few import ROWS
from npu.xdna.forecast import Decoding, Lockstep, Precision, total
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.overlay import DEPTH, overlay
from npu.xdna.regions import LANE

_OVERLAY = overlay(dict.fromkeys(KERNELS, 0), ())  # stacks are nothing: designs are priced here, not checked
_ATTENTION = "attention_step_bf16"
_CROSS = "cross-attention"  # in the name of a stage in which rows bring no keys themselves
_LAST = "head"  # the unit after all layers
_FOURS = 4  # queries that attention passes over together, where none of them sees a key at hand
_LOOKED = 0.05  # of a call of attention, for finding out what to pass over: assumed


_AnyPass = Pass | PassW8
_AnyCrossing = Crossing | CrossingW8


@dataclass(frozen=True)
class _Composed:
    """A decoder of one layer."""

    together: Mapping[int, _AnyPass]  # by how many steps of 32 tokens each decoding has behind it
    turns: int  # passes for a token of every decoding
    alone: _AnyPass
    crossing: _AnyCrossing


class DecoderStages:
    """A decoder's, for windows in lockstep."""

    def __init__(
        self, parts: Parts, lockstep: Lockstep, constants: Constants, precision: Precision = Precision.BF16
    ) -> None:
        """precision: of weights, and of keys and values of windows."""
        one = replace(parts, layers=1)
        first, after = range(lockstep.together), range(lockstep.opening, lockstep.opening + lockstep.tokens)
        self._layers = parts.layers
        self._rounds = parts.each // (SIDE * LANE)  # of attention: four heads at a time
        self._lockstep = lockstep
        # steps of 32 tokens -> passes behind so many
        self._opened, self._often = (Counter(ceil(at / DEPTH) for at in each) for each in (first, after))
        composed = _in_bf16 if precision is Precision.BF16 else _in_eight
        self._composed = composed(one, lockstep, constants, sorted({*self._opened, *self._often}))

    def decoding(self, machine: Machine) -> Decoding:
        """On a machine."""
        lockstep, composed = self._lockstep, self._composed
        rows = ceil(lockstep.batch / composed.turns)
        priced = {steps: self._priced(each, machine, rows) for steps, each in composed.together.items()}

        def taken(often: Mapping[int, int]) -> Estimate:
            times = (total(cost.time for cost in priced[steps]).times(n) for steps, n in often.items())
            return (total(times) + machine.dispatch.times(sum(often.values()))).times(composed.turns)

        alone = total(cost.time for cost in self._priced(composed.alone, machine, 1)) + machine.dispatch
        crossing = total(cost.time for cost in self._priced(composed.crossing, machine, 0))
        return Decoding(
            crossing + machine.dispatch,
            alone.times(lockstep.alone) + taken(self._opened).times(1 / lockstep.batch),
            taken(self._often),
            alone,
            lockstep.batch,
            priced[max(priced)],
        )

    def _priced(self, each: _AnyPass | _AnyCrossing, machine: Machine, rows: int) -> tuple[StageCost, ...]:
        """Of all layers. rows: those of a pass that count."""
        composer = each.composer
        arguments = composer.arguments(composer.work)

        def priced(stage: Stage, before: Stage | None) -> StageCost:
            return price(_OVERLAY, stage, arguments, machine, self._done(stage, rows), before)

        found: list[StageCost] = []
        layer = [stage for unit, stages in composer.units.items() if unit != _LAST for stage in stages]
        before = layer[-1]  # of every layer but the first
        for unit, stages in composer.units.items():
            costs = [priced(stage, last) for last, stage in zip([before, *stages], stages, strict=False)]
            found += costs if unit == _LAST else costs * self._layers
            before = stages[-1]
        return (priced(layer[0], None), *found[1:])

    def _done(self, stage: Stage, rows: int) -> Mapping[str, float]:
        """The part of a call of attention that is done, where each row is a token of a decoding of its own."""
        calls = stage.calls.get(_ATTENTION, 0)
        if not calls:
            return {}
        own = 0 if _CROSS in stage.name else self._rounds * TILE // DEPTH
        fours = calls - own + self._rounds * ceil(min(rows, DEPTH) / _FOURS)
        fours += self._rounds * ceil(max(0, rows - DEPTH) / _FOURS)
        return {_ATTENTION: _LOOKED + (1 - _LOOKED) * fours / (calls * TILE / _FOURS)}


def _in_bf16(one: Parts, lockstep: Lockstep, constants: Constants, past: Sequence[int]) -> _Composed:
    states, batch = ceil(lockstep.states / DEPTH), lockstep.batch
    sizes = [(batch * steps, batch * states) for steps in past]
    *together, alone = passes(one, constants, [*sizes, (0, states)])
    (crossing,) = crossings(one, constants, [ceil(lockstep.states / SPAN)])
    return _Composed(dict(zip(past, together, strict=True)), 1, alone, crossing)


def _in_eight(one: Parts, lockstep: Lockstep, constants: Constants, past: Sequence[int]) -> _Composed:
    turns, blocks = ceil(lockstep.batch / ROWS), ceil(lockstep.states / TILE)
    groups = ceil(lockstep.batch / turns / SIDE) * SIDE
    sizes = [*(Size(groups, steps, blocks) for steps in past), Size(SIDE, 0, blocks)]
    *together, alone = passes_w8(one, constants, Size(groups, max(past), blocks), sizes)
    (crossing,) = crossings_w8(one, constants, [ceil(lockstep.states / SPAN)], 0)
    return _Composed(dict(zip(past, together, strict=True)), turns, alone, crossing)
