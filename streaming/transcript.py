"""Transcripts: what a session's durable events add up to, and the file formats people want it in.

SubRip: https://www.matroska.org/technical/subtitles.html#srt-subtitles; WebVTT: https://www.w3.org/TR/webvtt1/.
All of them are valid for a session that is still going on: they hold what is final so far.
"""

from __future__ import annotations

import itertools
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from streaming.events import DurableEvent, Final, Revise, SpeakerLabel, SpokenWord, Stopped, Utterance

LINE_CHARS = 42  # of a caption line, the broadcasters' usual limit
CUE_CHARS = 2 * LINE_CHARS  # two lines a cue
READ_CHARS_PER_S = 17.0  # that are read with ease; faster speech is shown as it comes
COMFORTABLE_S = 1.0  # a cue stands for so long, if nothing else is said
LINGER_S = 2.0  # after its last word no cue stands longer than this


def apply(events: Iterable[DurableEvent]) -> list[Utterance]:
    """Finals with their revisions applied, in order of time. Revisions of unknown utterances are ignored."""
    utterances: dict[int, Utterance] = {}
    for event in events:
        if isinstance(event, Final):
            utterances[event.utterance] = Utterance(
                utterance=event.utterance,
                start=event.start,
                end=event.end,
                text=event.text,
                language=event.language,
                speaker=event.speaker,
                words=event.words,
                evidence=event.evidence,
            )
        elif isinstance(event, Revise):
            for changed in _revised(utterances, event):
                utterances[changed.utterance] = changed
        elif isinstance(event, Stopped):
            utterances = {number: _settled(each) for number, each in utterances.items()}
    return sorted(utterances.values(), key=lambda utterance: (utterance.start, utterance.utterance))


def _revised(utterances: Mapping[int, Utterance], revise: Revise) -> Iterator[Utterance]:
    """The utterances that a revision changes or adds."""
    if revise.utterance is None:
        label = revise.speaker
        for each in utterances.values():
            if label is not None and each.speaker is not None and each.speaker.id == label.id:
                settled = label.settled or each.speaker.settled
                yield each.model_copy(update={"speaker": label.model_copy(update={"settled": settled})})
        return
    before = utterances.get(revise.utterance)
    if before is None:
        return
    changed: dict[str, object] = {"rev": revise.rev}
    if revise.text is not None:
        changed |= {"text": revise.text, "words": None}  # the old words no longer spell the text
    for field in ("end", "words", "speaker"):
        if (value := getattr(revise, field)) is not None:
            changed[field] = value
    yield before.model_copy(update=changed)
    yield from revise.split or ()


def _settled(utterance: Utterance) -> Utterance:
    """As it stands when the session is over: nothing can change any more."""
    if utterance.speaker is None or utterance.speaker.settled:
        return utterance
    return utterance.model_copy(update={"speaker": utterance.speaker.model_copy(update={"settled": True})})


def to_json(title: str | None, utterances: Sequence[Utterance], live: bool) -> str:
    """{"title", "live", "text", "utterances": [...]}; fields that are None are left out of utterances."""
    return json.dumps(
        {
            "title": title,
            "live": live,
            "text": " ".join(text for utterance in utterances if (text := _plain(utterance.text))),
            "utterances": [utterance.model_dump(mode="json", exclude_none=True) for utterance in utterances],
        },
        ensure_ascii=False,
    )


def to_txt(title: str | None, utterances: Sequence[Utterance], live: bool) -> str:
    """One utterance a line, the speaker before it where there is one."""
    lines = [
        f"{_who(utterance)}{_plain(utterance.text)}" for utterance in utterances if utterance.text.strip()
    ]
    return "".join(f"{line}\n" for line in lines)


def to_md(
    title: str | None,
    utterances: Sequence[Utterance],
    live: bool,
    facts: Sequence[tuple[str, str]] = (),
) -> str:
    """A heading, facts about it, and a paragraph an utterance with its time; no character of a text acts as markup."""
    paragraphs = [f"# {_escape_md(_plain(title or '')) or 'Transcript'}"]
    if live:
        paragraphs.append("*This session is still going on.*")
    if facts:
        lines = [f"- {_escape_md(_plain(name))}: {_escape_md(_plain(value))}" for name, value in facts]
        paragraphs.append("\n".join(lines))
    for utterance in utterances:
        if text := _plain(utterance.text):
            who = f" **{_escape_md(_name(utterance.speaker))}:**" if utterance.speaker else ""
            paragraphs.append(f"`{_clock(utterance.start)}`{who} {_escape_md(text)}")
    return "\n\n".join(paragraphs) + "\n"


def to_srt(title: str | None, utterances: Sequence[Utterance], live: bool) -> str:
    """SubRip: numbered cues of at most two lines that neither overlap nor are empty."""
    cues = enumerate(_cues(utterances), start=1)
    return "\n".join(
        f"{number}\n{_stamp(cue.start, ',')} --> {_stamp(cue.end, ',')}\n{cue.srt()}\n"
        for number, cue in cues
    )


def to_vtt(title: str | None, utterances: Sequence[Utterance], live: bool, words: bool = False) -> str:
    """WebVTT: as SubRip, with speakers as voice spans; words: with the time of each word before it, where known."""
    header = f"WEBVTT - {_plain(title).replace('-->', '→')}\n" if title and title.strip() else "WEBVTT\n"
    cues = [
        f"\n{_stamp(cue.start, '.')} --> {_stamp(cue.end, '.')}\n{cue.vtt(words)}\n"
        for cue in _cues(utterances)
    ]
    return header + "".join(cues)


@dataclass(frozen=True)
class _Piece:
    """A screenful of an utterance. Times in seconds."""

    start: float
    end: float
    text: str
    words: tuple[float, ...] = ()  # when each of its words begins, where that is known


@dataclass(frozen=True)
class _Cue:
    """What stands on the screen at once."""

    start: int  # milliseconds
    end: int  # milliseconds
    text: str  # one line, not yet wrapped
    speaker: str  # empty where nobody knows
    words: tuple[int, ...] = ()  # milliseconds at which each of its words begins, where that is known

    def srt(self) -> str:
        """Wrapped; SubRip knows no escapes, but players read tags and, in some, an arrow as a time line."""
        said = f"{self.speaker}: {self.text}" if self.speaker else self.text
        safe = said.replace("-->", "→").replace("<", "‹").replace(">", "›")
        return "\n".join(_wrapped(safe))

    def vtt(self, words: bool) -> str:
        """Wrapped and escaped: `-->`, `<` and `&` mean something in WebVTT."""
        times = iter(self.words if words else ())
        lines = [
            _timed_vtt(line, times, self) if words else _escape_vtt(line) for line in _wrapped(self.text)
        ]
        text = "\n".join(lines)
        return f"<v {_escape_vtt(self.speaker)}>{text}</v>" if self.speaker else text


def _timed_vtt(line: str, times: Iterator[int], cue: _Cue) -> str:
    """The words of a line, each after its time stamp, which must lie within the cue and after the last one."""
    stamped, last = [], cue.start
    for word in line.split():
        at = next(times, None)
        if at is not None and last < at < cue.end:
            stamped.append(f"<{_stamp(at, '.')}>{_escape_vtt(word)}")
            last = at
        else:
            stamped.append(_escape_vtt(word))
    return " ".join(stamped)


def _cues(utterances: Sequence[Utterance]) -> list[_Cue]:
    """Cues in order of time that last at least 1 ms, and do not overlap.

    One that would be too short to be read stands on for as long as nothing else is said.
    """
    cues: list[_Cue] = []
    for utterance in utterances:
        for piece in _pieces(utterance):
            begin = max(round(piece.start * 1000), 0)
            if cues and begin < cues[-1].end:
                cut = max(begin, cues[-1].start + 1)
                cues[-1] = replace(cues[-1], end=cut)
                begin = cut
            end = max(round(piece.end * 1000), begin + 1)
            words = tuple(round(at * 1000) for at in piece.words)
            cues.append(_Cue(begin, end, piece.text, _name(utterance.speaker), words))
    following = itertools.zip_longest(cues, (cue.start for cue in cues[1:]))
    return [_readable(cue, limit) for cue, limit in following]


def _readable(cue: _Cue, limit: int | None) -> _Cue:
    """The cue, standing long enough to be read, but not beyond `limit` (milliseconds) nor longer than LINGER_S more."""
    wanted = max(COMFORTABLE_S, len(cue.text) / READ_CHARS_PER_S) * 1000
    end = min(cue.start + round(wanted), cue.end + round(LINGER_S * 1000))
    end = end if limit is None else min(end, limit)
    return replace(cue, end=max(cue.end, end))


def _pieces(utterance: Utterance) -> list[_Piece]:
    """A piece for each screenful: by the words' times where known, else by the share of characters."""
    text = _plain(utterance.text)
    if not text:
        return []
    room = CUE_CHARS - (len(_name(utterance.speaker)) + 2 if utterance.speaker else 0)
    parts = _screens(text, max(room, LINE_CHARS))
    if utterance.words and (pieces := _pieces_by_words(parts, utterance.words)) is not None:
        return pieces
    length = utterance.end - utterance.start
    shares = [0]
    for part in parts:
        shares.append(shares[-1] + len(part))
    times = [utterance.start + length * share / shares[-1] for share in shares]
    return [
        _Piece(start, end, part) for (start, end), part in zip(itertools.pairwise(times), parts, strict=True)
    ]


def _pieces_by_words(parts: Sequence[str], words: Sequence[SpokenWord]) -> list[_Piece] | None:
    """The parts with their times, or None where the words do not spell them."""
    counts = [len(part.split()) for part in parts]
    if sum(counts) != len(words):
        return None
    pieces, first = [], 0
    for part, count in zip(parts, counts, strict=True):
        own = words[first : first + count]
        pieces.append(_Piece(own[0].start, own[-1].end, part, tuple(word.start for word in own)))
        first += count
    return pieces


def _screens(text: str, room: int) -> list[str]:
    """Cuts text into parts of at most `room` characters that fit two lines, of about equal length, preferably after a
    sentence.
    """
    if len(text) <= LINE_CHARS or (len(text) <= room and _in_two(text) is not None):
        return [text]
    parts: list[str] = []
    rest = text
    while len(rest) > LINE_CHARS and (len(rest) > room or _in_two(rest) is None):
        pieces = max(2, -(-len(rest) // room))
        goal = len(rest) / pieces  # an even share, so that no lone word is left over
        breaks = [match.start() for match in re.finditer(" ", rest[: room + 1])]
        breaks = [at for at in breaks if at <= LINE_CHARS or _in_two(rest[:at]) is not None] or breaks[:1]
        if not breaks:
            parts, rest = [*parts, rest[:room]], rest[room:]
            continue
        cut = min(breaks, key=lambda at: abs(at - goal) - room * _pause(rest[at - 1]) / 4)
        parts, rest = [*parts, rest[:cut]], rest[cut + 1 :]
    return [*parts, rest] if rest else parts


def _pause(last: str) -> float:
    """How good a place to break follows a character, 0..1."""
    if last in ".?!…。？！":
        return 1.0
    return 0.7 if last in ",;:—–、，" else 0.0


def _in_two(text: str) -> tuple[str, str] | None:
    """Two lines of at most LINE_CHARS: of about one length, rather broken after punctuation; None where two are not
    enough.
    """
    breaks = [at for at in range(len(text)) if text[at] == " "]
    fitting = [at for at in breaks if at <= LINE_CHARS and len(text) - at - 1 <= LINE_CHARS]
    if not fitting:
        return None
    middle = len(text) / 2
    cut = min(fitting, key=lambda at: abs(at - middle) - LINE_CHARS * _pause(text[at - 1]) / 4)
    return text[:cut], text[cut + 1 :]


def _wrapped(text: str) -> list[str]:
    """One line if it fits, two if they do, else as many as it takes."""
    if len(text) <= LINE_CHARS:
        return [text]
    return list(_in_two(text) or textwrap.wrap(text, LINE_CHARS, break_on_hyphens=False))


def _stamp(milliseconds: int, point: str) -> str:
    """HH:MM:SS,mmm; hours grow as they must."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def _clock(seconds: float) -> str:
    whole = max(int(seconds), 0)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _plain(text: str) -> str:
    """One line, no control characters: an empty line would end a cue."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())


def _name(speaker: SpeakerLabel | None) -> str:
    return _plain(speaker.name or speaker.id) if speaker else ""


def _who(utterance: Utterance) -> str:
    return f"{_name(utterance.speaker)}: " if utterance.speaker else ""


def _escape_vtt(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _escape_md(text: str) -> str:
    """Every ASCII punctuation that CommonMark could read as markup, behind a backslash."""
    return re.sub(r"([\\`*_{}\[\]<>#+\-!|~&$]|(?<=\d)[.)])", r"\\\1", text)
