"""The roster: the speakers of a session, what is remembered of their voices, and whose a voice in a window is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from streaming.clustering import cluster, pair
from streaming.listening import Array
from streaming.views import NOBODY, View


@dataclass(frozen=True, eq=False)
class Voice:
    """A speaker's voice as known so far."""

    centroid: Array  # [VOICEPRINT], unit vector
    seconds: float  # of clean speech behind it


@dataclass(frozen=True)
class RosterSettings:
    """When two voices are one. Similarities are cosines of voiceprints."""

    same: float = 0.38  # a voice this similar to a speaker is theirs
    same_short: float = 0.25  # where there is less speech than `sure_s` behind the voice
    same_part: float = 0.28  # where the voice is part of one that was divided
    sure_s: float = 2.0  # seconds of speech alone from which a voiceprint is sure
    continued: float = 0.20  # added to the similarity of a voice that was theirs a window ago
    new_s: float = 1.5  # seconds of speech alone without which nobody is new ...
    new_far_s: float = 0.8  # ... but for those who are `far` from everybody ...
    far: float = 0.20  # similarity below which that is
    first_s: float = 0.3  # ... and for the first
    guess_s: float = 0.1  # seconds of speech alone from which a voice that says less is the nearest speaker's
    alike: float = 0.40  # mean similarity from which clusters are one speaker
    surely_alike: float = 0.50  # from here one speaker, though a window held them to be two
    remembered_s: float = 0.8  # seconds of speech alone from which a voice is remembered
    typical: float = 0.50  # similarity to its speaker without which a voice is not: two may speak in it
    most_prints: int = 100  # remembered; beyond, the oldest of a speaker become one
    most_speakers: int = 12


@dataclass(frozen=True, eq=False)
class _Print:
    """A voiceprint that is remembered."""

    voiceprint: Array  # [VOICEPRINT], unit vector
    seconds: float
    speaker: int
    view: int  # frame at which its view ended: voices of one view are different people's ...
    local: int  # ... but for parts of one voice


class Roster:
    """Numbers speakers in order of appearance, and keeps the numbers while it learns better."""

    def __init__(self, settings: RosterSettings, voices: Mapping[int, Voice] | None = None) -> None:
        self._settings = settings
        self._prints: list[_Print] = []
        self.voices: dict[int, Voice] = dict(voices or {})
        self._numbers = max(self.voices, default=0)  # given out so far

    def recognise(self, view: View, before: View | None) -> None:
        """Says whose the voices of a view are, NOBODY where nobody known fits."""
        count = len(view.local)
        view.speakers, view.similarity = [NOBODY] * count, [0.0] * count
        heard, numbers = view.heard(), list(self.voices)
        if not heard or not numbers:
            return
        similarity = self._similarity(view)  # [voices, speakers]
        scores = np.zeros_like(similarity)
        least = []
        for local in heard:
            sure = min(1.0, float(view.clean[local]) / self._settings.sure_s)
            scores[local] = similarity[local] * min(1.0, 2 * sure)
            same = self._settings.same if view.whole(local) else self._settings.same_part
            least.append(self._settings.same_short + sure * (same - self._settings.same_short))
        if before is not None:
            continued = view.continuity(before)
            for there, speaker in enumerate(before.speakers):
                if speaker in self.voices:
                    scores[:, numbers.index(speaker)] += self._settings.continued * continued[:, there]
        for local, column in zip(
            heard, pair(scores[heard], least, [view.local[each] for each in heard]), strict=True
        ):
            if column is not None:
                view.speakers[local] = numbers[column]
                view.similarity[local] = float(similarity[local, column])

    def guess(self, view: View) -> None:
        """Voices of a view that are nobody's, and say too little to be somebody new, go to the nearest speaker."""
        if not self.voices:
            return
        similarity, numbers = self._similarity(view), list(self.voices)
        for voice in view.heard():
            if (
                view.speakers[voice] == NOBODY
                and self._settings.guess_s <= view.clean[voice] < self._settings.new_s
            ):
                taken = {
                    speaker
                    for speaker, local in zip(view.speakers, view.local, strict=True)
                    if local != view.local[voice]
                }
                free = [column for column, number in enumerate(numbers) if number not in taken]
                if free:
                    best = max(free, key=lambda column: float(similarity[voice, column]))
                    view.speakers[voice] = numbers[best]
                    view.similarity[voice] = float(similarity[voice, best])

    def strangers(self, view: View) -> list[int]:
        """Voices of a view that are nobody's, with speech enough to be somebody new."""
        if len(self.voices) >= self._settings.most_speakers:
            return []
        similarity = self._similarity(view).max(axis=1) if self.voices else np.full(len(view.local), -1.0)
        return [
            local
            for local in view.heard()
            if view.speakers[local] == NOBODY and view.clean[local] >= self._enough(float(similarity[local]))
        ]

    def _enough(self, similarity: float) -> float:
        """Seconds of speech alone from which a voice of that similarity to its nearest speaker is somebody new."""
        s = self._settings
        if not self.voices:
            return s.first_s
        return s.new_far_s if similarity < s.far else s.new_s

    def grow(self, view: View) -> list[int]:
        """Speakers of whom little is known are known by the longest that was heard -> the voices it was heard of."""
        grown = []
        for voice in view.heard():
            mine = [i for i, each in enumerate(self._prints) if each.speaker == view.speakers[voice]]
            if len(mine) == 1 and self._prints[mine[0]].seconds < min(
                self._settings.new_s, view.clean[voice]
            ):
                self._prints[mine[0]] = replace(
                    self._prints[mine[0]],
                    voiceprint=view.voiceprints[voice],
                    seconds=float(view.clean[voice]),
                )
                grown.append(voice)
        if grown:
            self._learn()
        return grown

    def admit(self, view: View, local: int) -> None:
        """A voice of a view is a new speaker's."""
        self._numbers += 1
        view.speakers[local], view.similarity[local] = self._numbers, 1.0
        self._remember(view, local, float(view.clean[local]))
        self._learn()

    def remember(self, view: View, fresh: Array) -> bool:
        """Keeps a view's voices, by `fresh` [voices] seconds of speech alone not kept before -> whether any was kept."""
        kept = False
        for local in view.heard():
            enough = view.clean[local] >= self._settings.remembered_s and fresh[local] > 0
            typical = view.similarity[local] >= self._settings.typical
            if enough and typical and view.speakers[local] != NOBODY:
                self._remember(view, local, float(fresh[local]))
                kept = True
        return kept

    def review(self) -> None:
        """Clusters all that is remembered anew; the clusters keep the numbers of those they mostly were."""
        if not self._prints:
            return
        voiceprints = np.stack([each.voiceprint for each in self._prints])
        seconds = np.array([each.seconds for each in self._prints])
        member = cluster(voiceprints, seconds, self._settings.alike, self._apart())
        shares: dict[tuple[int, int], float] = {}  # seconds by cluster and number
        for each, index in zip(self._prints, member.tolist(), strict=True):
            shares[index, each.speaker] = shares.get((index, each.speaker), 0.0) + each.seconds
        numbers: dict[int, int] = {}
        for index, speaker in sorted(shares, key=lambda key: (-shares[key], key[1])):
            if index not in numbers and speaker not in numbers.values():
                numbers[index] = speaker
        for index in sorted(set(member.tolist()) - set(numbers)):
            self._numbers += 1
            numbers[index] = self._numbers
        self._prints = [
            replace(each, speaker=numbers[index])
            for each, index in zip(self._prints, member.tolist(), strict=True)
        ]
        self._learn()

    def _apart(self) -> list[tuple[int, int]]:
        """Pairs of prints that one view held to be different people."""
        return [
            (i, j)
            for j, late in enumerate(self._prints)
            for i, early in enumerate(self._prints[:j])
            if early.view == late.view
            and early.local != late.local
            and float(early.voiceprint @ late.voiceprint) < self._settings.surely_alike
        ]

    def _similarity(self, view: View) -> Array:
        return np.asarray(
            view.voiceprints @ np.stack([v.centroid for v in self.voices.values()]).T, np.float32
        )

    def _remember(self, view: View, local: int, seconds: float) -> None:
        self._prints.append(
            _Print(view.voiceprints[local], seconds, view.speakers[local], view.end, view.local[local])
        )
        if len(self._prints) > self._settings.most_prints:
            self._condense()

    def _condense(self) -> None:
        """The two oldest prints of the speaker who has most become one."""
        count: dict[int, int] = {}
        for each in self._prints:
            count[each.speaker] = count.get(each.speaker, 0) + 1
        speaker = max(count, key=lambda number: count[number])
        first, second = [i for i, each in enumerate(self._prints) if each.speaker == speaker][:2]
        a, b = self._prints[first], self._prints.pop(second)
        mixed = a.seconds * a.voiceprint + b.seconds * b.voiceprint
        self._prints[first] = _Print(
            mixed / np.linalg.norm(mixed), a.seconds + b.seconds, speaker, a.view, a.local
        )

    def _learn(self) -> None:
        """Centroids from the prints."""
        sums: dict[int, Array] = {}
        seconds: dict[int, float] = {}
        for each in self._prints:
            sums[each.speaker] = sums.get(each.speaker, 0) + each.seconds * each.voiceprint
            seconds[each.speaker] = seconds.get(each.speaker, 0.0) + each.seconds
        self.voices = {
            speaker: Voice(
                (sums[speaker] / np.linalg.norm(sums[speaker])).astype(np.float32), seconds[speaker]
            )
            for speaker in sorted(sums)
        }
