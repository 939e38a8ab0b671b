"""The `amanuensis npu` commands: their words and options. What they do is loaded when it is done."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.options import examples

if TYPE_CHECKING:
    from daemon.model_section import Model
    from npu.xdna.speech_steps import Candidate

app = typer.Typer(
    help=(
        "AMD's NPU of the first generation (XDNA1: Phoenix, Hawk Point): build what runs on it, and bring it up.\n\n"
        "Three words are kept apart: [bold]emulated[/] is what ran on this machine's processor in place of the "
        "NPU, [bold]predicted[/] is what a model of its costs says, and [bold]measured[/] is what hardware did. "
        "Nothing is measured before bringup has passed on yours."
    ),
    epilog=examples(
        ("amanuensis npu predict moonshine-tiny", "how long it would take, and where the time would go"),
        ("amanuensis npu bringup --emulated", "see the steps, without an NPU; needs g++"),
        ("amanuensis npu build", "compile and pack what runs on the NPU; names every tool that is missing"),
        ("amanuensis npu bringup", "try it on the NPU of this machine, step by step"),
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class PricedPrecision(StrEnum):
    """How values are stored and multiplied."""

    BF16 = "bf16"
    INT8 = "int8"


@app.command(
    epilog=examples(
        ("amanuensis npu predict moonshine-tiny", "a live window of 5 s"),
        ("amanuensis npu predict whisper-base --seconds 20", "a shorter window than its usual 30 s"),
        (
            "amanuensis npu predict whisper-base --decoder int8",
            'as npu_decoder = "npu" with npu_precision = "int8" would do',
        ),
        ("amanuensis npu predict whisper-base --precision int8 --batch 16", "in 8 bits, and more at a time"),
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
        PricedPrecision, typer.Option(help="Of the encoder's layers, and of the decoder.")
    ] = PricedPrecision.BF16,
    decoder: Annotated[
        PricedPrecision | None, typer.Option(help="Of the decoder, where it is to be another.")
    ] = None,
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

    of_decoder = None if decoder is None else Precision(decoder.value)
    question = Question(model, seconds, Precision(precision.value), batch, tokens, of_decoder)
    show(answer(question), as_json)


@app.command(
    epilog=examples(
        ("amanuensis npu build", "again after an update: only what has changed is built"),
        ("amanuensis npu build whisper-base", "for a model that was pulled"),
        ("PEANO_INSTALL_DIR=~/llvm-aie amanuensis npu build", "with a compiler that lies elsewhere"),
        (
            "MLIR_AIE_INSTALL_DIR=~/mlir_aie amanuensis npu build",
            "with mlir-aie's aiecc, bootgen and headers",
        ),
        ("AIE_XCLBINUTIL=~/xrt/bin/xclbinutil amanuensis npu build", "with another XRT"),
    )
)
def build(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="Of the catalogue, or a checkpoint's folder. Default: that of the configuration.",
        ),
    ] = None,
) -> None:
    """Compile the kernels for the cores of the NPU, and pack each design for XRT. Packages are kept in the cache.

    npu_decoder and npu_precision of the configuration say what of a model is built.

    What bringup tries before that is built as well.
    """
    from rich.console import Console
    from rich.text import Text

    from daemon.build_progress import BuildSteps
    from daemon.config import Config
    from npu.xdna.bringup import designs_of, steps_of
    from npu.xdna.build import build as make
    from npu.xdna.host_kernels import HostKernels
    from npu.xdna.mlir import text
    from npu.xdna.toolchain import Toolchain

    section = Config.load().model
    candidate = _candidate(model, section)
    toolchain = Toolchain.find()
    console, out = Console(stderr=True, highlight=False), Console(highlight=False)
    with console.status("Measuring how much stack the kernels need"):
        stacks = HostKernels(vector=True).stacks
    for design in designs_of(steps_of(stacks, candidate)):
        with BuildSteps(console, design.name) as steps:
            delivered = make(design, toolchain, text, section.cache_path, steps.show)
        state = "is built" if delivered.made else "was built before, and nothing has changed"
        folder = Path(delivered.built.package).parent
        out.print(Text(f"{design.name} {state}: {folder}"), soft_wrap=True)
    out.print(Text(f"Now try it: amanuensis npu bringup{f' {model}' if model else ''}"), soft_wrap=True)


@app.command(
    epilog=examples(
        ("amanuensis npu bringup", "after: amanuensis npu build"),
        ("amanuensis npu bringup whisper-base", "after: amanuensis npu build whisper-base"),
        ("amanuensis npu bringup --emulated", "the same steps over the emulator: every line says so"),
    )
)
def bringup(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="Of the catalogue, or a checkpoint's folder. Default: that of the configuration.",
        ),
    ] = None,
    emulated: Annotated[
        bool, typer.Option("--emulated", help="Over the emulator, on this processor. Nothing is recorded.")
    ] = False,
) -> None:
    """Try the NPU step by step: device, context, data movement, one kernel, the whole array, and then what a model runs on.

    npu_decoder and npu_precision of the configuration say what that is. Ends where a step fails, with what to try.

    What passes on hardware is recorded for this model in this mode; that alone turns “measured” on.
    """
    from rich.console import Console

    from daemon.bringup_report import Report
    from daemon.config import Config
    from npu.xdna import bringup as bringing
    from npu.xdna.host_kernels import HostKernels
    from npu.xdna.record import keep

    section = Config.load().model
    cache, candidate = section.cache_path, _candidate(model, section)
    console = Console(highlight=False)
    report = Report(console, "EMULATED" if emulated else "")
    with Console(stderr=True).status("Compiling the kernels for this processor"):
        kernels = HostKernels(vector=True)
    steps = bringing.steps_of(kernels.stacks, candidate)
    designs = bringing.designs_of(steps)
    bench = bringing.emulated(designs, kernels) if emulated else bringing.hardware(cache)
    try:
        outcomes = report.walk(steps, bench)
        if outcomes[-1].failure is not None:
            report.say("The steps after it were not tried.")
            raise typer.Exit(1)
        if emulated:
            report.say(
                "All steps passed on the emulator. That says nothing of hardware, and is not recorded."
            )
        else:
            record = bringing.record_of(bench, candidate, outcomes)
            report.say(f"All steps passed. Recorded in {keep(record, cache)}")
    finally:
        bench.close()


def _candidate(model: str | None, section: Model) -> Candidate:
    """A model as the configuration has it run; ModelError where that cannot be."""
    from npu.catalog import resolve
    from npu.embedded import default_cache_dir
    from npu.xdna.speech_steps import Candidate

    cache = section.cache_path or default_cache_dir(lambda _line: None)
    return Candidate(resolve(model or section.name), section.npu, section.models_path, cache)
