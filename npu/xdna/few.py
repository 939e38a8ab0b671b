"""Products of at most 16 rows with weights in 8 bits, as stages for the overlay in bf16: what a decoder does for a token.

All 16 cores have the same rows, and each up to four groups of 64 columns, so that 4,096 are done in a round. Group g of
the core in column i and row r has the columns from g * 1,024 + r * 256 + i * 64 on. A tile of A holds 128 of a row's
depth: 16 rows for each 32 of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.layers import STEPS, quantised_by_column
from npu.weights import Norm
from npu.xdna.composer import Composer
from npu.xdna.composition import Moves, Said, whole_spans
from npu.xdna.design import Pattern, Start
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.oracle import blocked
from npu.xdna.overlay import B_ORDER, DEPTH, FOLLOWING, OBJECT, Activation, Bits, Operation, Words, columns
from npu.xdna.regions import Region
from npu.xdna.streams import padded

ROWS = 16  # that a stage computes, whether they are needed or not
DEEP = TILE // ROWS * DEPTH  # of a tile of A
APART = SIDE * SPAN  # columns between a core's groups
ROUND = TILE // ROWS * APART  # columns that all cores do at a time

_UNIT = (4, 8)  # depth and columns of the matrix unit
_HALVES = DEEP // TILE  # tiles of weights for a tile of A
_KERNELS = {
    True: ("few_sums", "few_normal"),
    False: ("few_largest", "few_plain"),
}  # of rows that are normalised or not

Array = NDArray[Any]


class FewComposer(Composer):
    """A composer that knows products of few rows as well."""

    def few_region(self, width: int) -> Region:
        """Room for 16 rows of a result: columns up to whole rounds, of which those up to a whole span are written."""
        found = Region(self._work, ROWS, -(-width // ROUND) * ROUND)
        self._work += found.rows * found.width
        return found

    def few(
        self,
        name: str,
        a: Region,
        matrix: Array,
        to: Region,
        *,
        bias: Array | None = None,
        norm: Norm | None = None,
        function: Activation | None = None,
        other: Region | None = None,
        multiplied: bool = False,
        rest: Region | None = None,
    ) -> None:
        """function(a @ matrix + bias), plus or times `other`, of the first 16 rows of a; matrix [depth, n].

        With a norm, rows are normalised first. What lies in a behind the depth, up to a multiple of 128, is zero. The
        result, `other` and `rest`, which is what narrowing took away, are regions of `few_region`; columns of the result
        from n on are zero up to a whole span if `other` is, and beyond it of no meaning.
        """
        depth, n = matrix.shape
        steps = -(-depth // DEEP)
        place = self._constants.place(("few", name), partial(laid, matrix, bias, norm))
        moves, calls = Moves(), Counter[str]()
        ends = Counter(
            join_half_f32=2 * int(other is not None),
            narrow_bf16=1,
            narrow_rest_bf16=int(rest is not None),
        )
        if function is not None:
            ends[FOLLOWING[function]] = 1
        shared: dict[Words, Said] = {
            Words.STEPS: steps,
            Words.OTHER: int(other is not None),
            Words.MULTIPLIED: int(multiplied),
            Words.WIDE: int(rest is not None),
            Words.FUNCTION: int(function or 0),
            Words.NORMAL: int(norm is not None),
            Words.BITS: normal_bits(depth) if norm else plain_bits(depth),
            Words.OF_MEAN: 1 / depth,
        }
        rows = Pattern((steps * DEEP // DEPTH, ROWS, DEPTH), (DEPTH, a.width, 1), a.offset)

        def of_shim(i: int, first: int, own: tuple[int, ...], at: int) -> Iterator[Start]:
            words = {Words.BEFORE: sum(own[:i]), Words.OWN: own[i], Words.AFTER: sum(own[i + 1 :])}
            yield self._head(i, self._header(Operation.FEW, shared | words))
            yield Start(f"A{i}", a.argument, rows, 2)
            run = run_of(steps, own)
            yield Start(f"B{i}", "constants", Pattern((run,), (1,), at + i * run))
            if other is not None:
                yield _groups(f"B{i}", other, first + i * TILE)
            for each in (to, rest):
                if each is not None:
                    yield _groups(f"C{i}", each, first + i * TILE)

        for first in range(0, n, ROUND):
            own = groups(n - first)
            moves.together(partial(of_shim, first=first, own=own, at=place))
            place += SIDE * run_of(steps, own)
            calls += _calls(steps, own[0], norm is not None) + ends
        self._add(name, moves, calls, 1)


def normal_bits(depth: int) -> int:
    """Fraction bits of normalised rows: with them, the root of the depth is no more than 2^15."""
    return int(np.floor(15 - np.log2(depth) / 2))


def plain_bits(depth: int) -> int:
    """Bits of the largest magnitude of other rows: with them, no sum can need more than 31."""
    return min(15, ((2**31 - 1) // (STEPS * depth)).bit_length() - 1)


def folded(norm: Norm, matrix: Array, bias: Array | None) -> tuple[Array, Array]:
    """The matrix [depth, n] and bias [n] that make of normalised rows what the norm's gain and offset and these make."""
    added = np.zeros(matrix.shape[1], np.float32) if bias is None else bias
    if norm.offset is not None:
        added = added + norm.offset @ matrix
    return norm.gain[:, None] * matrix, added


def groups(n: int) -> tuple[int, ...]:
    """Of so many columns: how many groups each row of cores has in a round."""
    return tuple(min(max(-(-(n - row * SPAN) // APART), 0), ROUND // APART) for row in range(SIDE))


def run_of(steps: int, own: tuple[int, ...]) -> int:
    """Values that a column of cores gets in a round: weights, and for each row of cores what belongs to its columns."""
    return (steps * _HALVES * sum(own) + SIDE) * OBJECT


def laid(matrix: Array, bias: Array | None, norm: Norm | None) -> Bits:
    """Weights in 8 bits, scales and biases in the order in which they stream in: rounds, columns of cores, depth."""
    if norm is not None:
        matrix, bias = folded(norm, matrix, bias)
    depth, n = matrix.shape
    width, deep = whole_spans(n), -(-depth // DEEP) * DEEP
    linear = quantised_by_column(np.asarray(matrix, np.float32))
    tiles = _tiles(padded(linear.values, deep, width))
    scale, added = np.zeros((2, -(-n // ROUND) * ROUND), np.float32)
    scale[:n] = linear.scale
    if bias is not None:
        added[:n] = bias
    parts: list[Bits] = []
    for first in range(0, n, ROUND):
        own = groups(n - first)
        for column in range(SIDE):
            begins = [
                [first + group * APART + row * SPAN + column * TILE for group in range(ROUND // APART)]
                for row in range(SIDE)
            ]
            those = [at // TILE for row, count in enumerate(own) for at in begins[row][:count]]
            parts.append(tiles[:, those].ravel())
            for row in begins:
                each = [np.concatenate([scale[at : at + TILE], added[at : at + TILE]]) for at in row]
                parts.append(columns(np.concatenate(each)))
    return np.concatenate(parts)


def _tiles(values: NDArray[np.int8]) -> Bits:
    """[depth, n] -> [depth / 64][n / 64][2048]: tiles of B that reach the cores in the order of the matrix unit."""
    deep, wide = (size // TILE for size in values.shape)
    rows, across = _UNIT
    blocks = blocked(values, rows, across).reshape(deep, TILE // rows, wide, TILE // across, rows * across)
    wanted = np.ascontiguousarray(blocks.swapaxes(1, 2)).reshape(deep, wide, -1).view(np.uint16)
    found = np.empty_like(wanted)
    found[..., B_ORDER.indices()] = wanted
    return found


def _groups(fifo: str, x: Region, column: int) -> Start:
    """Of each row of cores four groups of 16 rows and 64 columns."""
    pattern = Pattern((TILE // ROWS, ROWS, TILE), (APART, x.width, 1), x.offset + column)
    return Start(fifo, x.argument, pattern, SIDE, SPAN)


def _calls(steps: int, own: int, normal: bool) -> Counter[str]:
    """Of one round until there are results, by the first row of cores, which has most columns."""
    calls = Counter(keep_header=1, few_start=1, few_rows=1, few_gemm=_HALVES * steps * own, few_finish=own)
    return calls + Counter(dict.fromkeys(_KERNELS[normal], steps))
