"""What a person sees of a package being built: a bar over its steps, or a line for each."""

from __future__ import annotations

from rich.console import Console
from rich.progress import MofNCompleteColumn, TimeElapsedColumn
from rich.text import Text

from daemon.live_bar import LiveBar


class BuildSteps(LiveBar):
    """Of one design."""

    def __init__(self, console: Console, name: str) -> None:
        super().__init__(console, MofNCompleteColumn(), TimeElapsedColumn())
        self._console = console
        self._name = name
        self._task = self._progress.add_task(name, total=None)

    def show(self, done: int, of: int, what: str) -> None:
        """The step that begins now."""
        if self._console.is_terminal:
            self._progress.update(self._task, description=f"{self._name}: {what}", completed=done, total=of)
        else:
            self._console.print(Text(f"{self._name}: {done + 1} of {of}, {what}"), soft_wrap=True)
