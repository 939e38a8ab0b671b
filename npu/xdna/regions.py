"""Matrices in the buffers of the overlay in bf16, and what a shim moves of them at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from npu.xdna.composition import ITERATIONS
from npu.xdna.design import Pattern, Start
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.overlay import DEPTH

LANE = 2 * DEPTH  # values of a head, whatever its own width: what lies beyond is zero


@dataclass(frozen=True)
class Region:
    """A matrix in a buffer, row by row."""

    offset: int  # its first value
    rows: int
    width: int  # values between rows: what is read or written beyond a matrix's own columns is zero
    argument: str = "work"  # the buffer

    def view(self, column: int = 0, width: int | None = None) -> View:
        """Its rows from a column on."""
        return View(self.offset + column, self.width, self.width - column if width is None else width)

    def convolved(self, stride: int, taps: int, width: int) -> View:
        """Rows of what a convolution over its rows sees: so many of them, each `width` wide, one after the other."""
        return View(self.offset, stride * self.width, width, taps, self.width)

    def part(self, column: int) -> Region:
        """The same rows from a column on."""
        return replace(self, offset=self.offset + column)


@dataclass(frozen=True)
class View:
    """How the rows of a product's left side lie."""

    offset: int
    row: int  # values from one to the next
    width: int  # values in one piece, a multiple of 32
    taps: int = 1  # pieces of a row
    tap: int = 0  # values from one to the next

    @property
    def depth(self) -> int:
        """Values of a row."""
        return self.width * self.taps


def rows_of(i: int, view: View, row: int, times: int = 1) -> Start:
    """Tiles of 64 rows from `row` on, one after the other along the depth; all of it several times, or in several taps."""
    pattern = Pattern((view.width // DEPTH, TILE, DEPTH), (DEPTH, view.row, 1), view.offset + row * view.row)
    if times > 1:
        return Start(f"A{i}", "work", pattern, times)
    return Start(f"A{i}", "work", pattern, view.taps, view.tap)


def keys_of(i: int, key: Region, value: Region, head: int) -> Iterator[Start]:
    """Tiles of 32 keys, each before its values."""
    steps = key.rows // DEPTH
    for step in range(0, steps, ITERATIONS):
        at = key.offset + head * LANE + step * DEPTH * key.width
        pattern = Pattern((2, DEPTH, TILE), (value.offset - key.offset, key.width, 1), at)
        times = min(ITERATIONS, steps - step)
        yield Start(f"B{i}", key.argument, pattern, times, DEPTH * key.width)


def column_of(i: int, to: Region, row: int, column: int) -> Start:
    """What a column of cores makes at a time: 256 rows, 64 columns."""
    return Start(f"C{i}", "work", Pattern((SPAN, TILE), (to.width, 1), to.offset + row * to.width + column))


def apart(x: Region, column: int) -> Pattern:
    """64 rows of four times 64 columns, one after the other."""
    return Pattern((SIDE, TILE, TILE), (TILE, x.width, 1), x.offset + column)


def columns_of(i: int, to: Region, row: int, rounds: int) -> Start:
    """The same for every fourth 64 columns from the i-th on."""
    at = to.offset + row * to.width + i * TILE
    return Start(f"C{i}", "work", Pattern((rounds, SPAN, TILE), (SPAN, to.width, 1), at))
