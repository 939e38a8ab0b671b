"""Live captions in a terminal: finals become lines for good, what may still change stands below them."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from clients.printout import Item, Line, Note, Printout, name_of, stamp
from streaming.events import (
    Event,
    Final,
    Gap,
    Partial,
    Snapshot,
    SpeakerLabel,
    Status,
    Stopped,
    Utterance,
)

REFRESH_HZ = 12
NARROW = 48  # columns; below it text is not set off from its time stamp
METER_CELLS = 12
METER_FLOOR_DB = -60.0  # level at which the meter is empty
METER_FALL_DB = 3.0  # it falls by so much from one block to the next
SPEAKER_STYLES = ("cyan", "yellow", "magenta", "green", "bright_blue", "bright_red")
WIDEST_NAME = 0.25  # of the window


class Captions:
    """Captions on a console, to be entered with `with`. Not on a terminal: the finals, as plain lines.

    meter: show the level that is told to `level`. notes: where remarks go that are not part of the transcript
    (standard error), if not below the captions.
    """

    def __init__(self, console: Console, *, meter: bool = False, notes: Console | None = None) -> None:
        self._console = console
        self._notes = notes or Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._foot = _Foot(meter)
        self._printout = Printout()

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                self._foot,
                console=self._console,
                refresh_per_second=REFRESH_HZ,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._print(self._printout.finish())
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, event: Event) -> None:
        """Brings one event of the session onto the console."""
        match event:
            case Partial():
                self._foot.partial = event
            case Final():
                if self._foot.partial and self._foot.partial.utterance == event.utterance:
                    self._foot.partial = None
            case Status():
                self._foot.trouble = event.reason or "behind" if event.degraded else None
                self._foot.lag_s = event.lag_s
            case Snapshot():
                self._foot.partial = event.partial
            case Gap() | Stopped():
                self._foot.partial = None
        self._print(self._printout.receive(event))

    def level(self, samples: NDArray[np.float32]) -> None:
        """Moves the meter: the peak of a block [n] in -1..1."""
        peak = float(np.abs(samples).max(initial=0.0))
        now = 20.0 * math.log10(peak) if peak > 0.0 else METER_FLOOR_DB
        self._foot.level_db = max(now, self._foot.level_db - METER_FALL_DB, METER_FLOOR_DB)

    def note(self, sentence: str) -> None:
        """A sentence about the connection or the device, apart from what was said."""
        if self._live is None:
            self._notes.out(sentence, highlight=False)
        else:
            self._aside(f"· {sentence}")

    def clock(self, seconds: float, total: float | None = None) -> None:
        """How far the audio has come."""
        self._foot.time = stamp(seconds) + (f" / {stamp(total)}" if total else "")

    def _print(self, items: list[Item]) -> None:
        self._foot.held = self._printout.held
        for item in items:
            match item:
                case Line():
                    self._print_line(
                        item.utterance, f"✎ {item.utterance.text}" if item.edited else item.utterance.text
                    )
                case Note():
                    self._aside(f"· {item.text}")
                case Gap():
                    self._aside(f"{stamp(item.start)}  ({_gap(item)})")

    def _print_line(self, utterance: Utterance, text: str) -> None:
        if self._live is None:
            who = f"{_who(utterance.speaker)}: " if utterance.speaker else ""
            self._console.out(f"{stamp(utterance.start)}  {who}{text}", highlight=False)
        else:
            self._console.print(self._foot.line(self._console.width, utterance, Text(text)))

    def _aside(self, text: str) -> None:
        if self._live is None:
            self._console.out(text, highlight=False)
        else:
            self._console.print(f"[dim]{escape(text)}[/dim]", highlight=False)


class _Foot:
    """What stands below the printed lines: those that wait for a label, the open one, and one about the stream."""

    def __init__(self, meter: bool) -> None:
        self.held: tuple[Utterance, ...] = ()
        self.partial: Partial | None = None
        self.time = ""
        self.trouble: str | None = None
        self.lag_s = 0.0
        self.level_db = METER_FLOOR_DB
        self._meter = meter
        self._name_cells = 0  # the width of the longest name so far: texts are aligned

    def line(self, width: int, utterance: Utterance | Partial, text: Text) -> Table | Text:
        """A line of the transcript: the time, who, and the text beside them with a hanging indent."""
        when = Text(stamp(utterance.start), style="dim")
        who = Text()
        if speaker := utterance.speaker:
            who = Text(name_of(speaker), style=_style(speaker.id) + (" bold" if speaker.settled else ""))
            who.append(" " if speaker.settled else "?", style="dim")
        if width < NARROW:
            who.rstrip()
            who.append(":" if who else "")
            return Text(" ").join(part for part in (when, who, text) if part.plain)
        self._name_cells = max(self._name_cells, min(who.cell_len, int(width * WIDEST_NAME)))
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        if not self._name_cells:
            grid.add_column()
            grid.add_row(when, text)
        else:
            grid.add_column(no_wrap=True, width=self._name_cells, overflow="ellipsis")
            grid.add_column()
            grid.add_row(when, who, text)
        return grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The last lines, as many as the window has room for, and the line about the stream."""
        texts = [(utterance, Text(utterance.text)) for utterance in self.held]
        lines: list[list[Segment]] = []
        for utterance, text in [*texts, *self._open()]:
            line = self.line(options.max_width, utterance, text)
            lines += console.render_lines(line, options, pad=False)
        lines = lines[-max(1, options.size.height - 2) :]
        lines += console.render_lines(self._status(console, options.max_width), options, pad=False)
        for line_of_segments in lines:
            yield from line_of_segments
            yield Segment.line()

    def _open(self) -> list[tuple[Utterance | Partial, Text]]:
        if self.partial is None:
            return []
        text = Text(self.partial.text)
        text.append(self.partial.tentative, Style(dim=True, italic=True))
        return [(self.partial, text)]

    def _status(self, console: Console, width: int) -> Text:
        blocks = not _ascii_only(console)
        text = Text("● " if blocks else "* ", style="red", no_wrap=True, overflow="crop")
        if self._meter:
            text.append(meter(self.level_db, blocks) + " ", style="green")
        text.append(self.time, style="dim")
        if self.trouble:
            text.append(f"  {self.trouble}: {self.lag_s:.1f} s behind", style="yellow")
        text.truncate(max(1, width - 1))
        return text


def meter(level_db: float, blocks: bool = True) -> str:
    """A bar of METER_CELLS cells, METER_FLOOR_DB to 0 dB."""
    filled = round(METER_CELLS * (1.0 - max(METER_FLOOR_DB, min(0.0, level_db)) / METER_FLOOR_DB))
    full, empty = ("▮", "▯") if blocks else ("#", "-")
    return full * filled + empty * (METER_CELLS - filled)


def _ascii_only(console: Console) -> bool:
    """Whether the console cannot show more than ASCII."""
    return not console.encoding.lower().startswith("utf")


def _who(speaker: SpeakerLabel) -> str:
    """The name in plain text; what may still change has a question mark."""
    return name_of(speaker) + ("" if speaker.settled else "?")


def _style(speaker: str) -> str:
    number = int("".join(filter(str.isdigit, speaker)) or 1)
    return SPEAKER_STYLES[(number - 1) % len(SPEAKER_STYLES)]


def _gap(event: Gap) -> str:
    seconds = f"{event.end - event.start:.1f} s without text"
    reasons = {
        "overload": "the daemon was overloaded",
        "source_lost": "the source was lost",
        "client_skipped": "the audio did not arrive",
    }
    reason = event.reason.removeprefix("suppressed:")
    return f"{seconds}: {reasons.get(reason, reason)}"
