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


def test_what_needs_no_result() -> None:
    """Headers, weights and what the host keeps: not what comes after others on its channel. Results need none either."""
    header, weights, kept = (
        Start("A0", "headers", ONE),
        Start("B0", "constants", ONE),
        Start("B0", "kept", ONE),
    )
    rows, other, result = Start("A0", "work", ONE), Start("B0", "work", ONE), Start("C0", "work", ONE)
    moves = Moves("kept")
    moves.together(lambda i: iter([header, rows, weights, kept, other, weights, result] if i == 0 else ()))
    assert moves.steps == [header, weights, kept, result, rows, other, weights]
    assert (moves.ahead, moves.first) == (4, 3)


def test_rows_of_several_shims() -> None:
    """Come before what is added to their products."""
    moves = Moves()
    moves.together(lambda i: iter([Start(f"B{i}", "work", ONE), Start(f"A{i}", "work", ONE)]))
    assert [start.fifo for start in moves.steps] == ["A0", "A1", "A2", "A3", "B0", "B1", "B2", "B3"]
    assert (moves.ahead, moves.first) == (0, 8)


def test_results_without_rows() -> None:
    """Are not asked for ahead: nobody knows what still reads the memory that they go to."""
    moves = Moves()
    moves.together(lambda i: iter([Start(f"A{i}", "headers", ONE), Start(f"C{i}", "work", ONE)]))
    assert (moves.ahead, moves.first) == (4, 4)
