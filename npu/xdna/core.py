"""Programs of cores in an overlay, from pieces that they share: objects that pass, and calls of kernels."""

from __future__ import annotations

from npu.xdna.design import Acquire, Call, Local, Operand, Release, Step
from npu.xdna.gemm import SIDE


class Core:
    """A core of 4 x 4 and its three fifos."""

    def __init__(self, column: int, row: int) -> None:
        self._column, self._row = column, row
        self._a, self._b, self._c = f"a{row}", f"b{column}", f"c{column}_{row}"

    def _passing(self, fifo: str, *inner: Step) -> tuple[Step, ...]:
        """An object comes, something is done, and it goes."""
        return (Acquire(fifo), *inner, Release(fifo))

    def _each_row(self, fifo: str, own: Step) -> tuple[Step, ...]:
        """An object for each row of cores passes, and one is this core's."""
        found: list[Step] = []
        for row in range(SIDE):
            found += self._passing(fifo, *((own,) if row == self._row else ()))
        return tuple(found)


def call(function: str, *operands: Operand | str) -> Call:
    """Names are those of local buffers."""
    return Call(function, tuple(Local(each) if isinstance(each, str) else each for each in operands))
