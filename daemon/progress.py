"""What a person sees of a run over recordings: a bar while it goes on, and at its end what became of each."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from daemon.media import Recording
from npu.transcripts import Progress as Watcher
from npu.transcripts import Transcript, Unreadable
from streaming.errors import AmanuensisError

DECODING = 0.1  # of the work where speakers are told apart, roughly
SETTLED_S = 0.5  # before that a speed means nothing
MENTIONED = 3  # recordings left out that are named one by one


class Bar(Watcher):
    """A line on the terminal: which recording, how far, how fast. Nothing where there is no terminal."""

    def __init__(self, console: Console, recordings: Sequence[Recording], diarize: bool = False) -> None:
        """diarize: most of the work is telling speakers apart."""
        self._count = len(recordings)
        self._done = 0
        self._begun: float | None = None
        self._decoding = DECODING if diarize else 1.0
        self._read_s: defaultdict[str, float] = defaultdict(float)  # of audio, by recording
        self._told_s: dict[str, float] = {}  # of it, by whom it was said
        self._decoded_s = 0.0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Position(),
            _Speed(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("Starting", total=None)
        if console.is_terminal:  # nobody else wants to know beforehand
            self._measure(recordings)

    def _measure(self, recordings: Sequence[Recording]) -> None:
        lengths = [recording.seconds for recording in recordings]
        if None not in lengths:
            self._progress.update(self._task, total=sum(length for length in lengths if length is not None))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Something else is going on."""
        self._progress.update(self._task, description=line)

    def opened(self, recording: Recording) -> None:
        """It is read from now on."""
        self._begun = self._begun or time.monotonic()
        self._label(recording.file_name)

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
        self._label(f"{Path(name).name}: who speaks")
        self._show()

    def _show(self) -> None:
        done = self._decoding * self._decoded_s + (1 - self._decoding) * sum(self._told_s.values())
        elapsed = time.monotonic() - (self._begun or time.monotonic())
        self._progress.update(
            self._task, completed=done, speed=done / elapsed if elapsed > SETTLED_S else 0.0
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


class Report:
    """What became of each recording: sentences as it happens, a table at the end of several."""

    def __init__(self, console: Console) -> None:
        self.failures = 0
        self._console = console
        self._begun = time.monotonic()
        self._rows: list[tuple[str, ...]] = []
        self._kept: list[str] = []
        self._audio_s = 0.0

    def add(
        self,
        recording: Recording,
        outcome: Transcript | Unreadable,
        delivered: Sequence[Path] | AmanuensisError,
    ) -> None:
        """It is over, and its transcript lies there (nowhere: it was printed), or could not be had or written."""
        if isinstance(delivered, AmanuensisError):
            self.failures += 1
            self._say(f"amanuensis: {recording.name}: {delivered}")
            return
        assert isinstance(outcome, Transcript)
        self._audio_s += outcome.duration_s
        words = len(outcome.text.split())
        self._rows.append(
            (
                recording.name,
                clock(outcome.duration_s),
                str(words) if words else "no speech",
                str(len(outcome.speakers) or ""),
                _together(delivered),
            )
        )

    def kept(self, recording: Recording, there: Sequence[Path]) -> None:
        """It was left out: transcripts of it exist."""
        self._kept.append(f"{recording.name}: left out, {_together(there)} exists; --overwrite replaces it.")

    def close(self) -> None:
        """The end of the run."""
        if len(self._kept) > MENTIONED:
            self._say(
                f"{len(self._kept)} recordings left out: their transcripts exist; --overwrite replaces them."
            )
        else:
            for line in self._kept:
                self._say(line)
        if len(self._rows) > 1:
            self._table()
        elif self._rows and self._rows[0][-1]:
            self._say(f"{self._rows[0][0]}: written to {self._rows[0][-1]}")
        if self._rows:
            elapsed = time.monotonic() - self._begun
            took = f"{elapsed:.1f} s" if elapsed < 10 else clock(elapsed)
            self._say(
                f"{clock(self._audio_s)} of audio in {took}, {self._audio_s / elapsed:.0f} × real time."
            )
        if self.failures and len(self._rows) + self.failures > 1:
            self._say(f"{self.failures} of {len(self._rows) + self.failures} recordings have no transcript.")

    def _table(self) -> None:
        heads = ("Recording", "Length", "Words", "Speakers", "Written to")
        used = [at for at in range(len(heads)) if any(row[at] for row in self._rows)]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for at in used:
            table.add_column(heads[at], justify="right" if at in (1, 2, 3) else "left", overflow="fold")
        for row in self._rows:
            table.add_row(*(Text(row[at]) for at in used))
        self._console.print(table)

    def _say(self, line: str) -> None:
        self._console.out(line, highlight=False)


def _together(files: Sequence[Path]) -> str:
    """Files that differ in their suffixes alone, as a shell would take them: talk.{txt,srt}."""
    if len(files) < 2:
        return "".join(map(str, files))
    return f"{files[0].with_suffix('')}.{{{','.join(file.suffix.removeprefix('.') for file in files)}}}"


def clock(seconds: float) -> str:
    """M:SS, or H:MM:SS."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
