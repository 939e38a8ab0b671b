"""What the first generation of AMD's NPU offers: the limits every design is held to.

npu1 is Phoenix and Hawk Point (XDNA1, AIE2 cores). Sources: `lib/Dialect/AIE/IR/AIETargetModel` and `AIEOps.td` of
mlir-aie, the driver's `npu1_regs.c`, arXiv 2512.13282 for the column that has no shim, and mlir-aie's pull request 3734
for the queues of the shims' channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a tile is for."""

    SHIM = "shim"  # between the host's memory and the array
    MEMORY = "memory"  # holds and rearranges what the cores of its column need
    CORE = "core"  # computes


@dataclass(frozen=True)
class DescriptorFields:
    """What a buffer descriptor of a tile's DMA can say. Lengths, steps and addresses count words of 4 bytes."""

    dimensions: int  # nested loops over memory, without the iteration
    length_bits: int  # words of one transfer
    wrap_bits: int  # how often a dimension repeats
    step_bits: int  # words between repetitions; the field holds one less
    iterations: int = 64  # how often a transfer can be made anew, each a step further on


@dataclass(frozen=True)
class TileLimits:
    """One tile."""

    memory: int  # bytes of data memory; 0 where it has none of its own
    channels_in: int  # DMA channels from the streams to memory (S2MM)
    channels_out: int  # and from memory to the streams (MM2S)
    descriptors: int  # buffer descriptors
    locks: int
    fields: DescriptorFields


@dataclass(frozen=True)
class Target:
    """An array of tiles, as the driver exposes it."""

    name: str  # as mlir-aie writes it
    columns: int
    rows: int  # row 0: shim, row 1: memory, the others: cores
    limits: dict[Kind, TileLimits]
    program_memory: int  # bytes of a core
    default_stack: int  # bytes; it lies under the buffers, and an overflow overwrites them in silence
    granularity: int  # bytes: transfers and addresses of every DMA are whole multiples
    queued: int  # transfers under way on one channel of a shim; one more is lost without a word
    contexts: int  # hardware contexts at once
    chained_runs: int  # runs that the driver takes in one list
    submitted_runs: int  # runs of a list that XRT submits at a time

    def kind(self, row: int) -> Kind:
        """What the tiles of a row are."""
        return (Kind.SHIM, Kind.MEMORY)[row] if row < 2 else Kind.CORE

    @property
    def cores(self) -> int:
        """All of them."""
        return self.columns * (self.rows - 2)


_LOOPS_IN_L1 = DescriptorFields(dimensions=3, length_bits=14, wrap_bits=8, step_bits=13)
_LOOPS_IN_L2 = DescriptorFields(dimensions=4, length_bits=17, wrap_bits=10, step_bits=17)
_LOOPS_IN_L3 = DescriptorFields(dimensions=3, length_bits=32, wrap_bits=10, step_bits=20)

NPU1 = Target(
    name="npu1",
    columns=4,
    rows=6,
    limits={
        Kind.SHIM: TileLimits(0, 2, 2, 16, 16, _LOOPS_IN_L3),
        Kind.MEMORY: TileLimits(512 * 1024, 6, 6, 48, 64, _LOOPS_IN_L2),
        Kind.CORE: TileLimits(64 * 1024, 2, 2, 16, 16, _LOOPS_IN_L1),
    },
    program_memory=16 * 1024,
    default_stack=0x400,
    granularity=4,
    queued=4,
    contexts=6,
    chained_runs=64,
    submitted_runs=24,
)
