"""What a person sees of bytes that come or are read: a bar with speed and remaining time, or plain lines."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    DownloadColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from daemon.live_bar import LiveBar
from npu.pulling import Watch


class Bytes(LiveBar, Watch):
    """A line on the terminal; elsewhere a line for each step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        super().__init__(console, DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._task = self._progress.add_task("", total=None, start=False)
        self._size: int | None = None
        self._there = 0

    def say(self, line: str) -> None:
        if self._console.is_terminal:
            self._progress.update(self._task, description=line)
        else:
            self._console.print(Text(line), soft_wrap=True)

    def expect(self, size: int) -> None:
        self._size, self._there = size, 0
        self._reset()

    def advance(self, size: int, fetched: bool) -> None:
        self._there += size
        if fetched and size >= 0:
            self._progress.advance(self._task, size)
        else:
            self._reset()  # what was there before says nothing about the speed

    def _reset(self) -> None:
        self._progress.reset(self._task, total=self._size, completed=self._there)
