"""Log-mel features on the whole array: from 16-bit samples to 16-bit logarithms with one dispatch, 256 frames a round.

Every core has 16 frames of its own. A shim reads those of its column, 64 samples of each at a time: frames overlap, and
rows 160 samples apart are what makes them. Its memory tile splits them and brings them into the order of the matrix
unit. The Fourier matrix comes in through one shim, in that order already, and goes to all cores: under 64 samples its
four tiles of cosines, then of sines. Spectra stay on the core until they have become powers, filters and logarithms.

A header before the matrix says how many rounds and steps there are, and the least logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    Link,
    Local,
    Pattern,
    Release,
    Repeat,
    Stage,
    Start,
    Step,
    Tile,
    Word,
    Worker,
    sequence_of,
    whole,
)
from npu.xdna.gemm import SIDE, STACK, core
from npu.xdna.mel import DEPTH, FRAMES, HOP, LOGARITHMS, SHIFT, WIDTH, filters, fourier
from npu.xdna.oracle import TILE, blocked
from npu.xdna.target import NPU1

COLUMN = SIDE * FRAMES  # frames of a column's cores in a round
ROUND = SIDE * COLUMN
STEPS, BIN_TILES = DEPTH // TILE, WIDTH // TILE
MOST_ROUNDS = NPU1.limits[NPU1.kind(0)].fields.iterations

_R, _S = 4, 4  # rows and depth of the matrix unit
_A, _B = Block(Element.I16, (FRAMES, TILE)), Block(Element.I16, (TILE, TILE))
_A_ORDER = Pattern((FRAMES // _R, TILE // _S, _R, _S), (_R * TILE, _S, TILE, 1))  # [m/4][k/4][4][4]
_SPECTRUM, _KEPT = Block(Element.I32, (BIN_TILES, FRAMES, TILE)), Block(Element.I32, (128,))
_ROUNDS, _STEPS, _FLOOR = range(3)  # words of the header

Values = NDArray[np.int16]


@dataclass(frozen=True)
class Window:
    """What one dispatch makes of audio."""

    frames: int  # at least 1; at most 16,384, which are 163 s
    mels: int  # filters

    def __post_init__(self) -> None:
        if not 0 < self.frames <= MOST_ROUNDS * ROUND:
            raise ValueError(
                f"a window of {self.frames} frames: it has 1 to {MOST_ROUNDS * ROUND}, so part the audio"
            )

    @property
    def rounds(self) -> int:
        """What the array does for it; nobody looks at the frames beyond its own."""
        return -(-self.frames // ROUND)

    @property
    def name(self) -> str:
        """Of its sequence."""
        return f"mel_{self.rounds}"

    @property
    def arguments(self) -> dict[str, Block]:
        """Of its sequence."""
        return {
            "header": _B,
            "matrix": Block(Element.I16, (STEPS * 2 * BIN_TILES, _B.count)),
            "audio": Block(Element.I16, ((self.rounds * ROUND - 1) * HOP + DEPTH,)),
            "logarithms": Block(Element.I16, (self.rounds * ROUND, self.mels)),
        }


def header(window: Window, floor: int) -> NDArray[np.int32]:
    """[2048]: the argument `header`."""
    words = np.zeros(_B.bytes // 4, np.int32)
    words[[_ROUNDS, _STEPS, _FLOOR]] = window.rounds, STEPS, floor
    return words


def matrix() -> Values:
    """[56, 4096]: the argument `matrix`, for every 64 samples the tiles of cosines, then those of sines."""
    tiles = [
        blocked(part[step : step + TILE, tile : tile + TILE], _S, _S).ravel()
        for step in range(0, DEPTH, TILE)
        for part in fourier()
        for tile in range(0, WIDTH, TILE)
    ]
    return np.array(tiles, np.int16)


def mel_design(stacks: Mapping[str, int], windows: tuple[Window, ...]) -> Design:
    """The overlay, and a sequence for each of the windows, which have the same filters.

    stacks: what the kernels need, bytes by name. The arguments are header, matrix, audio and logarithms.
    """
    (mels,) = {window.mels for window in windows}
    tables = _tables(mels)
    held = tuple(block for block, _ in tables.values())
    functions = (
        Function("keep_header", "epilogue.cc", (_B, _KEPT), stacks["keep_header"]),
        Function("zero_i32", "gemm_i8.cc", (_SPECTRUM,), stacks["zero_i32"]),
        Function("gemm_i16", "mel.cc", (_A, _B, _SPECTRUM, None, None), stacks["gemm_i16"]),
        Function(
            "mel_i16", "mel.cc", (_SPECTRUM, _SPECTRUM, *held, _out(mels), None, None), stacks["mel_i16"]
        ),
    )
    workers = tuple(_worker(column, row, mels, tables) for column in range(SIDE) for row in range(SIDE))
    sequences = tuple(sequence_of(each.name, each.arguments, stages(each)) for each in windows)
    return Design(f"mel_{mels}", _fifos(mels), _links(mels), workers, functions, sequences)


def stages(window: Window) -> tuple[Stage, ...]:
    """The sequence of a window, in one part."""
    rounds, results = window.rounds, COLUMN * window.mels
    steps: list[Start | Await] = [
        Start("B", "header", whole(_B)),
        Start("B", "matrix", whole(window.arguments["matrix"]), repeat=rounds),
    ]
    for i in range(SIDE):
        frames = Pattern((STEPS, COLUMN, TILE), (TILE, HOP, 1), i * COLUMN * HOP)
        out = Pattern((results,), (1,), i * results)
        steps += [
            Start(f"A{i}", "audio", frames, repeat=rounds, step=ROUND * HOP),
            Start(f"C{i}", "logarithms", out, repeat=rounds, step=SIDE * results),
        ]
    steps += [Await(name) for name in ("B", *(f"{kind}{i}" for kind in "AC" for i in range(SIDE)))]
    products = 2 * BIN_TILES * STEPS
    calls = {"keep_header": 1, "zero_i32": 2 * rounds, "gemm_i16": products * rounds, "mel_i16": rounds}
    return (Stage(window.name, tuple(steps), calls),)


def _out(mels: int) -> Block:
    return Block(Element.I16, (FRAMES, mels))


def _tables(mels: int) -> dict[str, tuple[Block, bytes]]:
    """What `mel_i16` is given beside the spectra, in its order."""
    used = filters(mels)
    tables: dict[str, NDArray[Any]] = {
        "first": used.first, "count": used.count, "weights": used.weights, "table": LOGARITHMS
    }  # fmt: skip
    kinds = {np.dtype(np.int32): Element.I32, np.dtype(np.int16): Element.I16}
    return {name: (Block(kinds[each.dtype], each.shape), each.tobytes()) for name, each in tables.items()}


def _fifos(mels: int) -> tuple[Fifo, ...]:
    """Frames in by A0.. and a0_0.., the matrix by B and b, results out by c0_0.. and C0..

    A core's result leaves long before its next is there, so one object is enough.
    """
    cores = tuple(core(column, row) for column in range(SIDE) for row in range(SIDE))
    fifos = [Fifo("B", Tile(0, 0), (Tile(0, 1),), _B), Fifo("b", Tile(0, 1), cores, _B)]
    for i in range(SIDE):
        shim, memory = Tile(i, 0), Tile(i, 1)
        fifos += [
            Fifo(f"A{i}", shim, (memory,), Block(Element.I16, (COLUMN, TILE))),
            *(Fifo(f"a{i}_{row}", memory, (core(i, row),), _A, sent=_A_ORDER) for row in range(SIDE)),
            *(Fifo(f"c{i}_{row}", core(i, row), (memory,), _out(mels), depth=1) for row in range(SIDE)),
            Fifo(f"C{i}", memory, (shim,), Block(Element.I16, (COLUMN, mels))),
        ]
    return tuple(fifos)


def _links(mels: int) -> tuple[Link, ...]:
    """What memory tiles pass on, split and join."""
    found = [Link(("B",), ("b",))]
    for i in range(SIDE):
        split, joined = (tuple(f"{kind}{i}_{row}" for row in range(SIDE)) for kind in "ac")
        found += [
            Link((f"A{i}",), split, tuple(row * _A.count for row in range(SIDE))),
            Link(joined, (f"C{i}",), tuple(row * _out(mels).count for row in range(SIDE))),
        ]
    return tuple(found)


def _worker(column: int, row: int, mels: int, tables: Mapping[str, tuple[Block, bytes]]) -> Worker:
    a, c = f"a{column}_{row}", f"c{column}_{row}"
    products: list[Step] = []
    for part in ("real", "imaginary"):
        for tile in range(BIN_TILES):
            call = Call("gemm_i16", (Held(a), Held("b"), Local(part), tile, SHIFT))
            products += [Acquire("b"), call, Release("b")]
    given = tuple(Local(name) for name in ("real", "imaginary", *tables))
    each_round: tuple[Step, ...] = (
        Call("zero_i32", (Local("real"),)),
        Call("zero_i32", (Local("imaginary"),)),
        Repeat(Word("header", _STEPS), (Acquire(a), *products, Release(a))),
        Acquire(c),
        Call("mel_i16", (*given, Held(c), mels, Word("header", _FLOOR))),
        Release(c),
    )
    body = (
        Acquire("b"),
        Call("keep_header", (Held("b"), Local("header"))),
        Release("b"),
        Repeat(Word("header", _ROUNDS), each_round),
    )
    buffers = {"real": _SPECTRUM, "imaginary": _SPECTRUM, "header": _KEPT}
    return Worker(core(column, row), (Repeat(None, body),), buffers, tables, STACK)
