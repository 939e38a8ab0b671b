"""Recognition: which speakers of a session are people whose voiceprints are on file, and when that changes.

Nobody is forced to a name. One that was recognised is kept until another fits clearly better, is one speaker's only,
and yields to what a person says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from streaming.voices import MARGIN, Voiceprint, alike, recognise
from streaming.window import SAMPLE_RATE

KnownVoice = tuple[str, Voiceprint]  # a name, and a voiceprint of its owner
Match = tuple[str, float]  # a name, and the confidence 0..1 that it is theirs

ENOUGH_S = 3.0  # seconds of clean speech behind a voice before it is compared
EVERY = SAMPLE_RATE  # samples between comparisons
_STEADY = 0.05  # confidences this close are shown as one


class Heard(Protocol):
    """A speaker's voice as known so far: streaming.roster.Voice."""

    @property
    def centroid(self) -> Voiceprint:
        """[VOICEPRINT]"""

    @property
    def seconds(self) -> float:
        """Of clean speech behind it."""


class Recognition:
    """One session's matches of speakers with names."""

    def __init__(self, known: Sequence[KnownVoice] = ()) -> None:
        """known: the voices on file; a name may have several."""
        self._known = known
        self._matches: dict[int, Match] = {}
        self._given: dict[int, str | None] = {}  # by a person: a name, or that there is to be none
        self._compared: dict[int, float] | None = None  # seconds behind each voice; None: compare at once
        self._compared_at = 0  # sample

    def know(self, known: Sequence[KnownVoice]) -> None:
        """Other voices are on file from now on."""
        self._known, self._compared = known, None

    def give(self, speaker: int, name: str | None) -> None:
        """A person said who this is; the voice is not asked any more, and nobody else is recognised by that name."""
        self._given[speaker], self._compared = name, None
        self._matches.pop(speaker, None)

    def match(self, speaker: int) -> Match | None:
        """Whom a speaker was recognised as."""
        return self._matches.get(speaker)

    def review(self, voices: Mapping[int, Heard | None], now: int, hurry: bool = False) -> list[int]:
        """Compares, where it is time and there is something new -> the speakers whose name changed.

        now: a sample index; hurry: it may be the last opportunity.
        """
        if not self._known and not self._matches:
            return []
        first = self._compared is None
        if not (first or hurry or now - self._compared_at >= EVERY):
            return []
        heard = {number: voice for number, voice in voices.items() if voice is not None}
        seconds = {
            number: voice.seconds
            for number, voice in heard.items()
            if voice.seconds >= ENOUGH_S or number in self._matches
        }
        if seconds == self._compared:
            return []
        self._compared, self._compared_at = seconds, now
        before, self._matches = self._matches, self._compare({each: heard[each].centroid for each in seconds})
        return [number for number in seconds if _name(before, number) != _name(self._matches, number)]

    def _compare(self, voices: Mapping[int, Voiceprint]) -> dict[int, Match]:
        given = set(self._given.values())
        known = [each for each in self._known if each[0] not in given]
        asked = {number: voice for number, voice in voices.items() if number not in self._given}
        matches = self._kept(asked, known)
        holders = {name: number for number, (name, _) in matches.items()}
        strangers = {number: voice for number, voice in asked.items() if number not in matches}
        for number, (name, cosine) in recognise(strangers, known).items():
            holder = holders.get(name)
            if holder is not None:
                if cosine < matches[holder][1] + MARGIN:
                    continue
                del matches[holder]
            matches[number] = (name, round(min(cosine, 1.0), 3))
        return matches

    def _kept(self, voices: Mapping[int, Voiceprint], known: Sequence[KnownVoice]) -> dict[int, Match]:
        """The matches that still hold: the name is on file, and no other is clearly closer to the voice."""
        kept = {}
        for number, (name, shown) in self._matches.items():
            cosines = alike(voices[number], known) if number in voices else {}
            if name not in cosines:
                continue
            better = recognise({number: voices[number]}, known).get(number)
            if better is None or better[0] == name:
                confidence = round(min(max(cosines[name], 0.0), 1.0), 3)
                kept[number] = (name, shown if abs(confidence - shown) < _STEADY else confidence)
        return kept


def _name(matches: Mapping[int, Match], number: int) -> str | None:
    return matches[number][0] if number in matches else None
