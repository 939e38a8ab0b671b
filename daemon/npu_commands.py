"""The `amanuensis npu` commands: their words and options. What they do is loaded when it is done."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from daemon.options import examples

app = typer.Typer(
    help="AMD's NPU (XDNA1: Phoenix, Hawk Point): what is emulated here, predicted, and one day measured.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class DecoderPrecision(StrEnum):
    """How a decoder's values are stored and multiplied."""

    BF16 = "bf16"
    INT8 = "int8"


@app.command(
    epilog=examples(
        ("amanuensis npu predict moonshine-tiny", "a live window of 5 s"),
        ("amanuensis npu predict whisper-base --seconds 20", "a shorter window than its usual 30 s"),
        ("amanuensis npu predict whisper-base --precision int8 --batch 16", "recordings, decoded faster"),
    )
)
def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Of the catalogue, or a checkpoint's folder.")
    ],
    seconds: Annotated[
        float | None,
        typer.Option(help="Length of a window. Default: 30, which is Whisper's; 5 for Moonshine."),
    ] = None,
    precision: Annotated[
        DecoderPrecision,
        typer.Option(help="Of the decoder's matrices, keys and values. The encoder is in bf16."),
    ] = DecoderPrecision.BF16,
    batch: Annotated[
        int, typer.Option(min=1, max=64, help="Windows of recordings decoded side by side.")
    ] = 8,
    tokens: Annotated[
        int | None, typer.Option(min=1, max=448, help="Of a window. Default: 3 for each second.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, on standard output.")] = False,
) -> None:
    """Predict how long a model would take on an NPU, and where the time would go. Nothing is measured, or run."""
    from daemon.npu_forecast import show
    from npu.xdna.forecast import Precision
    from npu.xdna.prediction import Question
    from npu.xdna.prediction import predict as answer

    show(answer(Question(model, seconds, Precision(precision.value), batch, tokens)), as_json)
