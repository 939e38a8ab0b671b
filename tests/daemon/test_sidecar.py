"""What runs leave for the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.sidecar import DONE, Marks, Sidecar, facts_of
from npu.transcripts import Landmark
from streaming.events import Final, Gap, Ledger, SpokenWord
from streaming.settings import ResumePoint

RECORDING = {"size": 7, "mtime_ns": 9}
OPTIONS = {"model": "moonshine-tiny", "vocabulary": ("a",)}


def _landmark(number: int) -> Landmark:
    word = SpokenWord(text="wörd", start=number, end=number + 0.5, confidence=0.5)
    events = (
        Final(seq=2 * number, utterance=number, start=number, end=number + 0.5, text="wörd", language="de", words=(word,)),
        Gap(seq=2 * number + 1, start=number + 0.5, end=number + 1, reason="suppressed:no_words"),
    )  # fmt: skip
    return Landmark(events, ResumePoint(2 * number + 1, number, 16_000 * number, Ledger(silence_s=number)))


@pytest.fixture
def sidecar(tmp_path: Path):
    """Makes one as a run would."""
    return lambda options=OPTIONS, recording=RECORDING: Sidecar(tmp_path / "talk", recording, options)


def test_a_run_after_another(sidecar, tmp_path: Path) -> None:
    """Goes on where the last one was, with everything that was said before; so does a third."""
    first = sidecar()
    assert first.read() is None
    first.keep(_landmark(1), steady=True)
    first.keep(_landmark(2), steady=True)
    second = sidecar()
    one, two = _landmark(1), _landmark(2)
    assert second.read() == Landmark((*one.events, *two.events), two.resume) and second.steady
    second.keep(_landmark(3), steady=False)
    third = sidecar()
    found = third.read()
    assert found is not None and len(found.events) == 6 and found.resume.sample == 48_000 and not third.steady
    third.remove()
    assert sidecar().read() is None and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other", [{"options": {"model": "whisper-base"}}, {"recording": {"size": 8, "mtime_ns": 9}}]
)
def test_another_run(sidecar, other) -> None:
    """Than the one that was interrupted begins anew, and replaces what is there."""
    sidecar().keep(_landmark(1), steady=True)
    another = sidecar(**other)
    assert another.read() is None
    another.keep(_landmark(2), steady=True)
    assert sidecar().read() is None
    found = sidecar(**other).read()
    assert found is not None and found.resume.utterance == 2


def test_a_line_that_was_cut_off(sidecar) -> None:
    """Is passed over, now and after others have followed it."""
    first = sidecar()
    first.keep(_landmark(1), steady=True)
    first.keep(_landmark(2), steady=True)
    data = first.path.read_bytes()
    first.path.write_bytes(data[:-40])
    second = sidecar()
    found = second.read()
    assert found is not None and found.resume.utterance == 1
    second.keep(_landmark(2), steady=True)
    found = sidecar().read()
    assert found is not None and [len(found.events), found.resume.utterance] == [4, 2]


@pytest.mark.parametrize("text", ["", "\0\xff", "[]", "{}\n{}", "null\n"])
def test_what_is_no_sidecar(sidecar, text: str) -> None:
    """Is no reason to fail."""
    sidecar().path.write_text(text)
    assert sidecar().read() is None


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """Costs no more than the way back."""
    (tmp_path / "file").touch()
    Sidecar(tmp_path / "file" / "talk", RECORDING, OPTIONS).keep(_landmark(1), steady=True)


def test_marks(tmp_path: Path) -> None:
    """Know a transcript again for as long as nobody changed it."""
    talk = tmp_path / "talk.txt"
    talk.write_text("as it was written")
    Marks().add([talk], RECORDING, {"beam": 1})
    with (tmp_path / DONE).open("a") as file:
        file.write('{"format": 1, "recor')  # a run that was killed here
    other = tmp_path / "other.txt"
    other.touch()
    Marks().add([other], RECORDING, {"beam": 2})
    marks = Marks()
    assert marks.ours(talk) == {"recording": RECORDING, "options": {"beam": 1}}
    assert marks.ours(other) == {"recording": RECORDING, "options": {"beam": 2}}
    talk.write_text("as somebody has edited it")
    assert Marks().ours(talk) is None and Marks().ours(tmp_path / "nowhere.txt") is None
    assert facts_of(tmp_path / "nowhere.txt") is None
