"""What a design would cost on hardware, from the same data that the emulator executes: predicted, never measured.

A stage takes as long as the slowest of four: the busiest core's kernels, all bytes through the memory, the bytes of the
busiest shim channel, and the commands that start transfers; and besides, what the array waits for the first of them.
Every constant has its source beside it. Nobody has run these kernels: a time is an estimate between two bounds.

Sources: arXiv 2512.13282 (products on a Phoenix at 1.0 GHz), jdominick05/ignite-xdna (`docs/SILICON.md`: an 8700G at
1.8 GHz), mlir-aie (programming guide, section 4a, on dispatches), the driver amd/xdna-driver, AMD's guide UG1603.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from npu.xdna.design import Await, Block, Design, Stage, Start
from npu.xdna.junction import parted, room
from npu.xdna.target import NPU1
from streaming.errors import ModelError

CHANNEL_BYTES = (
    6.9e9 / 1.8e9
)  # per cycle: 6.9 GB/s of one shim channel (ignite-xdna); 4 is what a stream could carry
TASK_S = (
    1e-6  # for the command processor to write a descriptor and start it: assumed, nobody has published it
)
CHAINED_S = 36.3e-6  # for each run of a list (ignite-xdna, of 64)
BF16_A_CYCLE = 128  # multiply-accumulates of the matrix unit (arXiv 2512.13282)
RECONFIGURATION_S = 3.4e-3  # to load another overlay (arXiv 2512.13282, of all of the array)


@dataclass(frozen=True)
class Spread:
    """By what factors a time may turn out shorter or longer than expected."""

    low: float
    high: float


PUBLISHED = Spread(0.85, 1.16)  # published products took 0.88 to 1.15 of what this model says: see the tests
UNPUBLISHED = Spread(0.5, 3.0)  # of what nobody has published a time


@dataclass(frozen=True)
class Estimate:
    """A time in seconds: what is expected, and between what it should lie."""

    low: float
    expected: float
    high: float

    @classmethod
    def of(cls, seconds: float, spread: Spread) -> Estimate:
        """What is expected, with its bounds."""
        return cls(seconds * spread.low, seconds, seconds * spread.high)

    def __add__(self, other: Estimate) -> Estimate:
        """One after the other. Bounds are added up, as if all that is uncertain turned out the same way."""
        return Estimate(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def times(self, count: float) -> Estimate:
        """So often."""
        return Estimate(self.low * count, self.expected * count, self.high * count)


NOTHING = Estimate(0, 0, 0)


def slowest(*estimates: Estimate) -> Estimate:
    """All at the same time, each in the way of none."""
    return Estimate(
        max(each.low for each in estimates),
        max(each.expected for each in estimates),
        max(each.high for each in estimates),
    )


class Unit(Enum):
    """What multiplies."""

    I8 = "8-bit products"
    BF16 = "bf16 products"
    I16_I8 = "16-bit times 8-bit products"
    ROW = "one row times a matrix"  # as fast as weights are loaded


class Loop(Enum):
    """What is done to each element, beside products."""

    MOVE = "copied, cleared or narrowed"
    SUM = "a few float operations"


@dataclass(frozen=True)
class Machine:
    """An NPU and what its kernels are taken to reach."""

    name: str
    clock: float  # Hz
    bandwidth: float  # bytes a second between the memory and the array, both ways together
    products: Mapping[Unit, float]  # multiply-accumulates a cycle and core that a kernel sustains
    cycles: Mapping[Loop, float]  # a core's, for each element
    dispatch: Estimate  # to submit a sequence and to wait for it

    @property
    def vector(self) -> float:
        """Cycles of a vector instruction beside products: as many as published products in bf16 needed for one."""
        return BF16_A_CYCLE / self.products[Unit.BF16]


def _units(i8: float, bf16: float, row: float) -> Mapping[Unit, float]:
    """At most, a cycle: 256 in 8 bits, 128 of 16 by 8 bits and in bf16 (AMD's AIE API: 4 x 8 x 8, 4 x 4 x 8 and 4 x 8 x 4).
    What has no published rate is as far below its own as its like.
    """
    return MappingProxyType({Unit.I8: i8, Unit.I16_I8: i8 / 2, Unit.BF16: bf16, Unit.ROW: row})


def _loops(move: float, total: float) -> Mapping[Loop, float]:
    """No source: assumed for 16 lanes, with float multiplications made of bf16 ones (UG1603)."""
    return MappingProxyType({Loop.MOVE: move, Loop.SUM: total})


# Dispatches: 108 us from C++, 170 us on average (ignite-xdna), 200 to 300 us warm (mlir-aie's guide).
_DISPATCH = Estimate(108e-6, 170e-6, 300e-6)

CONSERVATIVE = Machine(
    "Phoenix",
    1.0e9,  # arXiv 2512.13282, of a 7940HS
    15e9,  # the same: effective in products on the whole array
    _units(103.3, 48.3, 16),  # ignite-xdna: mm.cc as Peano compiles it
    _loops(0.5, 2),
    _DISPATCH,
)
EXPECTED = Machine(
    "Hawk Point",
    1.6e9,  # the driver's npu1_regs.c, the highest of its table; an 8945HS
    20e9,  # between the paper's 15 and the 28.1 that ignite-xdna found to be the most in one direction
    _units(103.3, 48.3, 32),
    _loops(0.25, 1),
    _DISPATCH,
)
TUNED = Machine(
    "Hawk Point, tuned",
    1.8e9,  # ignite-xdna measured it, unless power was saved
    26e9,
    _units(200, 110, 50),  # ignite-xdna: 256 within a loop of 2 x 2 blocks, and assembly with 86 % of 128
    _loops(0.125, 0.6),
    Estimate(45e-6, 108e-6, 170e-6),  # 45 us: an empty kernel (mlir-aie 2381)
)
MACHINES = (CONSERVATIVE, EXPECTED, TUNED)


@dataclass(frozen=True)
class Kernel:
    """What one call does."""

    products: int = 0  # multiply-accumulates
    unit: Unit = Unit.I8
    elements: int = 0  # beside them
    loop: Loop = Loop.MOVE
    vectors: int = 0  # instructions beside them, where they were counted
    published: bool = False  # somebody has measured its like

    def cycles(self, machine: Machine) -> float:
        """Of the core."""
        beside = self.elements * machine.cycles[self.loop] + self.vectors * machine.vector
        return self.products / machine.products[self.unit] + beside


_TILE = 64 * 64  # elements of a tile of sums
_HALF = _TILE // 2  # of a tile of A or B in bf16

# Instructions for 16 lanes, or 32 of 16 bits, as the kernels are written: none of them was compiled.
_VECTORS = _TILE // 16  # of a tile of sums
_PARTS = 4  # a float as two numbers in bf16
_PRODUCT = _PARTS + 3  # of such
_FLOAT_PRODUCT = 20  # of floats, which AMD's library makes of nine: three parts of each
_POWER = 16 + 4 + 1  # 2^x: fraction, exponent, their product
_RECIPROCAL = _PARTS + 13
_GELU = 1 + 1 + 1 + 7 + 3.5  # size, fixed point, place, polynomial (of 32 lanes), what is added
_WEIGHT = 3 + 0.5 * (2 + 1 + 2 + 3 + 1 + 1)  # fixed point, its largest; of 32 lanes 2^x, in order, summed
_LEVEL = 3  # whether a score is much larger
_HIDDEN = (13 + 8 * 3) // 4  # keys that are not seen, one time in four: assumed
_RAISED = (18 + 17 * 4) // 8  # the largest of rows, and what was summed before, one time in eight: assumed
_FOUR_QUERIES = 8 * int(_WEIGHT) + _LEVEL + _HIDDEN + _RAISED  # and 32 keys
_SHORTS = _TILE // 32  # vectors of 16-bit values of a tile
_WIDE = 8  # products of 32 bits, which mlir-aie makes of four shuffles and four products of 16 bits
_MIXED = 5  # and of 32 bits with 16: two and two, and one more shuffle
_SIXTEENTHS = 2 * (3 + 4), 2 * (4 + 4)  # powers by a polynomial of degree 3 and 4, and four squares
_INVERSE = 5 * 6 + 31 * 7  # brought to 31 bits, then divided bit by bit
_ROOT = 27 * (_WIDE + 4)  # bit by bit
_LARGEST = 26  # of 64 values
_RESCALED_I8 = (2 * _MIXED + 2 + 1 + _SIXTEENTHS[0] + 9 * 2 * (_MIXED + 1)) // 4  # one time in four: assumed
_FOUR_QUERIES_I8 = 8 * (5 + 2 * _MIXED + 11 + _SIXTEENTHS[0]) + 49 + _RESCALED_I8  # and 64 keys, all seen
_FOURS = 2  # shuffles to make rows of blocks

KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        # 8 bits: instructions of the vector unit, or stores of 32 bytes where those are more
        "gemm_i8": Kernel(64 * _TILE, Unit.I8, published=True),
        "zero_i32": Kernel(vectors=2 * _VECTORS),
        "gemv_i8": Kernel(_TILE, Unit.ROW),
        "settle_i32": Kernel(vectors=_VECTORS * (2 * _WIDE + 6)),
        "activate_i16": Kernel(vectors=_SHORTS * (9 + _SIXTEENTHS[1])),
        "narrow_i16": Kernel(vectors=_SHORTS),
        "add_half_i16": Kernel(vectors=5 * _SHORTS),
        "begin_rows": Kernel(vectors=_VECTORS + 24),
        "add_up_i16": Kernel(vectors=16 * (8 * 3 + 2 * 8 + 4)),
        "describe_rows": Kernel(vectors=4 * (27 + 4 * _WIDE + _ROOT + 5 * 6 + 3) + _VECTORS),
        "largest_i16": Kernel(vectors=_SHORTS * (_FOURS + 4)),
        "largest_normal_i16": Kernel(vectors=_SHORTS * (_FOURS + 2 * _MIXED + 5)),
        "scale_rows": Kernel(vectors=64 * 12 + 4 * (2 * _INVERSE + 2 * _WIDE + _MIXED + 4)),  # of a norm
        "quantise_i8": Kernel(vectors=_SHORTS * (_FOURS + _MIXED + 5)),
        "quantise_normal_i8": Kernel(vectors=_SHORTS * (_FOURS + 3 * _MIXED + 6)),
        "keep_head_i16": Kernel(vectors=_SHORTS * (_FOURS + 3)),  # one in three is turned
        "scale_head": Kernel(vectors=64 * _LARGEST + 4 * (_INVERSE + 2 * _WIDE + _MIXED + 6)),
        "narrow_head_i8": Kernel(vectors=4 * _VECTORS),
        "attention_start_i8": Kernel(vectors=2 * _VECTORS + 16),
        "turn_keys_i8": Kernel(vectors=_VECTORS),
        "attention_step_i8": Kernel(2 * 64 * _TILE, Unit.I8, vectors=16 * _FOUR_QUERIES_I8 + 8 * 12),
        "attention_finish_i8": Kernel(vectors=_VECTORS * (_WIDE + 1) + _SHORTS + 2 * (31 * 7 + 4)),
        "keep_tile_i8": Kernel(vectors=_VECTORS // 2),
        "keep_row_scales": Kernel(vectors=8),
        "keep_key_scales": Kernel(vectors=16),
        "scales_out": Kernel(vectors=24),
        # bf16: the same
        "gemm_bf16": Kernel(32 * _TILE, Unit.BF16, published=True),
        "zero_f32": Kernel(vectors=2 * _VECTORS),
        "start_f32": Kernel(vectors=2 * _VECTORS),
        "gelu_f32": Kernel(vectors=int(_VECTORS * _GELU)),
        "activate_f32": Kernel(vectors=_VECTORS * (_POWER + _PRODUCT + _RECIPROCAL + 12)),
        "join_half_f32": Kernel(vectors=3 * _VECTORS // 2),  # added; multiplied it would be more
        "narrow_bf16": Kernel(vectors=_VECTORS),
        "narrow_rest_bf16": Kernel(vectors=4 * _VECTORS),
        "attention_start_bf16": Kernel(vectors=2 * _VECTORS + 64),
        "keep_queries_bf16": Kernel(vectors=3 * _VECTORS // 2),
        "turn_keys_bf16": Kernel(vectors=_VECTORS // 2),
        "attention_step_bf16": Kernel(2 * 64 * _HALF, Unit.BF16, vectors=16 * _FOUR_QUERIES),
        "attention_finish_bf16": Kernel(vectors=_VECTORS * (_PRODUCT + 1) + 16 * (_RECIPROCAL + _PARTS)),
        "add_up_bf16": Kernel(vectors=6 * _HALF // 32),
        "row_statistics_f32": Kernel(vectors=4 * (42 + 16 * _FLOAT_PRODUCT)),
        # those of groups, and log-mel, are loops without vectors, taken to have them
        "group_add_f32": Kernel(elements=64 * 16, loop=Loop.SUM),
        "group_out_f32": Kernel(elements=2),
        "group_statistics_f32": Kernel(elements=128, loop=Loop.SUM),
        "normalise_bf16": Kernel(vectors=(8 + 4 * _PRODUCT + _PARTS) * _HALF // 32),
        "turn_rows_bf16": Kernel(vectors=12 * _HALF // 32),
        # few rows in bf16, weights in 8 bits
        "few_start": Kernel(vectors=2 * _VECTORS + 16),
        "few_sums": Kernel(vectors=6 * _HALF // 32),
        "few_largest": Kernel(vectors=3 * _HALF // 32),
        "few_rows": Kernel(vectors=42 + 17 * _FLOAT_PRODUCT),
        "few_normal": Kernel(vectors=(2 * (6 + _PRODUCT) + 5) * _HALF // 32),
        "few_plain": Kernel(vectors=(2 * 3 + 5) * _HALF // 32),
        "few_gemm": Kernel(16 * _TILE, Unit.I16_I8),
        "few_finish": Kernel(vectors=(23 + 2 * _PARTS) * _VECTORS // 4),  # of one group of columns
        # and log-mel, with its sums in bf16
        "square_f32": Kernel(vectors=_VECTORS * (_PRODUCT + 2)),
        "logarithm_f32": Kernel(vectors=_VECTORS * (22 + 2 * _PARTS)),
        "loudest_f32": Kernel(elements=16, loop=Loop.SUM),
        "lift_bf16": Kernel(vectors=16 * _HALF // 32),
        # attention to windows, in 8 bits
        "narrow_window": Kernel(vectors=_VECTORS * (_PRODUCT + 10) + 2 * _PRODUCT + _RECIPROCAL),
        "window_scales_out": Kernel(vectors=4),
        "windows_start": Kernel(vectors=48),
        "keep_window_queries": Kernel(vectors=16 + 2 * (64 + _RECIPROCAL + 3 * _PRODUCT)),
        "keep_window_scales": Kernel(vectors=32),
        "windows_scores": Kernel(4 * _TILE, vectors=4 * (_POWER + _PRODUCT + 26) + 2 * _PRODUCT + 40),
        "windows_values": Kernel(4 * _TILE, vectors=4 * (_PRODUCT + 13) + _PARTS),
        "windows_finish": Kernel(vectors=_VECTORS + 16 * (_PRODUCT + 5) + 4 * (_RECIPROCAL + _PARTS)),
        # both
        "keep_header": Kernel(vectors=16),
        "keep_tile_bf16": Kernel(vectors=_VECTORS // 2),
    }
)


@dataclass(frozen=True)
class Traffic:
    """What the shims move for a stage."""

    inward: int  # bytes towards the array
    outward: int  # and from it
    busiest: int  # bytes of the channel that has most
    tasks: int  # transfers started
    waits: int  # for transfers to end
    idle_tasks: int  # started while nothing was under way, and not everything had its first


class Bound(Enum):
    """What a stage waits for."""

    CORES = "cores"
    MEMORY = "memory"
    CHANNEL = "shim channel"
    COMMANDS = "commands"


@dataclass(frozen=True)
class StageCost:
    """A stage on a machine."""

    name: str
    products: int  # multiply-accumulates of all cores, those with zeros included
    traffic: Traffic
    parts: Mapping[Bound, Estimate]  # what each of them alone would take
    start: Estimate  # until every transfer that the cores wait for has begun

    @property
    def time(self) -> Estimate:
        """All of it."""
        return slowest(*self.parts.values()) + self.start

    @property
    def bound(self) -> Bound:
        """The slowest of its parts, as expected."""
        return max(self.parts, key=lambda part: self.parts[part].expected)


def price(
    design: Design,
    stage: Stage,
    arguments: Mapping[str, Block],
    machine: Machine,
    done: Mapping[str, float] = MappingProxyType({}),
    before: Stage | None = None,
) -> StageCost:
    """What a stage of the design's sequence with these arguments costs; ModelError of a kernel that has no price.

    done: of kernels that pass over rows for which there is nothing to do, the part of a call that is done. before: the
    stage that comes before it in the same dispatch.
    """
    moved = traffic(design, stage, arguments, before)
    kernels = {name: _kernel(name) for name in stage.calls}
    full = {name: calls * done.get(name, 1) for name, calls in stage.calls.items()}  # calls
    products = round(sum(calls * kernels[name].products for name, calls in full.items()))
    like_published = any(kernel.published for kernel in kernels.values())
    spread = PUBLISHED if like_published else UNPUBLISHED
    cores = NOTHING
    for name, calls in full.items():
        seconds = calls * kernels[name].cycles(machine) / machine.clock
        cores += Estimate.of(seconds, PUBLISHED if kernels[name].published else UNPUBLISHED)
    parts = {
        Bound.CORES: cores,
        Bound.MEMORY: Estimate.of((moved.inward + moved.outward) / machine.bandwidth, spread),
        Bound.CHANNEL: Estimate.of(moved.busiest / (CHANNEL_BYTES * machine.clock), spread),
        Bound.COMMANDS: Estimate.of((moved.tasks + moved.waits) * TASK_S, UNPUBLISHED),
    }
    start = Estimate.of(moved.idle_tasks * TASK_S, UNPUBLISHED)
    return StageCost(stage.name, products * NPU1.cores, moved, MappingProxyType(parts), start)


def traffic(
    design: Design, stage: Stage, arguments: Mapping[str, Block], before: Stage | None = None
) -> Traffic:
    """What its steps move. A fifo at a shim has a channel of its own.

    What is started ahead of the end of the stage before keeps nobody waiting.
    """
    first, *others = _rounds(stage.steps)
    if before is not None and stage.first:
        first = [start.fifo for start in parted(before, stage)[1]]
    channels: dict[str, int] = {}
    for step in stage.steps:
        if isinstance(step, Start):
            moved = step.repeat * step.pattern.count * arguments[step.argument].element.bytes
            channels[step.fifo] = channels.get(step.fifo, 0) + moved
    inward = sum(moved for name, moved in channels.items() if design.fifo(name).producer.row == 0)
    tasks = sum(isinstance(step, Start) for step in stage.steps)
    return Traffic(
        inward,
        sum(channels.values()) - inward,
        max(channels.values(), default=0),
        tasks,
        len(stage.steps) - tasks + len(room(before, stage)),
        sum(map(_first_tasks, (first, *others))),
    )


def _rounds(steps: tuple[Start | Await, ...]) -> list[list[str]]:
    """The fifos of the transfers started between one moment at which nothing is under way and the next."""
    rounds: list[list[str]] = [[]]
    under_way: Counter[str] = Counter()
    for step in steps:
        if isinstance(step, Start):
            if not under_way.total() and rounds[-1]:
                rounds.append([])
            rounds[-1].append(step.fifo)
            under_way[step.fifo] += 1
        else:
            under_way[step.fifo] = min(under_way[step.fifo], step.but)
    return rounds


def _first_tasks(fifos: list[str]) -> int:
    """How many are started until each fifo has its first."""
    return max((fifos.index(name) + 1 for name in set(fifos)), default=0)


def _kernel(name: str) -> Kernel:
    if name not in KERNELS:
        raise ModelError(f"What the kernel {name} costs is not known: add it to KERNELS in npu/xdna/cost.py")
    return KERNELS[name]
