"""A design without cores: what comes in through each shim goes to its memory tile, and out again.

It needs no kernel and no compiler for cores, so where it fails the fault lies with driver, XRT, firmware or packaging.
"""

from __future__ import annotations

from npu.xdna.design import Await, Block, Design, Element, Fifo, Link, Pattern, Sequence, Start, Tile
from npu.xdna.target import NPU1

NAME = "passthrough"  # of the design and of its sequence
_PART = Block(Element.I32, (1024,))  # an object
_PARTS = 4  # objects that each column passes on
WORDS = Block(Element.I32, (NPU1.columns, _PARTS * _PART.count))  # the arguments x and y


def passthrough() -> Design:
    """The design; y becomes x."""
    fifos: list[Fifo] = []
    links: list[Link] = []
    starts: list[Start] = []
    for column in range(NPU1.columns):
        shim, memory = Tile(column, 0), Tile(column, 1)
        inward, outward = f"in{column}", f"out{column}"
        share = Pattern((WORDS.shape[1],), (1,), column * WORDS.shape[1])
        fifos += [Fifo(inward, shim, (memory,), _PART), Fifo(outward, memory, (shim,), _PART)]
        links.append(Link((inward,), (outward,)))
        starts += [Start(inward, "x", share), Start(outward, "y", share)]
    awaits = [Await(f"{way}{column}") for way in ("out", "in") for column in range(NPU1.columns)]
    sequence = Sequence(NAME, {"x": WORDS, "y": WORDS}, (*starts, *awaits))
    return Design(NAME, tuple(fifos), tuple(links), (), (), (sequence,))
