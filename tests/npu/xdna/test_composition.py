"""Transfers of a stage: which are awaited, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from npu.xdna.composition import Moves
from npu.xdna.design import Await, Pattern, Start

ONE = Pattern((64,), (1,))


def some(**counts: int) -> list[Start]:
    """Transfers of the first shim's fifos."""
    return [Start(fifo, "work", ONE) for fifo, count in counts.items() for _ in range(count)]


def of_first(**counts: int) -> Callable[[int], Iterator[Start]]:
    """The same, of a group that other shims have no part in."""
    return lambda i: iter(some(**counts) if i == 0 else ())


def moved(*groups: dict[str, int]) -> list[Start | Await]:
    """Steps for them."""
    moves = Moves()
    for counts in groups:
        moves.together(of_first(**counts))
    return moves.steps


SPAN = {"C0": 1, "A0": 2, "B0": 1}


def test_spans_that_roll() -> None:
    """Only a full queue is awaited, and the newest span goes on; of others all that there is at once."""
    spans = some(**SPAN)
    two_more = [Await("A0", 2), *spans, Await("A0", 2), *spans]
    full = [Await("A0", 2), Await("B0", 1), Await("C0", 1), *spans]
    assert moved(*[SPAN] * 5) == [*spans, *spans, *two_more, *full]


def test_a_span_that_needs_more_room() -> None:
    """So many of the newest are awaited, too."""
    large = {"A0": 3, "B0": 4}
    assert moved(SPAN, SPAN, large)[8:] == [Await("A0", 1), Await("B0"), *some(**large)]


def test_transfers_that_go_on() -> None:
    """Those of their own fifos are awaited, and no result, because there is none before they are done."""
    further = {"B0": 4}
    assert moved(SPAN, further, SPAN) == [
        *some(**SPAN),
        Await("B0"),
        *some(**further),
        Await("B0", 3),
        *some(**SPAN),
    ]


def test_the_end() -> None:
    """Everything is awaited, results last, and nothing again."""
    moves = Moves()
    moves.together(of_first(**SPAN))
    moves.settle()
    moves.settle()
    assert moves.steps == [*some(**SPAN), Await("A0"), Await("B0"), Await("C0")]


def test_the_first_transfers() -> None:
    """Are those of the first group, whatever comes later."""
    moves = Moves()
    for _ in range(2):
        moves.together(of_first(**SPAN))
    assert moves.first == 4
