"""What a person sees of a run."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from daemon.clock import clock
from daemon.media import Recording
from daemon.progress import Bar, Report
from npu.transcripts import Transcript, Unreadable
from streaming.errors import AudioError
from streaming.events import Utterance

LINE = Utterance(utterance=1, start=0.0, end=1.0, text="three [bold] words", language="en")


def _console(terminal: bool = False) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=120, highlight=False, color_system=None), out


def _transcript(name: str, *lines: Utterance) -> Transcript:
    return Transcript(name, lines, duration_s=75.0, speech_s=60.0, language="en")


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (75, "1:15"), (3_599.6, "1:00:00")])
def test_clock(seconds: float, shown: str) -> None:
    """As people write durations."""
    assert clock(seconds) == shown


def test_several_recordings() -> None:
    """A table without empty columns, markup as it is, failures as sentences and in the end as a number."""
    console, out = _console()
    report = Report(console)
    one, two, three = (Recording(name, Path(name)) for name in ("one.wav", "two.wav", "three.wav"))
    report.add(one, _transcript("one.wav", LINE), [Path("[x]/one.txt"), Path("[x]/one.srt")])
    report.add(two, _transcript("two.wav"), [Path("two.txt"), Path("two.srt")])
    error = AudioError("There is nothing in it.")
    report.add(three, Unreadable("three.wav", error, 0.0), error)
    report.close()
    text = out.getvalue()
    assert "amanuensis: three.wav: There is nothing in it.\n" in text
    assert "[x]/one.{txt,srt}" in text and "none" in text and "1:15" in text and "Speakers" not in text
    assert all(
        head in text for head in ("Recording", "Length", "Speech", "Words", "Speed", "Result", "failed")
    )
    assert "2:30 of audio" in text and "1 of 3 recordings have no transcript" in text
    assert report.failures == 1


def test_recordings_that_were_left_out() -> None:
    """Are named while they are few, else counted."""
    for count in (2, 40):
        console, out = _console()
        report = Report(console)
        for number in range(count):
            report.kept(
                Recording(f"{number}.wav", Path(f"{number}.wav")), "left out, --overwrite replaces it."
            )
        report.close()
        assert out.getvalue().count("\n") == (2 if count == 2 else 1) and "--overwrite" in out.getvalue()


def test_the_bar(assets: Path) -> None:
    """Shows which recording, how far and how fast, on a terminal only; nothing of it stays."""
    recording = Recording("beckett.wav", assets / "beckett.wav")
    for terminal in (True, False):
        console, out = _console(terminal)
        with Bar(console, [recording, recording]) as bar:
            bar.say("Loading")
            bar.opened(recording)
            bar.read(recording.name, 10.0)
            time.sleep(0.6)
            bar.decoded(10.0)
            bar.finished(recording)
        shown = out.getvalue()
        assert ("1/2 beckett.wav" in shown and "0:10 / 0:20" in shown) if terminal else shown == ""
        assert ("× real time" in shown and "0:01 left" in shown) is terminal


def test_the_bar_while_speakers_are_told_apart(assets: Path) -> None:
    """Is not full before that is done: it is most of the work."""
    recording = Recording("beckett.wav", assets / "beckett.wav")
    console, out = _console(terminal=True)
    with Bar(console, [recording], diarize=True) as bar:
        bar.opened(recording)
        bar.read(recording.name, 10.0)
        bar.decoded(10.0)
        bar.telling_apart(recording.name, 0.5)
    assert "beckett.wav: who speaks" in out.getvalue() and "0:06 / 0:10" in out.getvalue()


def test_the_bar_of_work_that_goes_on(assets: Path) -> None:
    """Begins where the last run ended, which is no speed of this one."""
    recording = Recording("beckett.wav", assets / "beckett.wav")
    console, out = _console(terminal=True)
    with Bar(console, [recording]) as bar:
        bar.opened(recording, 7.0)
        bar.decoded(1.0)
    assert "0:08 / 0:10" in out.getvalue()
