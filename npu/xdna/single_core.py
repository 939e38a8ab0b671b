"""One kernel on one core: the product of two tiles of 64 x 64, as the matrix unit orders them.

The tiles come straight from the shim, so where this fails and `passthrough` does not, the fault lies with the code of
the core: its compiler, its stack, its size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from npu.xdna.design import (
    Acquire,
    Await,
    Block,
    Call,
    Design,
    Element,
    Fifo,
    Function,
    Held,
    Pattern,
    Release,
    Repeat,
    Sequence,
    Start,
    Tile,
    Worker,
    whole,
)
from npu.xdna.gemm import A_ORDER, B_ORDER, IN, STACK, TILE, core

NAME = "single_core"  # of the design and of its sequence
OUT = Block(Element.I32, (TILE, TILE))
_R, _T = 4, 8  # rows and columns of the matrix unit
_C_ORDER = Pattern((TILE // _R, TILE // _T, _R, _T), (_R * TILE, _T, TILE, 1))  # [m/4][n/8][4][8]


def single_core(stacks: Mapping[str, int]) -> Design:
    """The design, with the arguments a, b and c; stacks: what the kernels need, bytes by name."""
    shim, worker = Tile(0, 0), core(0, 0)
    body = (
        Acquire("a"),
        Acquire("b"),
        Acquire("c"),
        Call("zero_i32", (Held("c"),)),
        Call("gemm_i8", (Held("a"), Held("b"), Held("c"))),
        Release("a"),
        Release("b"),
        Release("c"),
    )
    steps = (
        Start("a", "a", whole(IN)),
        Start("b", "b", whole(IN)),
        Start("c", "c", whole(OUT)),
        Await("c"),
        Await("a"),
        Await("b"),
    )
    return Design(
        NAME,
        (
            Fifo("a", shim, (worker,), IN),
            Fifo("b", shim, (worker,), IN),
            Fifo("c", worker, (shim,), OUT),
        ),
        (),
        (Worker(worker, (Repeat(None, body),), stack=STACK),),
        (
            Function("zero_i32", "gemm_i8.cc", (OUT,), stacks["zero_i32"]),
            Function("gemm_i8", "gemm_i8.cc", (IN, IN, OUT), stacks["gemm_i8"]),
        ),
        (Sequence(NAME, {"a": IN, "b": IN, "c": OUT}, steps),),
    )


def ordered(a: NDArray[np.int8], b: NDArray[np.int8]) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """[64, 64] each, row by row -> as the kernel reads them [4096]."""
    return a.ravel()[A_ORDER.indices()], b.ravel()[B_ORDER.indices()]


def product(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.int32]:
    """The product of a and b [64, 64], as the kernel writes it [4096]."""
    exact = a.astype(np.int32) @ b.astype(np.int32)
    found: NDArray[np.int32] = exact.ravel()[_C_ORDER.indices()]
    return found
