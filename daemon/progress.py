"""What a person sees of a run over recordings: a bar while it goes on, and at its end what became of each."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from daemon.clock import clock
from daemon.live_bar import LiveBar
from daemon.media import Recording, printable
from daemon.resumption import together
from npu.transcripts import Progress as Watcher
from npu.transcripts import Transcript, Unreadable
from streaming.errors import AmanuensisError

DECODING = 0.1  # of the work where speakers are told apart, roughly
SETTLED_S = 0.5  # before that a speed means nothing
TOGETHER_S = 0.2  # recordings finished within it were decoded side by side, at one speed
WHOLE, SLACK_S = (
    0.9,
    1.0,
)  # less than this share, less so many seconds, is less than was announced; headers are estimates
MENTIONED = 3  # recordings left out that are named one by one


class Bar(LiveBar, Watcher):
    """A line on the terminal: which recording, how far, how fast, how long still. Nothing where there is no terminal."""

    def __init__(self, console: Console, recordings: Sequence[Recording], diarize: bool = False) -> None:
        """diarize: most of the work is telling speakers apart."""
        self._count = len(recordings)
        self._done = 0
        self._begun: float | None = None
        self._decoding = DECODING if diarize else 1.0
        self._read_s: defaultdict[str, float] = defaultdict(float)  # of audio, by recording
        self._told_s: dict[str, float] = {}  # of it, by whom it was said
        self._decoded_s = 0.0
        self._before_s = 0.0  # transcribed by another run
        super().__init__(console, _Position(), _Speed(), _Left())
        self._task = self._progress.add_task("Starting", total=None)
        if console.is_terminal:  # nobody else wants to know beforehand
            self._measure(recordings)

    def _measure(self, recordings: Sequence[Recording]) -> None:
        lengths = [recording.seconds for recording in recordings]
        if None not in lengths:
            self._progress.update(self._task, total=sum(length for length in lengths if length is not None))

    def say(self, line: str) -> None:
        """Something else is going on."""
        self._progress.update(self._task, description=line)

    def opened(self, recording: Recording, done_s: float = 0.0) -> None:
        """It is read from now on; done_s: seconds of it that another run transcribed."""
        self._begun = self._begun or time.monotonic()
        self._before_s += done_s
        self._label(recording.title)

    def finished(self, recording: Recording) -> None:
        """It has its outcome."""
        self._done += 1
        self._told_s[recording.name] = self._read_s[recording.name]
        self._show()

    def read(self, name: str, seconds: float) -> None:
        self._read_s[name] += seconds

    def decoded(self, seconds: float) -> None:
        self._decoded_s = seconds
        self._show()

    def telling_apart(self, name: str, share: float) -> None:
        self._told_s[name] = share * self._read_s[name]
        self._label(f"{printable(Path(name).name)}: who speaks")
        self._show()

    def _show(self) -> None:
        done = self._decoding * self._decoded_s + (1 - self._decoding) * sum(self._told_s.values())
        elapsed = time.monotonic() - (self._begun or time.monotonic())
        self._progress.update(
            self._task,
            completed=done + self._decoding * self._before_s,
            speed=done / elapsed if elapsed > SETTLED_S else 0.0,
        )

    def _label(self, what: str) -> None:
        count = f"{min(self._done + 1, self._count)}/{self._count} " if self._count > 1 else ""
        self._progress.update(self._task, description=f"{count}{what}")


class _Position(ProgressColumn):
    """How much audio is transcribed, of how much."""

    def render(self, task: Task) -> Text:
        whole = "" if task.total is None else f" / {clock(task.total)}"
        return Text(f"{clock(task.completed)}{whole}")


class _Speed(ProgressColumn):
    """Times real time."""

    def render(self, task: Task) -> Text:
        speed = task.fields.get("speed", 0.0)
        return Text(f"{speed:.0f} × real time" if speed else "", style="dim")


class _Left(ProgressColumn):
    """How long it takes still, at this speed."""

    def render(self, task: Task) -> Text:
        speed = task.fields.get("speed", 0.0)
        left = None if task.total is None else task.total - task.completed
        return Text(f"{clock(left / speed)} left" if speed and left and left > 0 else "", style="dim")


@dataclass(frozen=True)
class _Row:
    """What became of a recording."""

    name: str
    result: str
    transcript: Transcript | None = None
    group: int = 0  # those of one group were finished at about the same time


class Report:
    """What became of each recording: sentences as it happens, a table at the end of several."""

    _HEADS = ("Recording", "Length", "Speech", "Words", "Speed", "Speakers", "Result")

    def __init__(self, console: Console) -> None:
        self.failures = 0
        self._console = console
        self._begun = time.monotonic()
        self._last = self._begun  # when one was finished
        self._groups: list[float] = []  # seconds that each took
        self._rows: list[_Row] = []
        self._kept: list[str] = []

    def begin(self) -> None:
        """The models are loaded: what is timed begins."""
        self._last = time.monotonic()

    def add(
        self,
        recording: Recording,
        outcome: Transcript | Unreadable,
        delivered: Sequence[Path] | AmanuensisError,
    ) -> None:
        """It is over, and its transcript lies there (nowhere: it was printed), or could not be had or written."""
        if isinstance(delivered, AmanuensisError):
            self.failures += 1
            self._say(f"amanuensis: {recording.shown}: {delivered}")
            self._rows.append(_Row(recording.shown, "failed"))
            return
        assert isinstance(outcome, Transcript)
        now = time.monotonic()
        if now - self._last > TOGETHER_S or not self._groups:
            self._groups.append(0.0)
        self._groups[-1] += now - self._last
        self._last = now
        result = f"{together(delivered)}" if delivered else ""
        self._rows.append(_Row(recording.shown, result, outcome, len(self._groups) - 1))

    def compare(self, recording: Recording, made: Transcript, told_s: float | None) -> None:
        """told_s: how long its header says it is; where much of it was not there, that is said."""
        if told_s is not None and made.duration_s < WHOLE * told_s - SLACK_S:
            self._say(
                f"{recording.shown}: it ends after {clock(made.duration_s)}, though it says that it is "
                f"{clock(told_s)} long; what there is was transcribed."
            )

    def kept(self, recording: Recording, reason: str) -> None:
        """It was left out."""
        self._kept.append(f"{recording.shown}: {reason}")

    def close(self) -> None:
        """The end of the run."""
        if len(self._kept) > MENTIONED:
            self._say(
                f"{len(self._kept)} recordings left out: their transcripts exist; --overwrite replaces them."
            )
        else:
            for line in self._kept:
                self._say(line)
        made = [row.transcript for row in self._rows if row.transcript is not None]
        if len(self._rows) > 1 and made:
            self._table()
        elif made and self._rows[0].result:
            self._say(f"{self._rows[0].name}: written to {self._rows[0].result}")
        if made:
            elapsed = time.monotonic() - self._begun
            took = f"{elapsed:.1f} s" if elapsed < 10 else clock(elapsed)
            audio_s = sum(each.duration_s for each in made)
            self._say(f"{clock(audio_s)} of audio in {took}, {audio_s / elapsed:.0f} × real time.")
        if self.failures and len(self._rows) > 1:
            self._say(f"{self.failures} of {len(self._rows)} recordings have no transcript.")

    def _table(self) -> None:
        rows = [self._cells(row) for row in self._rows]
        used = [at for at in range(len(self._HEADS)) if any(row[at] for row in rows)]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for at in used:
            side: Literal["left", "right"] = "left" if at in (0, len(self._HEADS) - 1) else "right"
            table.add_column(self._HEADS[at], justify=side, overflow="fold")
        for row in rows:
            table.add_row(*(Text(row[at]) for at in used))
        self._console.print(table)

    def _cells(self, row: _Row) -> tuple[str, ...]:
        made = row.transcript
        if made is None:
            return (row.name, "", "", "", "", "", row.result)
        words = len(made.text.split())
        took = self._groups[row.group]
        audio_s = sum(
            each.transcript.duration_s
            for each in self._rows
            if each.transcript is not None and each.group == row.group
        )
        return (
            row.name,
            clock(made.duration_s),
            clock(made.speech_s) if words else "none",
            str(words),
            f"{audio_s / took:.0f} ×" if took > 0 else "",
            str(len(made.speakers) or ""),
            row.result,
        )

    def _say(self, line: str) -> None:
        self._console.out(line, highlight=False)
