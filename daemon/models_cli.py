"""The `amanuensis models` commands: their words and options. What they do is loaded when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daemon.options import ConfigFile, examples

app = typer.Typer(
    help="Models on this machine: pull them from the Hugging Face hub, list, check and remove them.",
    epilog=examples(
        ("amanuensis models list", "what is here, and what the catalogue has"),
        ("amanuensis models pull whisper-base", "99 languages, 295 MB; fetched once"),
        ("amanuensis transcribe talk.mp3 --model whisper-base", "use it"),
        ("amanuensis serve --model whisper-base", r"or set name in \[model] of config.toml"),
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Of the catalogue, or owner/name of a repository of the hub."),
]


@app.command(
    epilog=examples(
        ("amanuensis models pull whisper-base", "again after an interruption: it goes on where it stopped"),
        ("amanuensis models pull whisper-large-v3-turbo distil-small.en", "one after the other"),
        ("amanuensis models pull somebody/whisper-small-nl", "any checkpoint in safetensors"),
        ("amanuensis models pull whisper-base --revision main", "the latest, in place of what is here"),
        ("HF_ENDPOINT=https://hub.example amanuensis models pull whisper-base", "from another hub"),
        ("HF_TOKEN=hf_... amanuensis models pull somebody/private", "what an account is needed for"),
    )
)
def pull(
    names: Names,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit. Default: what is here already, else the main branch."),
    ] = None,
    build: Annotated[
        bool, typer.Option("--build/--no-build", help="Prepare the model, so that its first use is quick.")
    ] = True,
    config: ConfigFile = None,
) -> None:
    """Fetch models from the Hugging Face hub. Every file is checked against the hash that the hub states."""
    from daemon import model_commands

    raise typer.Exit(model_commands.pull_all(names, revision, build, config))


@app.command("list", epilog=examples(("amanuensis models list --json", "for programs")))
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, on standard output.")] = False,
    config: ConfigFile = None,
) -> None:
    """List the models that are here, and those of the catalogue."""
    from daemon import model_commands

    model_commands.show_all(as_json, config)


@app.command(
    epilog=examples(
        (
            "amanuensis models show whisper-base",
            "where it is from, its size, the shapes of its network, its files",
        ),
        ("amanuensis models show ./my-checkpoint", "a folder, too"),
    )
)
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a model, or a checkpoint's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, on standard output.")] = False,
    config: ConfigFile = None,
) -> None:
    """Say what is known of a model."""
    from daemon import model_commands

    model_commands.show(name, as_json, config)


@app.command(
    epilog=examples(
        ("amanuensis models path whisper-base", "the folder with its files"),
        (
            "rsync -a $(amanuensis models path whisper-base) other:checkpoints/",
            "for a machine without a network",
        ),
    )
)
def path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a model that is here.")],
    config: ConfigFile = None,
) -> None:
    """Print the folder of a model."""
    from daemon import model_commands

    model_commands.path(name, config)


@app.command(
    epilog=examples(
        ("amanuensis models remove whisper-base", "asks; also gives up a pull that was interrupted"),
        ("amanuensis models remove whisper-base --yes", "asks nothing, for scripts"),
    )
)
def remove(
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigFile = None,
) -> None:
    """Delete pulled models from this machine."""
    from daemon import model_commands

    model_commands.remove(names, yes, config)


@app.command(
    epilog=examples(
        ("amanuensis models verify whisper-base", "reads every file and compares its hash"),
        ("amanuensis models verify", "all of them"),
    )
)
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Of models. Default: all that are here.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Check that models are whole, byte for byte."""
    from daemon import model_commands

    raise typer.Exit(model_commands.verify(names or [], config))


@app.command(
    epilog=examples(
        ("amanuensis models quantize moonshine-tiny", "a minute or two; the recordings are the package's"),
        ("amanuensis models quantize whisper-base --audio talk.mp3 --audio call.wav", "compared on your own"),
        ("amanuensis models quantize whisper-base --calibration nederlands/", "for the speech it will hear"),
        ("amanuensis models quantize moonshine-tiny --report report.json", "every figure, and all texts"),
    )
)
def quantize(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="Of a model, or a checkpoint's folder.")],
    audio: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Recording, or a folder of them, to compare on; may be repeated."),
    ] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Recording, or a folder of them, that scales are chosen by, the first minute of each; may be repeated."
            " Take others than those compared on.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures and texts here as well, as JSON.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Put a model's encoder into the NPU's 8 bits, and say how close the model is to float32.

    Weights get a scale for each output channel, activations one for each frame, found as they come. The result is kept
    in the cache; the same model and recordings are not quantised again. The decoder needs no calibration: it is compared
    with its weights in 8 bits as well, with and without the encoder. All of that is computed by the CPU.
    """
    from daemon import quantising

    quantising.quantize(name, audio or [], calibration or [], report, config)
