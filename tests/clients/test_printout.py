"""What is printed for good, and what is noted of it afterwards."""

from __future__ import annotations

from clients.printout import HOLD_ITEMS, HOLD_S, Item, Line, Note, Printout
from streaming.events import (
    Event,
    Final,
    Gap,
    Ledger,
    Partial,
    Revise,
    Snapshot,
    SpeakerLabel,
    Stopped,
    Utterance,
)


def _label(id: str | None, name: str | None = None) -> SpeakerLabel | None:
    return SpeakerLabel(id=id, name=name) if id else None


def _final(number: int, speaker: str | None = None, text: str = "") -> Final:
    return Final(
        seq=number,
        utterance=number,
        start=float(number),
        end=number + 1.0,
        text=text or f"line {number}",
        language="en",
        speaker=_label(speaker),
    )


def _part(number: int, start: float, speaker: str, text: str) -> Utterance:
    return Utterance(
        utterance=number, start=start, end=start + 1, text=text, language="en", speaker=_label(speaker)
    )


def _partial(end: float, speaker: str | None = "S1") -> Partial:
    return Partial(utterance=99, start=end - 1, end=end, text="", tentative="so", speaker=_label(speaker))


def _revise(number: int, speaker: str | None = None, **fields: object) -> Revise:
    return Revise.model_validate(
        {"seq": 9, "utterance": number, "rev": 1, "reason": "labelled", "speaker": _label(speaker)} | fields
    )


STOPPED = Stopped(seq=99, audio_end=99.0, ledger=Ledger())


def _told(items: list[Item]) -> list[str]:
    """Lines as `S1 text`, notes and gaps by what they say."""
    said = []
    for item in items:
        match item:
            case Line(utterance, edited):
                who = utterance.speaker.id if utterance.speaker else "-"
                said.append(f"{who} {'✎ ' if edited else ''}{utterance.text}")
            case Note(text):
                said.append(text)
            case Gap():
                said.append(item.reason)
    return said


def _printed(*events: Event) -> list[str]:
    """What a printout makes of events, from the first to the last."""
    printout = Printout()
    return _told([item for event in events for item in printout.receive(event)])


def test_a_session_without_labels() -> None:
    """Its lines wait for nothing."""
    assert _printed(_final(1), _final(2)) == ["- line 1", "- line 2"]


def test_a_label_that_comes_after_its_line() -> None:
    """The line waits for it, and what came behind the line does as well."""
    printout = Printout()
    assert not printout.receive(_partial(1.0))
    assert not printout.receive(_final(1))
    gap = Gap(seq=2, start=2.0, end=2.1, reason="overload")
    assert not printout.receive(_final(2, "S2")) and not printout.receive(gap)
    assert [each.utterance for each in printout.held] == [1, 2]
    assert _told(printout.receive(_revise(1, "S1"))) == ["S1 line 1", "S2 line 2", "overload"]


def test_a_label_that_does_not_come() -> None:
    """The line waits for seconds of audio and for other lines, not for ever, and at the end for nothing."""
    printout = Printout()
    printout.receive(_partial(1.0))
    for number in range(1, HOLD_ITEMS + 1):
        assert not printout.receive(_final(number))
    assert not printout.receive(_partial(100.0)), "few wait"
    assert _told(printout.receive(_final(101))) == ["- line 1"]
    assert _told(printout.receive(STOPPED)) == ["- line 2", "- line 3", "- line 101"]
    for number in range(200, 201 + HOLD_ITEMS):
        assert not printout.receive(_final(number, text=f"line {number}").model_copy(update={"end": 210.0}))
    assert not printout.receive(_partial(210.0 + HOLD_S - 0.1)), "it is early"
    assert _told(printout.receive(_partial(210.0 + HOLD_S))) == ["- line 200"]
    assert len(printout.finish()) == HOLD_ITEMS, "who leaves before the end has the last words too"


def test_a_line_that_waits_is_revised() -> None:
    """It is printed as it is by then: named, or as the lines of two speakers."""
    split = (_part(7, 1.5, "S2", "yes"),)
    assert _printed(
        _partial(1.0),
        _final(1, text="shall we yes"),
        _final(2, "S2"),
        Revise(seq=3, reason="named", speaker=SpeakerLabel(id="S2", name="Ada")),
        _revise(1, "S1", text="shall we", split=split),
    ) == ["S1 shall we", "S2 yes", "S2 line 2"]


def test_labels_of_printed_lines() -> None:
    """A first one is no news, nor is that it is settled; another speaker is noted once, after the revisions."""
    assert _printed(_final(1), _revise(1, "S1"), _revise(1, "S2"), _partial(9)) == [
        "- line 1",
        "00:01 was S2",
    ]
    assert _printed(_final(1, "S1"), _revise(1, "S1"), _partial(9)) == ["S1 line 1"]
    back_and_forth = (_revise(1, "S2"), _revise(1, "S1"))
    assert _printed(_final(1, "S1"), *back_and_forth, _partial(9)) == ["S1 line 1"]


def test_many_lines_of_another_speaker() -> None:
    """Are one note for each speaker, however many revisions it took."""
    said = [_final(number, "S3") for number in range(1, 7)]
    joined = [_revise(number, "S1") for number in (1, 2, 4)]
    assert _printed(*said, *joined, _revise(5, "S2"), _revise(6, "S2"), _partial(9))[6:] == [
        "3 lines from 00:01 to 00:04 were S1",
        "00:05 and 00:06 were S2",
    ]


def test_a_printed_line_of_two_speakers() -> None:
    """The words of the other one are quoted; parts of the same speaker need no note."""
    parts = (_part(7, 1.2, "S2", "yes of course we shall"), _part(8, 1.8, "S1", "good"))
    assert _printed(_final(1, "S1"), _revise(1, "S1", text="shall we", split=parts), _partial(9)) == [
        "S1 line 1",
        "00:01 “yes of course we …” was S2",
    ]


def test_a_speaker_who_is_named() -> None:
    """Is noted if the paper called them otherwise, and only once."""
    named = Revise(seq=3, reason="named", speaker=SpeakerLabel(id="S1", name="Ada"))
    unnamed = Revise(seq=4, reason="named", speaker=SpeakerLabel(id="S1"))
    stranger = Revise(seq=5, reason="named", speaker=SpeakerLabel(id="S5", name="Bo"))
    assert _printed(_final(1, "S1"), named, named, unnamed, stranger) == [
        "S1 line 1",
        "S1 is Ada",
        "Ada is S1",
    ]


def test_a_text_that_a_person_changed() -> None:
    """Is printed again, marked; a revision of something unknown says nothing."""
    assert _printed(_final(1), _revise(1, text="Line one."), _revise(5, "S1")) == [
        "- line 1",
        "- ✎ Line one.",
    ]


def test_a_snapshot() -> None:
    """What was said before waits for nothing."""
    said = (_part(1, 1.0, "S1", "a"), Utterance(utterance=2, start=2.0, end=3.0, text="b", language="en"))
    assert _printed(Snapshot(session="s", seq=2, live=True, utterances=said)) == ["S1 a", "- b"]


def test_a_snapshot_of_a_long_session() -> None:
    """Gaps stand where they were, and labels of what was said long before are settled."""
    said = (_part(1, 1.0, "S1", "a"), _part(2, 50.0, "S1", "b"))
    gap = Gap(seq=2, start=10.0, end=12.0, reason="overload")
    snapshot = Snapshot(session="s", seq=3, live=True, utterances=said, gaps=(gap,), settle_after_s=30.0)
    first, second, third = Printout().receive(snapshot)
    assert isinstance(first, Line) and isinstance(third, Line) and second == gap
    assert [line.utterance.speaker and line.utterance.speaker.settled for line in (first, third)] == [
        True,
        False,
    ]
