"""What a person sees of an NPU being brought up: each step, how it ended, and what to try where it failed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from npu.xdna.bringup import Bench, Outcome, Step, attempt
from npu.xdna.failures import trials

_WIDTH = 14  # of the column of names


class Report:
    """Lines on a console, each of which begins with a mark."""

    def __init__(self, console: Console, mark: str = "") -> None:
        self._console = console
        self._mark = f"{mark}  " if mark else ""

    def walk(self, steps: Sequence[Step], bench: Bench) -> list[Outcome]:
        """Takes the steps until one fails -> how they ended; the last may have failed."""
        outcomes: list[Outcome] = []
        for step in steps:
            self._line(step.name, step.does, "bold")
            outcomes.append(attempt(step, bench))
            self._tell(outcomes[-1])
            if outcomes[-1].failure is not None:
                break
        return outcomes

    def say(self, sentence: str) -> None:
        """A line of its own."""
        self._console.print(Text(f"{self._mark}{sentence}"), soft_wrap=True)

    def _tell(self, outcome: Outcome) -> None:
        took = f"{outcome.seconds:.3f} s"
        if outcome.failure is None:
            again = ", at the second attempt: the first failed" if outcome.recoveries else ""
            self._line("  passed", f"{took}, {outcome.seen}{again}", "green")
            return
        self._line("  failed", f"{took}, {outcome.failure}", "red")
        for trial in trials(outcome.failure):
            self._line("  try", trial)

    def _line(self, name: str, says: str, style: str = "") -> None:
        line = Text(self._mark)
        line.append(f"{name:<{_WIDTH}}", style).append(says)
        self._console.print(line, soft_wrap=True)
