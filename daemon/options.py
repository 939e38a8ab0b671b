"""What the commands have in common: options, and how examples are written under their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[str, typer.Option(help="Address of the daemon.", envvar="AMANUENSIS_URL")]
Token = Annotated[
    str | None,
    typer.Option(help="Token, where the daemon asks for one.", envvar="AMANUENSIS_TOKEN", show_envvar=True),
]
Session = Annotated[
    str | None, typer.Option(help="Name for the session: letters, digits, “_”, “.”, “-”. Default: the time.")
]
Speakers = Annotated[
    bool | None,
    typer.Option("--speakers/--no-speakers", help="Say who speaks. Default: as the daemon is configured."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration. Default: ~/.config/amanuensis/config.toml")
]


def examples(*lines: tuple[str, str]) -> str:
    """Commands and what they do."""
    return "\n".join(["Examples:", *(f"  {command}\n      [dim]{what}[/dim]" for command, what in lines)])
