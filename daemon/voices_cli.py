"""The `amanuensis voices` commands: their words and options. What they do is loaded when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clients.address import DEFAULT_URL
from daemon.options import ConfigFile, Token, Url, examples

app = typer.Typer(
    help="People who are labelled by name: enrol them, list them, forget them.",
    epilog=examples(
        ("amanuensis voices enroll Nell nell.wav", "from a recording of Nell alone, if she agrees"),
        ("amanuensis voices list", "who is enrolled"),
        ("amanuensis voices remove Nell", "her voice is forgotten"),
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Elsewhere = Annotated[
    str | None,
    typer.Option("--url", help="Ask the daemon at this address. Default: the file of this machine and user."),
]


@app.command(
    epilog=examples(
        (
            "amanuensis voices enroll Nell nell.wav",
            "six seconds or more of one voice; asks whether Nell agrees",
        ),
        ("amanuensis voices enroll Nell monday.wav tuesday.wav", "several recordings make it surer"),
        (
            "amanuensis voices enroll Nell --session monday --speaker S2",
            "who is S2 in a session that is live, or has just ended",
        ),
        ("amanuensis voices enroll Nell nell.wav --consent --yes", "asks nothing, for scripts"),
    )
)
def enroll(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the person is called in transcripts.")],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Recordings of the person alone.")
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="A session of a running daemon, in place of recordings ...")
    ] = None,
    speaker: Annotated[str | None, typer.Option(help="... and who it is there: S1, S2, ...")] = None,
    consent: Annotated[bool, typer.Option("--consent", help="The person has agreed; do not ask.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Replace the voice that has the name; do not ask.")
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    config: ConfigFile = None,
) -> None:
    """Label somebody by name from now on. Only with their consent."""
    from daemon.enrolling import Person, enrol_recordings, enrol_speaker
    from streaming.errors import ConfigError

    person = Person(name, consent, yes)
    if session is not None or speaker is not None:
        if files or session is None or speaker is None:
            raise ConfigError(
                "Say who it is in one way: FILE..., or both --session and --speaker. "
                "See: amanuensis voices enroll --help"
            )
        enrol_speaker(person, session, speaker, url, token)
    elif files:
        enrol_recordings(person, files, config)
    else:
        raise ConfigError(
            "Say how the person sounds: recordings, or --session and --speaker. "
            "See: amanuensis voices enroll --help"
        )


@app.command("list", epilog=examples(("amanuensis voices list", "names, and how they came to be there")))
def list_voices(url: Elsewhere = None, token: Token = None, config: ConfigFile = None) -> None:
    """List the people who are labelled by name."""
    from daemon import enrolling

    enrolling.show(url, token, config)


@app.command(epilog=examples(("amanuensis voices remove Nell", "live sessions stop using the name, too")))
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As it is in the list.")],
    url: Elsewhere = None,
    token: Token = None,
    config: ConfigFile = None,
) -> None:
    """Forget somebody's voice."""
    from daemon import enrolling

    enrolling.forget(name, url, token, config)
