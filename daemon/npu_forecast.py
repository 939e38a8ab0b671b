"""How a prediction looks: a table of stages, a chart of where time goes, and what it adds up to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from npu.xdna.cost import AS_WRITTEN, RECONFIGURATION_S, Estimate
from npu.xdna.forecast import Transcription, times_real_time
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
    console.print(_stages(expected))
    console.print("\nWhere the time of a window of a recording goes")
    console.print(_chart(expected))
    console.print()
    console.print(_machines(prediction))
    console.print()
    for sentence in _sentences(prediction):
        console.print(Text(sentence))


def described(prediction: Prediction) -> dict[str, Any]:
    """As JSON: times in milliseconds, as [low, expected, high]."""
    expected = prediction.expected
    return {
        "evidence": "predicted",
        "measured": None,
        "model": prediction.model,
        "seconds": prediction.seconds,
        "states": prediction.states,
        "dispatches": expected.encoding.dispatches,
        "units": expected.encoding.units,
        "encoder_precision": "bf16",
        "decoder_precision": expected.precision.value,
        "batch": expected.batch,
        "tokens": expected.tokens,
        "stages": [
            {
                "name": row.name,
                "stages": row.stages,
                "products": row.products,
                "bytes": row.bytes,
                "tasks": row.tasks,
                "ms": _milliseconds(row.time),
                "bound": row.bound.value,
            }
            for row in expected.encoding.rows()
        ],
        "features_ms": None if prediction.features is None else _milliseconds(prediction.features.time),
        "machines": [
            {
                "name": each.encoding.machine.name,
                "encoder_ms": _milliseconds(each.encoding.time),
                "preparation_ms": _milliseconds(each.preparation),
                "decoding_ms": _milliseconds(each.decoding),
                "window_ms": _milliseconds(each.time),
                "times_real_time": _numbers(times_real_time(each.seconds, each.time)),
            }
            for each in prediction.found
        ],
    }


def _stages(found: Transcription) -> Table:
    table = Table(
        "Encoder", "", "MMAC", "MB", "Tasks", "ms", "low to high", "Bound by", box=None, pad_edge=False
    )
    for at in range(1, 7):
        table.columns[at].justify = "right"
    rows = found.encoding.rows()
    for row in rows:
        table.add_row(
            Text(row.name),
            f"×{row.stages}" if row.stages > 1 else "",
            f"{row.products / 1e6:,.0f}" if row.products else "",
            f"{row.bytes / 1e6:.1f}",
            f"{row.tasks:,}",
            *_cells(row.time),
            row.bound.value,
        )
    table.add_row(
        "dispatches", f"×{found.encoding.dispatches}", "", "", "", *_cells(found.encoding.dispatching)
    )
    table.add_row(
        "all of it",
        "",
        f"{sum(row.products for row in rows) / 1e6:,.0f}",
        f"{sum(row.bytes for row in rows) / 1e6:.1f}",
        f"{sum(row.tasks for row in rows):,}",
        *_cells(found.encoding.time),
        style="bold",
    )
    return table


def _chart(found: Transcription) -> Table:
    parts = [(row.name, row.time) for row in found.encoding.rows()]
    parts.append(("dispatches", found.encoding.dispatching))
    parts.append(("decoder: keys and values", found.preparation))
    parts.append((f"decoder: {found.tokens} tokens", found.decoding))
    most = max(time.expected for _, time in parts)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, min_width=BAR)
    table.add_column(justify="right", no_wrap=True)
    for name, time in parts:
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
        speed = times_real_time(each.seconds, each.time)
        table.add_row(
            Text(each.encoding.machine.name),
            *_cells(each.encoding.time),
            f"{speed.expected:,.0f}",
            f"{speed.low:,.0f} to {speed.high:,.0f}",
            style="bold" if each is prediction.expected else "",
        )
    return table


def _sentences(prediction: Prediction) -> Iterator[str]:
    expected = prediction.expected
    encoding = expected.encoding
    live = times_real_time(expected.seconds, encoding.time)
    yield (
        f"Live: {_said(encoding.time)} for the encoder, {live.expected:,.0f} times real time, in {encoding.dispatches}"
        f" dispatches; as a list of {encoding.units} runs those would take {_said(encoding.listed)} instead of"
        f" {_said(encoding.dispatching)}. What the CPU does is not counted: features, and all of the decoder."
    )
    if prediction.features is not None:
        yield (
            f"Features: log-mel on the NPU would take {_said(prediction.features.time)}, and loading its overlay, then"
            f" the encoder's again, {RECONFIGURATION_S * 1000:.1f} ms each: none of it is counted."
        )
    yield (
        f"Recordings: {expected.batch} windows are decoded side by side, {expected.tokens} tokens each, in"
        f" {expected.precision.value}; a window takes {_said(expected.time)}. The decoder has no design yet: it is"
        " priced by the bytes it reads. Speeds (×) are times real time."
    )
    written = prediction.on(AS_WRITTEN)
    yield (
        "As written: the kernels' loops of softmax, and of what follows a product, have no vectors yet, and cores do"
        f" float arithmetic without them in software. The encoder would take {_said(written.encoding.time)}; all other"
        " figures take these loops to have vectors."
    )
    yield (
        "Bounds: products are held to published times, within 16 %. All else may take half as long or three times as"
        " long, and bounds are added up as if all of it erred the same way."
    )


def _cells(time: Estimate) -> tuple[str, str]:
    low, expected, high = _milliseconds(time)
    return f"{expected:.2f}", f"{low:.2f} to {high:.2f}"


def _said(time: Estimate) -> str:
    low, expected, high = _milliseconds(time)
    return f"{expected:.1f} ms ({low:.1f} to {high:.1f})"


def _milliseconds(time: Estimate) -> list[float]:
    return _numbers(time.times(1000))


def _numbers(value: Estimate) -> list[float]:
    return [round(each, 4) for each in (value.low, value.expected, value.high)]
