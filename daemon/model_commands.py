"""What the `models` commands do: pull models, list, show, check and remove them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from daemon.config import Config
from daemon.model_facts import Facts, Shelf
from daemon.pull_progress import Bytes
from npu.catalog import Named, resolve
from npu.checkpoint_folder import check_folder, must_be_there
from npu.pulling import pull
from npu.store import Installed, Store, size_of
from streaming.errors import AmanuensisError, ConfigError, ModelError


def pull_all(names: Sequence[str], revision: str | None, build: bool, config_path: Path | None) -> int:
    """Fetches each and prepares it -> exit status. Those that fail are named, and the rest go on."""
    config = Config.load(config_path)
    wanted = [resolve(name) for name in names]  # all of them first: the last one may be misspelled

    def work(named: Named) -> None:
        _pull(named, revision, build, config)

    return _each(wanted, work)


def show_all(as_json: bool, config_path: Path | None) -> None:
    """A table of the models that are here, then of the others of the catalogue."""
    shelf = Shelf(Config.load(config_path).model)
    facts = shelf.all()
    if as_json:
        _print_json([each.as_json() for each in facts])
        return
    table = Table("Model", "", "Size", "Parameters", "Languages", "Licence", box=None, pad_edge=False)
    for at in (2, 3):
        table.columns[at].justify = "right"
    table.columns[0].no_wrap = True
    for each in facts:
        name = Text(each.name, style="bold" if each.is_here else "")
        table.add_row(
            name, _state(each), each.size_text, each.parameters_text, each.languages_text, each.licence
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\nPulled models are in {shelf.store.root}", soft_wrap=True)


def show(name: str, as_json: bool, config_path: Path | None) -> None:
    """Everything about one model, here or not; ModelError where a folder was named that is not there."""
    facts = _facts(name, config_path)
    if as_json:
        _print_json(facts.as_json(everything=True))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for what, value in facts.lines():
        table.add_row(what, Text(value))
    Console(highlight=False).print(table)


def path(name: str, config_path: Path | None) -> None:
    """Prints the folder; ModelError where there is none."""
    facts = _facts(name, config_path)
    if facts.folder is None:
        raise ModelError(f"{facts.name} is not installed. Get it with: amanuensis models pull {facts.name}")
    _say(str(facts.folder.resolve()))


def remove(names: Sequence[str], yes: bool, config_path: Path | None) -> None:
    """Deletes models, after a question; ConfigError where nobody can be asked."""
    store = Store.of(Config.load(config_path).model.models_path)
    wanted = [resolve(name) for name in names]
    for named in wanted:
        if named.embedded:
            raise ModelError(f"{named.name} is installed with the package and stays.")
        if named.folder is not None:
            raise ModelError(f"{named.name} is a folder of yours; delete it yourself if it is to go.")
    for named in wanted:
        folders = [each for each in (store.path(named), store.partial(named)) if each.is_dir()]
        if folders and not yes:
            _confirm(named, sum(size_of(folder) for folder in folders))
        freed = store.remove(named)
        _say(f"{named.name} is removed: {freed / 1e6:,.1f} MB. A daemon that runs it keeps it until it ends.")


def verify(names: Sequence[str], config_path: Path | None) -> int:
    """Compares each file with its hash -> exit status. Damaged models are named, with the remedy."""
    shelf = Shelf(Config.load(config_path).model)
    wanted = [resolve(name) for name in names] or [each.named for each in shelf.all() if each.is_here]
    with Bytes(Console(stderr=True, highlight=False)) as watch:

        def work(named: Named) -> None:
            watch.say(f"Reading {named.name}")
            _say(f"{named.name} is whole{_verified(named, shelf, watch)}.")

        return _each(wanted, work)


def _facts(name: str, config_path: Path | None) -> Facts:
    named = resolve(name)
    if named.folder is not None:
        must_be_there(named.folder)
    return Shelf(Config.load(config_path).model).of(named)


def _verified(named: Named, shelf: Shelf, watch: Bytes) -> str:
    """What that means; ModelError where it is not."""
    if named.folder is not None:
        check_folder(named.folder)
        return " as far as can be seen: a folder of yours has no hashes to compare with"
    if named.embedded:
        shelf.check_embedded()
        return ""
    found: Installed = shelf.store.require(named)
    watch.expect(found.manifest.size)
    found.check(thorough=True, advance=lambda size: watch.advance(size, fetched=True))
    return f": {len(found.manifest.files)} files of commit {found.manifest.revision[:12]}"


def _pull(named: Named, revision: str | None, build: bool, config: Config) -> None:
    store = Store.of(config.model.models_path)
    console = Console(stderr=True, highlight=False)
    with Bytes(console) as watch:
        try:
            pulled = pull(store, named, revision, watch)
        except KeyboardInterrupt:
            console.print(
                f"{named.name} is here in part; to go on: amanuensis models pull {named.name}", soft_wrap=True
            )
            raise
    model = pulled.model
    if build:
        from npu.loading import load_transcriber  # it takes a while, and only this needs it

        with console.status(f"Preparing {named.name}") as status:

            def progress(line: str) -> None:
                status.update(Text(line))

            load_transcriber(named.name, progress=progress, **config.model.loading)
    size = f"{model.manifest.size / 1e6:,.1f} MB of commit {model.manifest.revision[:12]}"
    state = "is here" if pulled.fetched else "was here already, whole"
    _say(f"{named.name} {state}: {size} in {model.folder}")


def _each(wanted: Sequence[Named], work: Callable[[Named], None]) -> int:
    """Does it for one after the other. The only one's error is raised, one of several is told."""
    failed = 0
    for named in wanted:
        try:
            work(named)
        except AmanuensisError as error:
            if len(wanted) == 1:
                raise
            failed += 1
            Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"amanuensis: {error}"))
    return 1 if failed else 0


def _state(facts: Facts) -> Text:
    if facts.trouble:
        return Text("damaged" if facts.is_here else "in part", style="red")
    return Text(("default" if facts.default else "installed") if facts.is_here else "")


def _confirm(named: Named, size: int) -> None:
    """Returns on yes; ConfigError without a terminal, or on no."""
    if not sys.stdin.isatty():
        raise ConfigError(f"There is no terminal to ask in. To remove {named.name}, say --yes")
    if not typer.confirm(f"Remove {named.name} ({size / 1e6:,.1f} MB)?", err=True):
        raise ConfigError(f"{named.name} stays.")


def _print_json(value: Any) -> None:
    _say(json.dumps(value, indent=1))


def _say(sentence: str) -> None:
    Console(highlight=False, soft_wrap=True).print(Text(sentence))
