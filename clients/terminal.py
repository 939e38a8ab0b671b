"""Live captions in a terminal: finals settle as lines, the open utterance moves below them."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from streaming.events import (
    Event,
    Final,
    Gap,
    Partial,
    Revise,
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
SPEAKER_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "red")


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
        self._finals: dict[int, Final | Utterance] = {}

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
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, event: Event) -> None:
        """Brings one event of the session onto the console."""
        match event:
            case Partial():
                self._foot.partial = event
            case Final():
                self._settle(event)
            case Revise():
                self._revise(event)
            case Gap():
                if (partial := self._foot.partial) and event.start <= partial.start < event.end:
                    self._foot.partial = None
                self._aside(f"{stamp(event.start)}  ({_gap(event)})")
            case Status():
                self._foot.trouble = event.reason or "behind" if event.degraded else None
                self._foot.lag_s = event.lag_s
            case Snapshot():
                for utterance in event.utterances:
                    self._settle(utterance)
                self._foot.partial = event.partial
            case Stopped():
                self._foot.partial = None

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

    def _settle(self, utterance: Final | Utterance) -> None:
        if self._foot.partial and self._foot.partial.utterance <= utterance.utterance:
            self._foot.partial = None
        self._finals[utterance.utterance] = utterance
        if utterance.text:
            self._print(utterance.start, utterance.speaker, utterance.text)

    def _revise(self, event: Revise) -> None:
        """What has scrolled by cannot be changed: another text is written again, under its old time."""
        if event.utterance is None:
            return
        before = self._finals.get(event.utterance)
        if before is None:
            return
        speaker = event.speaker or before.speaker
        if event.text is not None and event.text != before.text:
            self._print(before.start, speaker, f"✎ {event.text}")
        changes = {"text": event.text or before.text, "speaker": speaker}
        self._finals[event.utterance] = before.model_copy(update=changes)

    def _print(self, start: float, speaker: SpeakerLabel | None, text: str) -> None:
        if self._live is None:
            name = f"{speaker.name or speaker.id}: " if speaker else ""
            self._console.out(f"{stamp(start)}  {name}{text}", highlight=False)
        else:
            self._console.print(_line(self._console.width, start, speaker, Text(text)))

    def _aside(self, text: str) -> None:
        if self._live is None:
            self._console.out(text, highlight=False)
        else:
            self._console.print(f"[dim]{escape(text)}[/dim]", highlight=False)


class _Foot:
    """What stands below the settled lines: the open utterance and a line about the stream."""

    def __init__(self, meter: bool) -> None:
        self.partial: Partial | None = None
        self.time = ""
        self.trouble: str | None = None
        self.lag_s = 0.0
        self.level_db = METER_FLOOR_DB
        self._meter = meter

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The utterance's last lines, as many as the window has room for, and the line about the stream."""
        lines: list[list[Segment]] = []
        if self.partial is not None:
            text = Text(self.partial.text)
            text.append(self.partial.tentative, Style(dim=True, italic=True))
            line = _line(options.max_width, self.partial.start, self.partial.speaker, text)
            lines = console.render_lines(line, options, pad=False)[-max(1, options.size.height - 2) :]
        lines += console.render_lines(self._status(console, options.max_width), options, pad=False)
        for line_of_segments in lines:
            yield from line_of_segments
            yield Segment.line()

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


def stamp(seconds: float) -> str:
    """Seconds as 01:23, or 1:02:03 from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _ascii_only(console: Console) -> bool:
    """Whether the console cannot show more than ASCII."""
    return not console.encoding.lower().startswith("utf")


def _line(width: int, start: float, speaker: SpeakerLabel | None, text: Text) -> Table | Text:
    """A line of the transcript: the time, who, and the text beside them with a hanging indent."""
    when = Text(stamp(start), style="dim")
    who = Text(f"{speaker.name or speaker.id}:", style=_style(speaker.id)) if speaker else Text()
    if width < NARROW:
        return Text(" ").join(part for part in (when, who, text) if cell_len(part.plain))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    if speaker:
        grid.add_column(no_wrap=True, max_width=width // 4, overflow="ellipsis")
        grid.add_column()
        grid.add_row(when, who, text)
    else:
        grid.add_column()
        grid.add_row(when, text)
    return grid


def _style(speaker: str) -> str:
    number = int("".join(filter(str.isdigit, speaker)) or 0)
    return SPEAKER_STYLES[number % len(SPEAKER_STYLES)]


def _gap(event: Gap) -> str:
    seconds = f"{event.end - event.start:.1f} s without text"
    reasons = {
        "overload": "the daemon was overloaded",
        "source_lost": "the source was lost",
        "client_skipped": "the audio did not arrive",
    }
    reason = event.reason.removeprefix("suppressed:")
    return f"{seconds}: {reasons.get(reason, reason)}"
