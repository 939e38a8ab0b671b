"""A recording: looks at all of it in, turns of its speakers out.

How many speak at a moment is what the looks expect on average. Who it is, they vote on: each gives every piece of a
voice to the person whose voice is nearest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streaming.listening import FRAME, FRAME_AT, VOICEPRINT, Array
from streaming.people import people
from streaming.pieces import Look, Piece
from streaming.turns import Turn, turns_of
from streaming.verdicts import Verdicts
from streaming.views import Tally

_AT_ONCE = 2  # people who are held to speak at once; the network knows no sets of three


@dataclass(frozen=True)
class RecordingSettings:
    """How a recording's voices become speakers. Times in seconds."""

    compared_s: float = 0.6  # of speech alone, from which a piece takes part in finding out who there is
    least_s: float = 0.5  # of speech alone, without which nobody is a speaker
    most_prints: int = 1_000  # that are compared; of a longer recording, evenly chosen
    expected: float = 0.5  # mean number of speakers from which one speaks, and by one more two
    doubt: float = 0.9  # mean number of speakers below which the speech detector is believed about a pause
    shortest_s: float = 0.1  # of a turn
    gap_s: float = 0.25  # a pause up to this long does not end a turn


@dataclass(frozen=True, eq=False)
class _Pieces:
    """The pieces of one look, kept small: half a kilobyte each."""

    first: int  # frame of the recording
    pieces: tuple[Piece, ...]
    voiceprints: NDArray[np.float16]  # [pieces, VOICEPRINT]
    clean: Array  # [pieces]


class Recording:
    """What was heard in a recording so far. For one thread at a time."""

    def __init__(self, frames: int, settings: RecordingSettings | None = None) -> None:
        """frames: its length."""
        self._settings = settings or RecordingSettings()
        self._looks: list[_Pieces] = []
        self._looked = np.zeros(frames, np.int16)  # how many looks saw each frame
        self._expected = np.zeros(frames, np.float32)  # how many speak, summed over them

    def receive_look(self, look: Look) -> None:
        """A look at a window, in order of time."""
        part = slice(look.first, look.first + len(look.activity))
        self._looked[part] += 1
        self._expected[part] += look.activity[: len(self._looked[part])].sum(axis=1)
        prints = look.voiceprints.astype(np.float16)
        self._looks.append(_Pieces(look.first, tuple(look.pieces), prints, look.clean))

    def turns(self, fewest: int = 1, most: int | None = None, verdicts: Verdicts | None = None) -> list[Turn]:
        """The turns, in order; speakers are numbered by appearance, and there are between `fewest` and `most`.

        With the verdicts of the speech detector, pauses that they know and the looks do not deny are left out.
        """
        s = self._settings
        voices = self._voices(fewest, most)
        if not len(voices):
            return []
        expected = np.asarray(self._expected / np.maximum(self._looked, 1), np.float32)
        turns = turns_of(self._tally(voices, expected), True, s.shortest_s, s.gap_s)
        if verdicts is not None:
            turns = [part for turn in turns for part in self._parts(turn, verdicts, expected)]
        order = {speaker: number for number, speaker in enumerate(dict.fromkeys(t.speaker for t in turns), 1)}
        return [replace(turn, speaker=order[turn.speaker]) for turn in turns]

    def _voices(self, fewest: int, most: int | None) -> Array:
        """[people, VOICEPRINT]: of those who speak."""
        s = self._settings
        chosen = self._chosen(s.compared_s) or self._chosen(0.0)
        if not chosen:
            return np.zeros((0, VOICEPRINT), np.float32)
        stride = -(-len(chosen) // s.most_prints)
        chosen = chosen[::stride]
        prints = np.stack([look.voiceprints[index] for look, index in chosen]).astype(np.float32)
        lengths = np.array([look.clean[index] for look, index in chosen], np.float32)
        seconds = stride * lengths / [self._seen(look, look.pieces[index]) for look, index in chosen]
        return people(prints, lengths, np.asarray(seconds, np.float32), s.least_s, fewest, most)

    def _chosen(self, least_s: float) -> list[tuple[_Pieces, int]]:
        """The pieces with so much speech alone, and any; in order of the looks."""
        return [
            (look, index)
            for look in self._looks
            for index in np.flatnonzero((look.clean >= least_s) & (look.clean > 0)).tolist()
        ]

    def _seen(self, look: _Pieces, piece: Piece) -> float:
        """How many looks saw a piece, on average."""
        return max(1.0, float(self._looked[look.first + piece.start : look.first + piece.end].mean()))

    def _tally(self, voices: Array, expected: Array) -> Tally:
        """Who speaks when: of the people with most votes, as many as are expected to speak."""
        s = self._settings
        votes = np.zeros((len(voices), len(self._looked)), np.float32)
        similar = np.zeros_like(votes)
        for look in self._looks:
            scores = look.voiceprints.astype(np.float32) @ voices.T  # [pieces, people]
            for index in np.flatnonzero(look.clean > 0):
                piece, speaker = look.pieces[index], int(scores[index].argmax())
                part = slice(look.first + piece.start, look.first + piece.end)
                votes[speaker, part] += 1
                similar[speaker, part] += scores[index, speaker]
        rank = np.argsort(np.argsort(-votes, axis=0, kind="stable"), axis=0)  # 0: the most votes
        speaking = (expected > s.expected).astype(int)
        for more in range(1, _AT_ONCE):
            speaking += expected > s.expected + more
        active = (rank < speaking) & (votes > 0)
        similar /= np.maximum(votes, 1)
        numbers = range(1, len(voices) + 1)
        return Tally(0, dict(zip(numbers, active, strict=True)), dict(zip(numbers, similar, strict=True)))

    def _parts(self, turn: Turn, verdicts: Verdicts, expected: Array) -> list[Turn]:
        """A turn without its pauses; where the looks are sure of speech, there is none."""
        parts: list[Turn] = []
        for part in verdicts.without_pauses(turn):
            if parts:
                first, last = ((at - FRAME_AT) // FRAME for at in (parts[-1].end, part.start))
                if expected[first:last].mean() >= self._settings.doubt:
                    parts[-1] = replace(parts[-1], end=part.end)
                    continue
            parts.append(part)
        return parts


def length_in_frames(samples: int) -> int:
    """How many frames a recording of so many samples has."""
    return max(0, (samples - FRAME_AT) // FRAME + 1)
