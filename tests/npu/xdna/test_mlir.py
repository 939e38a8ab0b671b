"""Designs as MLIR: all there are hold to the rules of the dialect; small ones are written down."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.moonshine import TINY
from npu.weights import Weights
from npu.xdna import assembly, overlay_i8
from npu.xdna.check import check
from npu.xdna.composer_i8 import Composer8
from npu.xdna.composition import Constants
from npu.xdna.design import (
    Acquire,
    Await,
    Block,
    Call,
    Choose,
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
    Sequence,
    Start,
    Tile,
    Word,
    Worker,
    whole,
)
from npu.xdna.dialect.verifier import verify
from npu.xdna.encoder import EncoderDesign
from npu.xdna.gemm import Shape, gemm
from npu.xdna.mlir import module, text
from npu.xdna.operations import Integer, Integers, Loops, LoopsOfEach, Operation
from npu.xdna.passthrough import passthrough
from npu.xdna.quant import Heads, Normalisation, Product
from npu.xdna.single_core import single_core
from npu.xdna.toolchain import MLIR_AIE
from streaming.errors import ModelError

GOLDEN = Path(__file__).parent / "golden"


class Stacks(dict[str, int]):
    """What kernels need of the stack, before anybody has compiled them."""

    def __missing__(self, name: str) -> int:
        return 64


def passing() -> Design:
    """Through the memory tile to a core that counts, and back."""
    shim, memory, core = Tile(0, 0), Tile(0, 1), Tile(0, 2)
    block, host = Block(Element.I32, (16,)), Block(Element.I32, (4, 64))
    body = (Acquire("arrives"), Acquire("leaves"), Call("count", (Held("arrives"), Held("leaves"), 7)))
    worker = Worker(core, (Repeat(None, (*body, Release("arrives"), Release("leaves"))),))
    fifos = (
        Fifo("in", shim, (memory,), block),
        Fifo("arrives", memory, (core,), block, sent=Pattern((4, 4), (1, 4))),
        Fifo("leaves", core, (shim,), block),
    )
    steps = (
        Start("in", "x", whole(host)),
        Start("leaves", "y", whole(block), repeat=4, step=64),
        Start("leaves", "y", Pattern((6, 16), (16, 1), 64)),
        Start("leaves", "y", Pattern((6, 16), (16, 1), 160)),
        Await("leaves", 1),
        Await("leaves"),
        Await("in"),
    )
    function = Function("count", "counting.cc", (block, block, None), 64)
    sequence = Sequence("all", {"x": host, "y": host}, steps)
    return Design("passing", fifos, (Link(("in",), ("arrives",)),), (worker,), (function,), (sequence,))


def choosing() -> Design:
    """Halves of an object to two cores, which do as its first words say, with what they hold and have."""
    shim, memory, cores = Tile(1, 0), Tile(1, 1), (Tile(1, 2), Tile(1, 3))
    whole_block, half = Block(Element.BF16, (32, 8)), Block(Element.BF16, (16, 8))
    table, state = Block(Element.F32, (3,)), Block(Element.F32, (4,))
    functions = (
        Function("keep", "state.cc", (half, state), 64),
        Function("mix", "state.cc", (half, half, table, None), 64),
    )
    workers = []
    for at, core in enumerate(cores):
        part, result = f"part{at}", f"result{at}"
        round_ = (Acquire(part), Call("mix", (Held(part, 1), Held(result), Local("table"), 2)), Release(part))
        choices = {
            1: (Call("keep", (Held(part), Local("state"))),),
            -2: (Acquire(part), Release(part, 2), Acquire(part)),
        }
        body = (
            Acquire(part),
            Acquire(result),
            Repeat(Word(part, 1), round_),
            Choose(Word("state", 2), choices),
            Call("mix", (Held(part), Held(result), Local("table"), Word("state", 0))),
            Release(part),
            Release(result),
        )
        constants = {"table": (table, np.float32([1, 2, 3]).tobytes())}
        workers.append(Worker(core, (Repeat(None, body),), {"state": state}, constants))
    fifos = (
        Fifo("all", shim, (memory,), whole_block, received=Pattern((8, 4, 8), (32, 8, 1))),
        *(Fifo(f"part{at}", memory, (core,), half, depth=2) for at, core in enumerate(cores)),
        *(Fifo(f"result{at}", core, (memory,), half) for at, core in enumerate(cores)),
        Fifo("results", memory, (shim,), whole_block, sent=Pattern((2, 2, 16, 4), (128, 4, 8, 1))),
    )
    links = (
        Link(("all",), ("part0", "part1"), (0, 128)),
        Link(("result1", "result0"), ("results",), (128, 0)),
    )
    host = Block(Element.BF16, (8, 256))
    steps = [
        Start("all", "x", Pattern((8, 32, 8), (8, 64, 1))),
        Start("results", "y", whole(host)),
        Await("results"),
        Await("all"),
        Await("all"),
    ]
    sequence = Sequence("some", {"x": host, "y": host}, tuple(steps))
    return Design("choosing", fifos, links, tuple(workers), functions, (sequence,))


def encoder(weights: Weights) -> Design:
    """Moonshine's, as far as one layer: what other layers do is the same."""
    design = EncoderDesign.moonshine(weights, TINY.heads, (1,), by_unit=True).design(Stacks())
    return replace(design, sequences=design.sequences[:8])


def in_eight_bits() -> Design:
    """Every operation of the overlay in 8 bits."""
    composer, ones, none = Composer8(Constants(np.uint8)), np.ones(768, np.int32), np.zeros(768, np.float32)
    composer.unit("all")
    x, rows, seen = composer.wide(256, 300), composer.narrow(256, 300), composer.wide(256, 256)
    qkv, heads = composer.wide(256, 768), composer.heads(256, 4)
    composer.norm("norm", x, Normalisation(ones[:300], ones[:300], 1, none[:300], none[:300]), rows)
    product = Product(np.ones((300, 768), np.int8), ones, ones, 8, 8, 0)
    composer.product("product", rows, [product], qkv, qkv)
    composer.quantise_heads("heads", qkv, Heads(17, ones[:4], none[:4].astype(float)), None, heads)
    composer.attention("attention", heads, 17, seen, lambda lengths: 256)
    composer.quantise("seen", seen, ones[:256], rows)
    return overlay_i8.overlay(Stacks(), (composer.sequence("all", composer.units, composer.work),))


SMALL: Mapping[str, Callable[[], Design]] = {"passing": passing, "choosing": choosing}
DESIGNS: Mapping[str, Callable[[Weights], Design]] = {
    "passing": lambda _: passing(),
    "choosing": lambda _: choosing(),
    "passthrough": lambda _: passthrough(),
    "single core": lambda _: single_core(Stacks()),
    "gemm": lambda _: gemm(Stacks(), (Shape(256, 128, 512), Shape(512, 64, 256))),
    "in 8 bits": lambda _: in_eight_bits(),
    "encoder": encoder,
}


@pytest.fixture(params=DESIGNS)
def design(request: pytest.FixtureRequest, weights: Weights) -> Design:
    """Each in turn."""
    return DESIGNS[request.param](weights)


def test_a_design(design: Design) -> None:
    """Fits the hardware, and its generic form holds to the rules of the dialect."""
    assert not check(design)
    verify(text(design, generic=True))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("generic", [False, True])
def test_a_small_design(name: str, generic: bool) -> None:
    """Is written as it was when somebody last read it."""
    golden = GOLDEN / f"{name}{'.generic' if generic else ''}.mlir"
    assert text(SMALL[name](), generic) == golden.read_text()


@pytest.mark.parametrize("name", SMALL)
def test_the_custom_form_of_mlirs_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations is what xdsl reads; those of the AIE dialect, whose custom form it does not know, are generic here."""
    own = {name: head for name, head in assembly._HEADS.items() if not name.startswith("aie")}
    monkeypatch.setattr(assembly, "_HEADS", own)
    verify(text(SMALL[name]()))


def test_both_forms(design: Design) -> None:
    """Have the same operations in the same order."""
    named = re.findall(r'"([a-z_]+\.[a-z_.]+)"\(', text(design, generic=True))
    unsaid = {"builtin.module", "scf.yield"}
    lines = iter([*text(design).splitlines(), "aie.end"])  # the last, that of the device, goes without saying
    assert all(any(name in line for line in lines) for name in named if name not in unsaid)


def visited(order: tuple[tuple[int, int], ...], start: int = 0) -> NDArray[np.int64]:
    """The elements that loops lead to, as the dialect means them: (size, stride), the outermost first."""
    at = np.array([start])
    for size, stride in order:
        at = (at[:, None] + np.arange(size) * stride).ravel()
    return at


def operations(design: Design, name: str) -> list[Operation]:
    """All of a kind in the device, or in its sequences."""
    (device,) = module(design).regions[0].operations
    found = device.regions[0].operations
    inner = [
        each for one in found if one.name == "aie.runtime_sequence" for each in one.regions[0].operations
    ]
    return [each for each in (*found, *inner) if each.name == name]


def test_transfers(design: Design) -> None:
    """Visit the elements of arguments that the design says, in its order."""
    starts = [step for each in design.sequences for step in each.steps if isinstance(step, Start)]
    tasks = operations(design, "aiex.dma_configure_task_for")
    for task, start in zip(tasks, starts, strict=True):
        descriptor = task.regions[0].operations[0]
        said = {name: each.value for name, each in descriptor.properties.items() if isinstance(each, Integer)}
        loops = {
            name: each.values for name, each in descriptor.properties.items() if isinstance(each, Integers)
        }
        once = ((said["static_len"],), (1,))
        order = (
            loops.get(f"static_{what}", other) for what, other in zip(("sizes", "strides"), once, strict=True)
        )
        expected = start.pattern.indices() + start.step * np.arange(start.repeat)[:, None]
        assert np.array_equal(
            visited(tuple(zip(*order, strict=True)), said["static_offset"]), expected.ravel()
        )
        assert task.properties.get("repeat_count", Integer(0)) == Integer(start.repeat - 1)


def test_orders(design: Design) -> None:
    """Of fifos are those of the design, part after part where objects are joined or split."""
    for written, fifo in zip(operations(design, "aie.objectfifo"), design.fifos, strict=True):
        sent, received = (
            written.properties[f"dimensions{way}"] for way in ("ToStream", "FromStreamPerConsumer")
        )
        assert isinstance(sent, Loops)
        assert isinstance(received, LoopsOfEach)
        joins = [link.offsets for link in design.links if link.targets == (fifo.name,)]
        splits = [link.offsets for link in design.links if link.sources == (fifo.name,)]
        for pattern, order, parts in (
            (fifo.sent, sent, joins),
            *((fifo.received, order, splits) for order in received.orders),
        ):
            offsets = sorted(parts[0]) if parts and parts[0] else [0]
            loops = order.loops or ((fifo.block.count // len(offsets), 1),)
            found = np.concatenate([visited(loops, offset) for offset in offsets])
            assert np.array_equal(found, (pattern or whole(fifo.block)).indices())


def test_a_long_sequence() -> None:
    """Is written in seconds: thousands of tasks."""
    design = gemm(Stacks(), (Shape(4096, 512, 4096),))
    began = time.perf_counter()
    written = text(design)
    assert time.perf_counter() - began < 5
    assert written.count("dma_start_task") == 4096


def test_the_release() -> None:
    """Is the one whose dialect this is: another wants its changes looked at."""
    assert MLIR_AIE == "1.4.4"


def with_fifo(design: Design, name: str, **changes: Any) -> Design:
    """A design with one fifo changed."""
    fifos = (replace(fifo, **changes) if fifo.name == name else fifo for fifo in design.fifos)
    return replace(design, fifos=tuple(fifos))


@pytest.mark.parametrize(
    ("design", "said"),
    [
        (replace(passing(), name="to pass"), "no name"),
        (with_fifo(passing(), "arrives", sent=Pattern((4, 4), (-4, 1), 12)), "begins with the first element"),
        (with_fifo(passing(), "leaves", sent=Pattern((4, 4), (-4, 1))), "below 0"),
        (with_fifo(passing(), "leaves", depth=3), "would make 2"),
        (with_fifo(choosing(), "results", sent=Pattern((16, 2, 8), (8, 128, 1))), "one after the other"),
    ],
)
def test_what_cannot_be_said(design: Design, said: str) -> None:
    """Is refused, with what it is: the dialect says less than a design."""
    with pytest.raises(ModelError, match=said):
        text(design)


@pytest.mark.parametrize("loops", [(2, 2, 2, 2), (2, 2, 2, 2, 2)])
def test_a_transfer_of_too_many_loops(loops: tuple[int, ...]) -> None:
    """Is refused: a task has three beside its repetition."""
    design = passing()
    strides = tuple(2 ** (2 * at + 1) for at in reversed(range(len(loops))))
    start = Start("in", "x", Pattern(loops, strides))
    sequence = replace(design.sequences[0], steps=(start,))
    with pytest.raises(ModelError, match="more loops"):
        text(replace(design, sequences=(sequence,)))
