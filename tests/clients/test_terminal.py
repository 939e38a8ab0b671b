"""Captions on consoles of several kinds."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from clients.terminal import METER_CELLS, Captions, meter, stamp
from streaming.events import Final, Gap, Partial, Revise, Snapshot, SpeakerLabel, Status, Utterance


def _console(width: int = 80, terminal: bool = True, **options) -> Console:
    return Console(file=io.StringIO(), width=width, height=12, force_terminal=terminal, **options)


def _final(seq: int = 1, text: str = "Hello there.", **fields) -> Final:
    return Final(seq=seq, utterance=seq, start=61.0 + seq, end=63.0 + seq, text=text, language="en", **fields)


def _partial(text: str, tentative: str, utterance: int = 1) -> Partial:
    return Partial(utterance=utterance, start=61.0, end=62.0, text=text, tentative=tentative)


def _shown(console: Console) -> str:
    """What the console was given, without the control codes."""
    from rich.text import Text

    return Text.from_ansi(console.file.getvalue()).plain


def test_not_a_terminal() -> None:
    """Only what is final appears, a line each, whole however long, without a control code."""
    console, notes = _console(40, terminal=False), _console(terminal=False)
    with Captions(console, notes=notes) as captions:
        captions.show(_partial("Hel", "lo"))
        captions.note("Connected again.")
        captions.show(_final(text="word " * 30 + "end"))
        captions.show(_final(2, speaker=SpeakerLabel(id="S1", name="Nell", settled=True)))
        captions.show(_final(3, speaker=SpeakerLabel(id="S2")))
    written = console.file.getvalue()
    assert "\x1b" not in written
    assert written.splitlines() == [
        "01:02  " + "word " * 30 + "end",
        "01:03  Nell: Hello there.",
        "01:04  S2?: Hello there.",
    ]
    assert notes.file.getvalue() == "Connected again.\n"


def test_a_terminal() -> None:
    """The open utterance is shown, what may change in another style; a final settles and stays."""
    console = _console(color_system="standard")
    with Captions(console) as captions:
        captions.show(_partial("Hello", " theer"))
        captions._live.refresh()
        moving = console.file.getvalue()
        captions.show(_final())
    assert "Hello" in moving and "\x1b[2;3m theer" in moving
    assert "01:02  Hello there." in _shown(console)


@pytest.mark.parametrize("width", [8, 20, 47, 48, 120])
def test_narrow_and_wide(width: int) -> None:
    """No line is wider than the window, and no word is lost."""
    words = "the quick brown fox jumps over it all day long".split()
    console = _console(width, color_system=None)
    with Captions(console, meter=True) as captions:
        captions.clock(3.0, 60.0)
        captions.show(_partial(" ".join(words), " and on" * 200))
        captions._live.refresh()
        captions.show(_final(text=" ".join(words), speaker=SpeakerLabel(id="S2")))
    lines = _shown(console).splitlines()
    assert all(len(line.rstrip("\r")) <= width for line in lines)
    assert " ".join(words).replace(" ", "") in "".join(lines).replace(" ", "")


def test_speakers() -> None:
    """Each has a colour, names stand in a column, and what may still change has a question mark."""
    console = _console(color_system="standard")
    with Captions(console) as captions:
        captions.show(_final(1, speaker=SpeakerLabel(id="S1", name="Nell", settled=True)))
        captions.show(_final(2, speaker=SpeakerLabel(id="S2")))
        captions.show(_final(3, speaker=SpeakerLabel(id="S1", name="Nell", settled=True)))
        captions.show(Revise(seq=4, utterance=2, rev=1, speaker=SpeakerLabel(id="S1", name="Nell")))
    written = console.file.getvalue()
    assert "\x1b[1;36mNell\x1b[0m" in written and "\x1b[33mS2\x1b[0m\x1b[2;33m?\x1b[0m" in written
    lines = [line.strip() for line in _shown(console).splitlines() if ":" in line]
    assert lines == [
        "01:02  Nell   Hello there.",
        "01:03  S2?    Hello there.",
        "01:04  Nell   Hello there.",
        "· 01:03 was Nell",
    ]


def test_a_line_that_waits_for_its_label() -> None:
    """Is to be read all the while, below the printed ones."""
    console = _console()
    with Captions(console) as captions:
        captions.show(_partial("Hel", "lo").model_copy(update={"speaker": SpeakerLabel(id="S1")}))
        captions.show(_final(text="Hello, Nell."))
        captions._live.refresh()
        assert "Hello, Nell." in _shown(console) and captions._foot.partial is None
        before = len(console.file.getvalue())
        captions.show(Revise(seq=2, utterance=1, rev=1, speaker=SpeakerLabel(id="S1")))
        assert captions._foot.held == () and "\x1b[36mS1\x1b[0m" in console.file.getvalue()[before:]


def test_the_final_of_another_utterance() -> None:
    """Leaves the open one open; its own, or a gap, ends it."""
    captions = Captions(_console(terminal=False))
    captions.show(_partial("Hel", "lo", utterance=2))
    captions.show(_final(5))
    assert captions._foot.partial is not None
    captions.show(_final(2))
    assert captions._foot.partial is None
    captions.show(_partial("Hel", "lo", utterance=3))
    captions.show(Gap(seq=6, start=61.0, end=62.0, reason="suppressed:no_words"))
    assert captions._foot.partial is None


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves styles without colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    console = _console(color_system="truecolor")
    with Captions(console, meter=True) as captions:
        captions.show(_final(speaker=SpeakerLabel(id="S1")))
        captions._live.refresh()
    assert not any(f"\x1b[{code}m" in console.file.getvalue() for code in (*range(30, 38), *range(90, 98)))


def test_markup_in_what_was_said() -> None:
    """Brackets are text, not markup."""
    console = _console()
    with Captions(console) as captions:
        captions.show(_final(text="so [red]it[/red] is"))
        captions.show(Gap(seq=2, start=1.0, end=2.5, reason="suppressed:[bold]"))
    assert "so [red]it[/red] is" in _shown(console)
    assert "1.5 s without text: [bold]" in _shown(console)


def test_revisions_gaps_and_trouble() -> None:
    """Another text is written again under its old time; gaps say why; a late daemon is named."""
    console = _console(terminal=False)
    with Captions(console) as captions:
        captions.show(_final())
        captions.show(Revise(seq=2, utterance=1, rev=1, text="Hello, Nell."))
        captions.show(Revise(seq=3, utterance=1, rev=2, speaker=SpeakerLabel(id="S1", settled=True)))
        captions.show(Gap(seq=4, start=70.0, end=72.0, reason="source_lost"))
        captions.show(Status(lag_s=2.0, degraded=True, reason="late", step_ms=900))
    assert console.file.getvalue().splitlines() == [
        "01:02  Hello there.",
        "01:02  ✎ Hello, Nell.",
        "01:10  (2.0 s without text: the source was lost)",
    ]


def test_a_snapshot() -> None:
    """A viewer who comes late sees what has been said."""
    console = _console(terminal=False)
    said = tuple(
        Utterance(utterance=i, start=float(i), end=i + 1.0, text=f"line {i}", language="en") for i in (1, 2)
    )
    with Captions(console) as captions:
        captions.show(Snapshot(session="s", seq=2, live=True, utterances=said, partial=_partial("a", "b", 3)))
    assert console.file.getvalue() == "00:01  line 1\n00:02  line 2\n"


def test_the_meter() -> None:
    """Silence is empty, full scale is full, and it falls slowly."""
    assert meter(-60.0) == "▯" * METER_CELLS and meter(0.0) == "▮" * METER_CELLS
    assert meter(-30.0, blocks=False) == "######------"
    captions = Captions(_console(), meter=True)
    captions.level(np.full(800, 0.5, np.float32))
    loud = captions._foot.level_db
    captions.level(np.zeros(800, np.float32))
    assert loud == pytest.approx(-6.0, abs=0.1) and captions._foot.level_db == pytest.approx(loud - 3.0)


def test_stamps() -> None:
    """Minutes and seconds, and hours where there are any."""
    assert (stamp(0.9), stamp(83.2), stamp(3_723)) == ("00:00", "01:23", "1:02:03")
