"""Transcripts: every format is well-formed for any text at any moment."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.events import Final, Gap, Ledger, Revise, SpeakerLabel, SpokenWord, Stopped, Utterance
from streaming.transcript import LINE_CHARS, apply, to_json, to_md, to_srt, to_txt, to_vtt

TIME = re.compile(r"(\d\d+):([0-5]\d):([0-5]\d)[.,](\d{3}) --> (\d\d+):([0-5]\d):([0-5]\d)[.,](\d{3})")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.sampled_from(
    [
        "",
        " ",
        "a --> b",
        "1\n\n2\n00:00:01,000 --> 00:00:02,000\nx",
        "<i>no</i> & so",
        "x" * 200,
        "日本語" * 40,
    ]
)


@st.composite
def utterances(draw: st.DrawFn) -> list[Utterance]:
    lines, at = [], 0.0
    for number in range(1, draw(st.integers(0, 6)) + 1):
        at = max(
            0.0, at + draw(st.floats(-0.5, 5_000))
        )  # windows overlap: a start may lie before the last end
        length = draw(st.sampled_from([0.0, 0.0004, 0.3, 3.0, 20.0]))
        speaker = draw(st.none() | st.builds(SpeakerLabel, id=st.just("S1"), name=st.none() | TEXTS))
        lines.append(_line(number, at, at + length, draw(TEXTS)).model_copy(update={"speaker": speaker}))
        at += length
    return sorted(lines, key=lambda line: line.start)


def _line(number: int, start: float, end: float, text: str) -> Utterance:
    return Utterance(utterance=number, start=start, end=end, text=text, language="en")


def _times(stamps: re.Match[str]) -> tuple[int, int]:
    h, m, s, ms, *end = (int(group) for group in stamps.groups())
    return ((h * 60 + m) * 60 + s) * 1000 + ms, ((end[0] * 60 + end[1]) * 60 + end[2]) * 1000 + end[3]


def _check_times(cues: list[tuple[int, int]]) -> None:
    assert all(start < end for start, end in cues), "no cue of no length"
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(cues)), "no overlap"


@given(utterances(), st.booleans())
def test_srt(lines: list[Utterance], live: bool) -> None:
    """Cues are numbered from 1, in order, apart, of one line at least and none of them empty."""
    text = to_srt(None, lines, live)
    cues = [cue for cue in text.split("\n\n") if cue]
    times = []
    for number, cue in enumerate(cues, start=1):
        head, stamps, *said = cue.strip("\n").split("\n")
        assert head == str(number)
        match = TIME.fullmatch(stamps)
        assert match, stamps
        times.append(_times(match))
        assert said and all(line.strip() for line in said)
        assert all("-->" not in line and "<" not in line for line in said)
    _check_times(times)


@given(st.none() | TEXTS, utterances(), st.booleans())
def test_vtt(title: str | None, lines: list[Utterance], live: bool) -> None:
    """The header stands alone, cues are in order and apart, and nothing in a text acts as markup."""
    text = to_vtt(title, lines, live)
    header, *cues = text.strip("\n").split("\n\n")
    assert re.fullmatch(r"WEBVTT( [^\n]*)?", header) and "-->" not in header
    times = []
    for cue in cues:
        stamps, *said = cue.split("\n")
        match = TIME.fullmatch(stamps)
        assert match, stamps
        times.append(_times(match))
        spoken = re.sub(r"^<v [^<>\n]+>|</v>$", "", "\n".join(said))
        assert spoken.strip() and "<" not in spoken and ">" not in spoken
        assert re.fullmatch(r"([^&]|&(amp|lt|gt);)*", spoken, re.DOTALL)
    _check_times(times)


@given(utterances())
def test_no_word_is_lost(lines: list[Utterance]) -> None:
    """Whatever is cut and wrapped, the characters of SRT and text are those of the utterances."""

    def squeezed(text: str) -> str:
        plain = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).replace("-->", "→")
        return re.sub(r"\s", "", plain).replace("<", "‹").replace(">", "›")

    plain = [line.model_copy(update={"speaker": None}) for line in lines]
    expected = "".join(squeezed(line.text) for line in plain)
    assert squeezed(to_txt(None, plain, False)) == expected
    cues = [cue.split("\n", 2)[2] for cue in to_srt(None, plain, False).split("\n\n") if cue]
    assert "".join(squeezed(cue) for cue in cues) == expected


@given(st.none() | TEXTS, utterances(), st.booleans())
def test_json(title: str | None, lines: list[Utterance], live: bool) -> None:
    """Keeps title and text exactly."""
    data = json.loads(to_json(title, lines, live))
    assert data["title"] == title and data["live"] is live
    assert [line["text"] for line in data["utterances"]] == [line.text for line in lines]


def test_long_utterances() -> None:
    """Become cues of two even lines of at most 42 characters, cut at words and by the words' times."""
    text = (
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of "
        * 2
    )
    spoken = text.split()
    words = tuple(
        SpokenWord(text=w, start=i / 2, end=i / 2 + 0.4, confidence=1.0) for i, w in enumerate(spoken)
    )
    line = _line(1, 0.0, len(spoken) / 2, " ".join(spoken)).model_copy(update={"words": words})
    cues = [cue.split("\n") for cue in to_srt(None, [line], False).strip().split("\n\n")]
    assert len(cues) == 3
    assert all(len(said) == 2 and max(map(len, said)) <= LINE_CHARS for _, _, *said in cues)
    first = TIME.fullmatch(cues[0][1])
    assert first is not None
    count = len(" ".join(cues[0][2:]).split())
    assert _times(first) == (0, round(words[count - 1].end * 1000))


@given(utterances(), st.booleans())
def test_words_in_cues(lines: list[Utterance], known: bool) -> None:
    """Have time stamps that lie within their cue, in order; without them the text is what it is otherwise."""
    timed = []
    for line in lines:
        spoken = line.text.split()
        step = (line.end - line.start) / max(1, len(spoken))
        words = tuple(
            SpokenWord(
                text=text, start=line.start + n * step, end=line.start + (n + 1) * step, confidence=1.0
            )
            for n, text in enumerate(spoken)
        )
        timed.append(line.model_copy(update={"words": words if known else None}))
    text = to_vtt(None, timed, False, words=True)
    stamp = re.compile(r"<(\d\d+):(\d\d):(\d\d)\.(\d{3})>")
    for cue in text.strip("\n").split("\n\n")[1:]:
        head, *said = cue.split("\n")
        match = TIME.fullmatch(head)
        assert match
        start, end = _times(match)
        stamps = [
            ((int(h) * 60 + int(m)) * 60 + int(s)) * 1000 + int(ms)
            for h, m, s, ms in stamp.findall("\n".join(said))
        ]
        assert stamps == sorted(set(stamps)) and all(start < at < end for at in stamps)
    assert stamp.sub("", text) == to_vtt(None, timed, False)


def test_lines_that_are_read_with_ease() -> None:
    """Break after punctuation where that leaves two lines of a like length, and a cue never has a third line."""
    (cue,) = to_srt(
        None, [_line(1, 0.0, 8.0, "It was the best of times, it was the worst of all the times.")], False
    ).split("\n\n")
    assert cue.strip().split("\n")[2:] == ["It was the best of times,", "it was the worst of all the times."]
    awkward = " ".join(["incomprehensibilities"] * 12)  # words of half a line
    for cue in to_srt(None, [_line(1, 0.0, 30.0, awkward)], False).strip().split("\n\n"):
        said = cue.split("\n")[2:]
        assert len(said) <= 2 and all(len(line) <= LINE_CHARS for line in said)


def test_cues_that_are_gone_too_soon() -> None:
    """Stand until they can be read, not into the next one, and not much longer than the speech."""
    short, long = "Yes.", "And so it was that all of them went home at last."
    cues = to_srt(
        None, [_line(1, 1.0, 1.2, short), _line(2, 5.0, 5.5, long), _line(3, 7.0, 7.1, short)], False
    )
    times = [_times(match) for match in TIME.finditer(cues)]
    assert times == [(1_000, 2_000), (5_000, 7_000), (7_000, 8_000)]
    (alone,) = (_times(match) for match in TIME.finditer(to_srt(None, [_line(1, 0.0, 0.2, long)], False)))
    assert alone == (0, 2_200)  # two seconds after the last word


def test_cues_that_would_overlap() -> None:
    """End where the next begins."""
    text = to_srt(None, [_line(1, 0.0, 5.0, "one"), _line(2, 4.0, 6.0, "two")], False)
    assert "00:00:00,000 --> 00:00:04,000" in text and "00:00:04,000 --> 00:00:06,000" in text


def test_a_session_of_more_than_a_hundred_hours() -> None:
    """Has hours of three digits."""
    assert "100:00:00,000 --> 100:00:01,500" in to_srt(None, [_line(1, 360_000.0, 360_001.5, "x")], False)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("# not a heading", r"\# not a heading"),
        ("1. not a list", r"1\. not a list"),
        ("*a* _b_ `c` [d](e) <f>", r"\*a\* \_b\_ \`c\` \[d\](e) \<f\>"),
        ("- x\n\n> y", r"\- x \> y"),
        ("at 3.5 percent", r"at 3\.5 percent"),
    ],
)
def test_markdown(text: str, escaped: str) -> None:
    """A time, and a text no character of which is markup; the heading is the title's."""
    page = to_md("A *title*", [_line(1, 61.5, 63.0, text)], live=False)
    assert page == f"# A \\*title\\*\n\n`00:01:01` {escaped}\n"


def test_a_live_session_in_markdown() -> None:
    """Says that it is still going on."""
    assert "still going on" in to_md(None, [], live=True) and to_md(None, [], live=False) == "# Transcript\n"


def test_speakers() -> None:
    """Stand before their words, in each format's own way."""
    line = _line(1, 0.0, 1.0, "Hello.").model_copy(update={"speaker": SpeakerLabel(id="S1", name="A & B")})
    assert to_txt(None, [line], False) == "A & B: Hello.\n"
    assert "\nA & B: Hello.\n" in to_srt(None, [line], False)
    assert "\n<v A &amp; B>Hello.</v>\n" in to_vtt(None, [line], False)
    assert "**A \\& B:** Hello." in to_md(None, [line], False)


def test_nothing_said_yet() -> None:
    """Is a valid file of every kind."""
    assert to_srt(None, [], True) == "" and to_txt(None, [], True) == ""
    assert to_vtt(None, [], True) == "WEBVTT\n" and json.loads(to_json(None, [], True))["text"] == ""


def test_revisions() -> None:
    """Apply in order; a new text takes the old words with it, a speaker alone leaves them."""
    words = (SpokenWord(text="one", start=0.0, end=0.5, confidence=0.9),)
    who = SpeakerLabel(id="S2")
    events = [
        Final(seq=1, utterance=1, start=0.0, end=1.0, text="one", language="en", words=words),
        Gap(seq=2, start=1.0, end=2.0, reason="overload"),
        Revise(seq=3, utterance=1, rev=1, speaker=who),
    ]
    (line,) = apply(events)
    assert (line.text, line.words, line.speaker, line.rev) == ("one", words, who, 1)
    more = [
        Revise(seq=4, utterance=1, rev=2, text="won"),
        Revise(seq=5, utterance=9, rev=1, text="nobody's"),
        Stopped(seq=6, audio_end=2.0, ledger=Ledger()),
    ]
    (line,) = apply([*events, *more])
    assert (line.text, line.words, line.speaker, line.rev) == (
        "won",
        None,
        who.model_copy(update={"settled": True}),  # the session is over
        2,
    )


def test_finals_that_come_out_of_order() -> None:
    """Stand in order of time."""
    events = [
        Final(seq=n, utterance=n, start=start, end=start + 1, text=str(n), language="en")
        for n, start in ((1, 5.0), (2, 1.0))
    ]
    assert [line.utterance for line in apply(events)] == [2, 1]


def test_a_line_that_two_people_said() -> None:
    """Is shortened, and what the other said stands in its place by time."""
    one, other = SpeakerLabel(id="S1"), SpeakerLabel(id="S2")
    split = Utterance(utterance=7, start=1.5, end=2.0, text="Yes.", language="en", speaker=other)
    events = [
        Final(seq=1, utterance=1, start=0.0, end=2.0, text="Ready? Yes.", language="en", speaker=one),
        Final(seq=2, utterance=2, start=3.0, end=4.0, text="Good.", language="en", speaker=one),
        Revise(
            seq=3,
            utterance=1,
            rev=1,
            reason="voices_told_apart",
            text="Ready?",
            end=1.0,
            speaker=one,
            split=(split,),
        ),
    ]
    lines = apply(events)
    assert [(line.utterance, line.text, line.end) for line in lines] == [
        (1, "Ready?", 1.0),
        (7, "Yes.", 2.0),
        (2, "Good.", 4.0),
    ]
    assert [line.speaker.id for line in lines if line.speaker] == ["S1", "S2", "S1"]


def test_a_speaker_who_gets_a_name() -> None:
    """Has it on every line so far, and on no one else's."""
    events = [
        Final(
            seq=n, utterance=n, start=n, end=n + 1, text=str(n), language="en", speaker=SpeakerLabel(id=who)
        )
        for n, who in ((1, "S1"), (2, "S2"), (3, "S1"))
    ]
    named = Revise(seq=4, reason="named", speaker=SpeakerLabel(id="S1", name="Nell", settled=True))
    assert [line.speaker and line.speaker.name for line in apply([*events, named])] == ["Nell", None, "Nell"]
    assert to_txt(None, apply([*events, named]), live=True) == "Nell: 1\nS2: 2\nNell: 3\n"
