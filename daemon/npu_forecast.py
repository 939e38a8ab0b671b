"""How a prediction looks: tables of stages, a chart of where time goes, and what it adds up to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from npu.xdna.cost import RECONFIGURATION_S, Estimate
from npu.xdna.forecast import Precision, Row, rows, times_real_time, total
from npu.xdna.goals import goal_of
from npu.xdna.prediction import Prediction

EVIDENCE = "PREDICTED by a cost model, never measured: nobody has run this on an NPU."
BAR = 32  # characters of the longest


def show(prediction: Prediction, as_json: bool) -> None:
    """On standard output."""
    if as_json:
        Console(highlight=False, soft_wrap=True).print(Text(json.dumps(described(prediction), indent=1)))
        return
    console = Console(highlight=False)
    expected = prediction.expected
    console.print(
        Text(f"{prediction.model}, a window of {prediction.seconds:g} s, on {expected.encoding.machine.name}")
    )
    console.print(Text(EVIDENCE, style="bold"))
    console.print()
    encoding, decoding = expected.encoding, expected.decoding
    more = [("dispatches", encoding.dispatches, encoding.dispatching)]
    if encoding.exchanges:
        more.append(("overlays loaded", encoding.exchanges, encoding.loading))
    console.print(_stages("Encoder", rows(encoding.stages), more))
    console.print()
    one = [("dispatches", 1, encoding.machine.dispatch)]
    console.print(_stages(f"A pass for {_counted(decoding.batch, 'token')}", rows(decoding.stages), one))
    console.print("\nWhere the time of a window of a recording goes")
    console.print(_chart(prediction))
    console.print()
    console.print(_machines(prediction))
    console.print()
    for sentence in _sentences(prediction):
        console.print(Text(sentence))


def described(prediction: Prediction) -> dict[str, Any]:
    """As JSON: times in milliseconds, as [low, expected, high]."""
    expected, goal = prediction.expected, goal_of(prediction)
    return {
        "evidence": "predicted",
        "measured": None,
        "model": prediction.model,
        "seconds": prediction.seconds,
        "states": prediction.lockstep.states,
        "dispatches": expected.encoding.dispatches,
        "units": expected.encoding.units,
        "exchanges": expected.encoding.exchanges,
        "encoder_precision": prediction.precision.value,
        "decoder_precision": prediction.decoder.value,
        "batch": prediction.lockstep.batch,
        "tokens": prediction.lockstep.tokens,
        "stages": [_described(row) for row in rows(expected.encoding.stages)],
        "decoder_stages": [_described(row) for row in rows(expected.decoding.stages)],
        "goal": None if goal is None else {"words": goal.words, "verdict": goal.verdict.value},
        "machines": [
            {
                "name": each.encoding.machine.name,
                "encoder_ms": _milliseconds(each.encoding.time),
                "preparation_ms": _milliseconds(each.decoding.preparation),
                "opening_ms": _milliseconds(each.decoding.opening),
                "decoding_ms": _milliseconds(each.decoding.share),
                "window_ms": _milliseconds(each.time),
                "times_real_time": _numbers(each.speed),
            }
            for each in prediction.found
        ],
    }


def _described(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "stages": row.stages,
        "products": row.products,
        "bytes": row.bytes,
        "tasks": row.tasks,
        "ms": _milliseconds(row.time),
        "bound": row.bound.value,
    }


def _stages(title: str, found: Sequence[Row], more: Sequence[tuple[str, int, Estimate]]) -> Table:
    """more: what is no stage, and how often it comes."""
    table = Table(title, "", "MMAC", "MB", "Tasks", "ms", "low to high", "Bound by", box=None, pad_edge=False)
    for at in range(1, 7):
        table.columns[at].justify = "right"
    for row in found:
        table.add_row(
            Text(row.name),
            f"×{row.stages}" if row.stages > 1 else "",
            f"{row.products / 1e6:,.0f}" if row.products else "",
            f"{row.bytes / 1e6:.1f}",
            f"{row.tasks:,}",
            *_cells(row.time),
            row.bound.value,
        )
    for name, times, time in more:
        table.add_row(name, f"×{times}" if times > 1 else "", "", "", "", *_cells(time))
    table.add_row(
        "all of it",
        "",
        f"{sum(row.products for row in found) / 1e6:,.0f}",
        f"{sum(row.bytes for row in found) / 1e6:.1f}",
        f"{sum(row.tasks for row in found):,}",
        *_cells(total([*(row.time for row in found), *(time for _, _, time in more)])),
        style="bold",
    )
    return table


def _chart(prediction: Prediction) -> Table:
    found = prediction.expected
    decoding = found.decoding
    parts = [(row.name, row.time) for row in rows(found.encoding.stages)]
    parts.append(("dispatches", found.encoding.dispatching))
    parts.append(("overlays loaded", found.encoding.loading))
    parts.append(("decoder: keys and values", decoding.preparation))
    parts.append(("decoder: opening", decoding.opening))
    parts.append((f"decoder: {_counted(prediction.lockstep.tokens, 'token')}", decoding.share))
    most = max(time.expected for _, time in parts)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, min_width=BAR)
    table.add_column(justify="right", no_wrap=True)
    for name, time in parts:
        if time.expected:
            bar = "█" * round(BAR * time.expected / most) or "▏"
            table.add_row(Text(name), bar, f"{time.expected / found.time.expected:.0%}")
    return table


def _machines(prediction: Prediction) -> Table:
    table = Table(
        "On", "Encoder, ms", "low to high", "Recordings, ×", "low to high", box=None, pad_edge=False
    )
    table.columns[0].no_wrap = True
    for at in range(1, 5):
        table.columns[at].justify = "right"
    for each in prediction.found:
        speed = each.speed
        table.add_row(
            Text(each.encoding.machine.name),
            *_cells(each.encoding.time),
            f"{speed.expected:,.0f}",
            f"{speed.low:,.0f} to {speed.high:,.0f}",
            style="bold" if each is prediction.expected else "",
        )
    return table


def _sentences(prediction: Prediction) -> Iterator[str]:
    goal = goal_of(prediction)
    if goal is not None:
        yield f"Goal: {goal.words}: {goal.verdict}."
    yield from _of_encoder(prediction)
    yield from _of_decoder(prediction)
    yield (
        "Bounds: products are held to published times, within 16 %. All else may take half as long or three times as"
        " long, and bounds are added up as if all of it erred the same way."
    )


def _of_encoder(prediction: Prediction) -> Iterator[str]:
    expected = prediction.expected
    encoding, decoding = expected.encoding, expected.decoding
    live = times_real_time(expected.seconds, encoding.time)
    yield (
        f"Live: {_said(encoding.time)} for the encoder, {live.expected:,.0f} times real time, in {encoding.dispatches}"
        f" dispatches; as a list of {encoding.units} runs those would take {_said(encoding.listed)} instead of"
        f" {_said(encoding.dispatching)}. Keys and values of its states, and a pass of the decoder, would be"
        f" {_said(decoding.preparation + decoding.alone)} more. What the CPU does is not counted."
    )
    if encoding.exchanges:
        yield (
            "In 8 bits are the encoder's layers. The convolutions before them are in bf16, on an overlay of their own:"
            f" loading one, then the other, takes {RECONFIGURATION_S * 1000:.1f} ms each, for every window."
        )


def _of_decoder(prediction: Prediction) -> Iterator[str]:
    expected, lockstep = prediction.expected, prediction.lockstep
    yield (
        f"Recordings: {_counted(lockstep.batch, 'window')} side by side, {_counted(lockstep.tokens, 'token')} each; a"
        f" window takes {_said(expected.time)}. Speeds (×) are times real time."
    )
    passes = [
        f"{_counted(count, 'pass', 'passes')} {whose}"
        for count, whose in ((lockstep.together, "of all windows"), (lockstep.alone, "of each window alone"))
        if count
    ]
    opening = f" Its opening takes {' and '.join(passes)} before." if passes else ""
    eight = ", with weights and the windows' keys and values in 8 bits"
    yield (
        f"The decoder is in {prediction.decoder}{eight if prediction.decoder is Precision.INT8 else ''}: a pass is one"
        f" dispatch, and gives a token to each window.{opening}"
    )


def _counted(count: int, one: str, several: str = "") -> str:
    return f"{count} {one}" if count == 1 else f"{count} {several or one + 's'}"


def _cells(time: Estimate) -> tuple[str, str]:
    low, expected, high = map(_short, _milliseconds(time))
    return expected, f"{low} to {high}"


def _short(number: float) -> str:
    """With three digits, or all that are before the point."""
    return f"{number:,.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"


def _said(time: Estimate) -> str:
    low, expected, high = _milliseconds(time)
    return f"{expected:.1f} ms ({low:.1f} to {high:.1f})"


def _milliseconds(time: Estimate) -> list[float]:
    return _numbers(time.times(1000))


def _numbers(value: Estimate) -> list[float]:
    return [round(each, 4) for each in (value.low, value.expected, value.high)]
