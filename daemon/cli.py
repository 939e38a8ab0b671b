"""The `amanuensis` command: its words and options. What they do is loaded when it is done."""

from __future__ import annotations

from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from clients.address import DEFAULT_URL
from daemon import models_cli, npu_commands, voices_cli
from daemon.options import ConfigFile, Session, Speakers, Token, Url
from daemon.options import examples as _examples

app = typer.Typer(
    help="Live captions: a daemon that turns a microphone or a socket into text, and the tools around it.",
    epilog=_examples(
        ("amanuensis listen", "captions of your microphone, here and now"),
        ("amanuensis stream talk.mp3 --speed 0", "transcribe a recording, as fast as it goes"),
        ("amanuensis serve", "the daemon, with its web page on http://127.0.0.1:9004/web"),
        ("amanuensis doctor", "what this machine can do, and what is missing"),
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)

app.add_typer(voices_cli.app, name="voices")
app.add_typer(models_cli.app, name="models")
app.add_typer(npu_commands.app, name="npu")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"amanuensis {metadata.version('amanuensis')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command(
    epilog=_examples(
        ("amanuensis serve", "on http://127.0.0.1:9004"),
        ("amanuensis serve --port 0", "on any free port; the log says which"),
        ("amanuensis serve --host 0.0.0.0 --config captions.toml", "for the whole network; give it tokens"),
    )
)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1")] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0 takes a free one. Default: 9004", min=0, max=65_535),
    ] = None,
    config: ConfigFile = None,
    model: Annotated[str | None, typer.Option(help="Model to run. Default: moonshine-tiny")] = None,
    device: Annotated[
        str | None, typer.Option(help="What to run it on: auto, cpu or npu. Default: auto")
    ] = None,
) -> None:
    """Run the daemon until Ctrl-C or SIGTERM."""
    from daemon.config import Config
    from daemon.port import check_free
    from daemon.server import serve as run

    loaded = Config.load(config, host=host, port=port, model=model, device=device)
    check_free(loaded.server.host, loaded.server.port)
    raise typer.Exit(run(loaded))


@app.command(
    epilog=_examples(
        ("amanuensis listen", "the default microphone"),
        ("amanuensis listen --device USB", "the one with “USB” in its name; see: amanuensis devices"),
        ("amanuensis listen > notes.txt", "only the finished lines, into a file"),
    )
)
def listen(
    device: Annotated[
        str | None, typer.Option(help="Microphone: its name, a part of it, or its number.")
    ] = None,
    url: Url = DEFAULT_URL,
    session: Session = None,
    token: Token = None,
    speakers: Speakers = None,
) -> None:
    """Captions of a microphone in this terminal. Starts a daemon of its own when none is running."""
    from daemon import captioning

    _run(captioning.listen(device, url, session, token, speakers))


@app.command(
    epilog=_examples(
        ("amanuensis stream talk.mp3", "at the speed it was spoken"),
        ("amanuensis stream *.wav --speed 0", "one after the other, as fast as it goes"),
        ("amanuensis stream talk.mp3 --speed 0 --output talk.srt", "subtitles"),
    )
)
def stream(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings of any usual kind.")],
    url: Url = DEFAULT_URL,
    speed: Annotated[
        float, typer.Option(help="Times real time; 0 is as fast as the daemon takes it.", min=0.0)
    ] = 1.0,
    session: Session = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the transcript there: .txt .srt .vtt .md or .json"),
    ] = None,
    token: Token = None,
    speakers: Speakers = None,
) -> None:
    """Send recordings to a daemon and show the captions."""
    from daemon import captioning

    _run(captioning.stream_files(files, url, speed, session, output, token, speakers))


class Diarizer(StrEnum):
    """Who tells speakers apart."""

    EMBEDDED = "embedded"
    PYANNOTE = "pyannote"


class TaskName(StrEnum):
    """What is made of speech."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


_FILES, _SPEECH, _SPEAKERS, _MACHINE = "What is written", "What is said", "Who speaks", "What does the work"


@app.command(
    epilog=_examples(
        ("amanuensis transcribe talk.mp3", "the text, here; add “> talk.txt” to keep it"),
        ("amanuensis transcribe lecture.mp4 --format srt", "subtitles of a video: lecture.srt beside it"),
        ("amanuensis transcribe talk.mp3 --diarize", "with a speaker before each line: S1, S2, ..."),
        (
            "amanuensis transcribe meetings/ --diarize --format md,srt",
            "a folder; run it again to do what is left, or is new",
        ),
        ("amanuensis transcribe *.wav --format json --words --output-dir out", "word times, for programs"),
        (
            "amanuensis transcribe interview.m4a --model whisper-base --language de --task translate",
            "German speech, English text",
        ),
        (
            "amanuensis transcribe standup.wav --vocabulary 'Kubernetes,Ngozi' --vocabulary @names.txt",
            "words that are likely here",
        ),
        ("ffmpeg -i rtsp://door -t 60 -f wav - | amanuensis transcribe -", "from standard input"),
        (
            "amanuensis transcribe talk.mp3 --max-speakers 2 --diarizer pyannote",
            r"needs amanuensis\[pyannote]",
        ),
    )
)
def transcribe(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="Recordings, videos, folders of them, or - for standard input."
        ),
    ],
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="txt, srt, vtt, json, md; several with commas. Default: text, of one recording here.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "-o",
            help="Where files go. Default: beside the recordings.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    words: Annotated[
        bool,
        typer.Option("--words", help="Times of words: in json, and within vtt cues.", rich_help_panel=_FILES),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Begin anew. Otherwise what is done is left out, and interrupted work goes on.",
            rich_help_panel=_FILES,
        ),
    ] = False,
    language: Annotated[
        str | None,
        typer.Option(
            help="Language spoken: de, German. Default: what the model hears.", rich_help_panel=_SPEECH
        ),
    ] = None,
    task: Annotated[
        TaskName, typer.Option(help="translate: into English.", rich_help_panel=_SPEECH)
    ] = TaskName.TRANSCRIBE,
    prompt: Annotated[
        str,
        typer.Option(
            help="What might have been said before: spelling, names, style.", rich_help_panel=_SPEECH
        ),
    ] = "",
    vocabulary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORDS|@FILE",
            help="Words and phrases that are likely here, with commas; or a file, one a line.",
            rich_help_panel=_SPEECH,
        ),
    ] = None,
    track: Annotated[
        int,
        typer.Option(min=1, max=1000, help="Which of several audio tracks.", rich_help_panel=_SPEECH),
    ] = 1,
    diarize: Annotated[
        bool, typer.Option("--diarize", help="Say who speaks: S1, S2, ...", rich_help_panel=_SPEAKERS)
    ] = False,
    min_speakers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="At least so many speakers; implies --diarize.",
            rich_help_panel=_SPEAKERS,
        ),
    ] = None,
    max_speakers: Annotated[
        int | None,
        typer.Option(
            min=1, max=100, help="At most so many speakers; implies --diarize.", rich_help_panel=_SPEAKERS
        ),
    ] = None,
    diarizer: Annotated[
        Diarizer, typer.Option(help="What tells speakers apart.", rich_help_panel=_SPEAKERS)
    ] = Diarizer.EMBEDDED,
    diarizer_model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|ID",
            help="pyannote's pipeline: a folder, or a name on the hub.",
            rich_help_panel=_SPEAKERS,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model to run. Default: moonshine-tiny", rich_help_panel=_MACHINE)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="What to run it on: auto, cpu or npu. Default: auto", rich_help_panel=_MACHINE),
    ] = None,
    vad: Annotated[
        bool,
        typer.Option(
            help="Find the speech first. Without, a Whisper model goes through everything by its own timestamps: for"
            " singing, or voices that a detector misses.",
            rich_help_panel=_MACHINE,
        ),
    ] = True,
    beam: Annotated[
        int,
        typer.Option(
            min=1,
            max=16,
            help="Hypotheses kept side by side: slower, sometimes better.",
            rich_help_panel=_MACHINE,
        ),
    ] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=2.0,
            help="Of sampling. Default: 0, and more where that is implausible.",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=16,
            help="Windows decoded in lockstep; fewer need less memory. Default: 16; 8 where each is of 30 s.",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Transcribe recordings, as fast as this machine can. Needs no daemon, and no network.

    A run that was interrupted, by Ctrl-C or worse, goes on where it was when the same command is given again.
    """
    from daemon.config import Config
    from daemon.transcribing import Request, run

    request = Request(
        paths=tuple(paths),
        formats=formats,
        output_dir=output_dir,
        overwrite=overwrite,
        words=words,
        language=language,
        task=task.value,
        prompt=prompt,
        vocabulary=tuple(vocabulary or ()),
        detect=vad,
        beam=beam,
        temperature=temperature,
        batch=batch,
        track=track,
        diarize=diarize or min_speakers is not None or max_speakers is not None,
        diarizer=diarizer.value,
        diarizer_model=diarizer_model,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
    )
    raise typer.Exit(run(request, Config.load(config, model=model, device=device)))


@app.command(epilog=_examples(("amanuensis watch monday", "what is being said in the session “monday”")))
def watch(
    session: Annotated[str, typer.Argument(help="Name of the session.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Follow a session that someone else produces."""
    from daemon import captioning

    _run(captioning.watch_session(session, url, token))


@app.command()
def devices() -> None:
    """List the microphones of this machine."""
    from rich.console import Console
    from rich.table import Table

    from clients.microphone import list_microphones
    from streaming.errors import CaptureError

    microphones = list_microphones()
    if not microphones:
        raise CaptureError(
            "This machine has no microphone. Plug one in, or transcribe a recording: amanuensis stream FILE"
        )
    table = Table("", "Name", "Channels", "Rate", box=None, pad_edge=False)
    for microphone in microphones:
        table.add_row(
            "default" if microphone.is_default else str(microphone.index),
            microphone.name,
            str(microphone.channels),
            f"{microphone.default_rate:.0f} Hz",
        )
    Console().print(table)


@app.command()
def doctor(url: Url = DEFAULT_URL, config: ConfigFile = None) -> None:
    """Say what this machine can do, what is missing, and the command that fixes it."""
    from daemon.doctor import examine, report

    raise typer.Exit(report(examine(url, config)))


@app.command()
def demo() -> None:
    """Live captions of a recording of two people, from a daemon of its own. Takes half a minute."""
    from daemon.demo import run

    _run(run())


def _run(coroutine: Coroutine[Any, Any, object]) -> None:
    import asyncio

    asyncio.run(coroutine)
