"""Looks at a recording in, turns out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from streaming import detectors
from streaming.listening import FRAME, LOCALS, VOICEPRINT, Array
from streaming.pieces import Look, pieces_of
from streaming.recording import Recording, RecordingSettings, length_in_frames
from streaming.turns import Turn
from streaming.verdicts import Verdicts
from streaming.window import SAMPLE_RATE

Span = tuple[int, int, int]  # frames start..end, and who: 0, 1, 2 ...

WINDOW, STEP, SECOND = 590, 30, SAMPLE_RATE // FRAME
NOISE = 0.5


def voice(who: int) -> Array:
    found = np.zeros(VOICEPRINT, np.float32)
    found[who] = 1.0
    return found


def looks(
    frames: int,
    spans: Sequence[Span],
    confused: bool = False,
    sure: float = 1.0,
    bridged: Sequence[tuple[int, int, float]] = (),
) -> list[Look]:
    """What windows show of the spans. confused: the network takes all for one voice; `bridged`: also speech to it."""
    random, found = np.random.default_rng(3), []
    for index, first in enumerate(range(0, frames - WINDOW + 1, STEP)):
        activity = np.zeros((WINDOW, LOCALS), np.float32)
        truth = np.zeros((WINDOW, 8), bool)
        for start, end, who in spans:
            part = slice(max(0, start - first), max(0, end - first))
            activity[part, 0 if confused else who % LOCALS] = sure
            truth[part, who] = True
        for start, end, probability in bridged:
            activity[max(0, start - first) : max(0, end - first), 0] = probability
        pieces = pieces_of(activity, index % 4 / 4)
        prints = np.zeros((len(pieces), VOICEPRINT), np.float32)
        clean = np.zeros(len(pieces), np.float32)
        for at, piece in enumerate(pieces):
            rows = truth[piece.start : piece.end]
            own = rows if confused else rows & (np.arange(8) % LOCALS == piece.local)
            alone = own[rows.sum(axis=1) == 1]
            clean[at] = len(alone) / SECOND
            mixed = alone.sum(axis=0) @ np.stack([voice(who) for who in range(8)])
            mixed = mixed / max(1.0, float(np.linalg.norm(mixed)))
            mixed += random.normal(size=VOICEPRINT) * NOISE / np.sqrt(VOICEPRINT)
            prints[at] = mixed / np.linalg.norm(mixed)
        found.append(Look(first, activity, pieces, prints, clean))
    return found


def turns(
    given: Sequence[Look],
    frames: int,
    settings: RecordingSettings | None = None,
    fewest: int = 1,
    most: int | None = None,
    verdicts: Verdicts | None = None,
) -> list[Turn]:
    recording = Recording(frames, settings)
    for look in given:
        recording.receive_look(look)
    return recording.turns(fewest, most, verdicts)


def spans_of(found: Sequence[Turn]) -> list[Span]:
    return [(turn.start // FRAME - 1, turn.end // FRAME - 1, turn.speaker) for turn in found]


def assert_close(found: Sequence[Span], expected: Sequence[Span], frames: int) -> None:
    assert [who for *_, who in found] == [who for *_, who in expected]
    for (start, end, _), (since, until, _) in zip(found, expected, strict=True):
        assert abs(start - since) <= frames and abs(end - until) <= frames


def test_turns() -> None:
    """Are where the looks heard them; speakers are numbered by appearance, and both speak where two do."""
    spans = [(50, 300, 1), (310, 600, 0), (560, 800, 2), (850, 1100, 1)]
    found = turns(looks(1180, spans), 1180)
    assert_close(spans_of(found), [(50, 300, 1), (310, 600, 2), (560, 800, 3), (850, 1100, 1)], 3)
    assert all(turn.settled and turn.confidence is not None and turn.confidence > 0.5 for turn in found)


def test_one_voice_for_two_people() -> None:
    """Is told apart by its pieces, though every look took two people for one."""
    spans = [(30, 330, 0), (330, 700, 1), (700, 1150, 0)]
    found = turns(looks(1180, spans, confused=True), 1180)
    assert_close(spans_of(found), [(30, 330, 1), (330, 700, 2), (700, 1150, 1)], 30)


def test_somebody_who_says_little() -> None:
    """Is a speaker; not with less than the least."""
    spans = [(30, 500, 0), (520, 590, 1), (610, 1150, 0)]
    given = looks(1180, spans)
    assert len({turn.speaker for turn in turns(given, 1180)}) == 2
    most_of_it = RecordingSettings(least_s=3.0)
    assert len({turn.speaker for turn in turns(given, 1180, most_of_it)}) == 1


def test_bounds() -> None:
    """On the number of speakers are kept."""
    given = looks(1180, [(50, 300, 0), (310, 600, 1), (610, 1100, 2)])
    assert len({turn.speaker for turn in turns(given, 1180, most=2)}) == 2
    assert len({turn.speaker for turn in turns(given, 1180, most=1)}) == 1
    much = RecordingSettings(least_s=6.0)  # which only the third says
    assert len({turn.speaker for turn in turns(given, 1180, much)}) == 1
    assert len({turn.speaker for turn in turns(given, 1180, much, fewest=3, most=3)}) == 3


def test_few_prints() -> None:
    """Of a long recording are compared, and tell the same."""
    given = looks(1180, [(50, 300, 1), (310, 600, 0), (620, 1100, 1)])
    assert spans_of(turns(given, 1180, RecordingSettings(most_prints=12))) == spans_of(turns(given, 1180))


def test_words_only() -> None:
    """Of less than a print's least length still have a speaker."""
    found = turns(looks(1180, [(500, 520, 0), (600, 620, 0)]), 1180)
    assert_close(spans_of(found), [(500, 520, 1), (600, 620, 1)], 2)


def test_doubtful_speech() -> None:
    """Counts from one half on, on average over the looks."""
    spans = [(500, 700, 0)]
    assert len(turns(looks(1180, spans, sure=0.6), 1180)) == 1
    assert turns(looks(1180, spans, sure=0.4), 1180) == []


@pytest.mark.parametrize(("probability", "parts"), [(0.7, 2), (0.98, 1)])
def test_a_pause(probability: float, parts: int) -> None:
    """That the speech detector knows is left out, unless the looks are sure of speech."""
    spans, pause = [(100, 500, 0), (560, 1000, 0)], (500, 560)
    given = looks(1180, spans, bridged=[(*pause, probability)])
    assert len(turns(given, 1180)) == 1
    ratio = FRAME / detectors.FRAME
    heard = np.zeros(round(1180 * ratio), bool)
    for start, end, _ in spans:
        heard[round(start * ratio) : round(end * ratio)] = True
    known = Verdicts()
    known.receive(heard.tolist())
    assert len(turns(given, 1180, verdicts=known)) == parts


@pytest.mark.parametrize("samples", [0, 100, SAMPLE_RATE, 60 * SAMPLE_RATE])
def test_nobody(samples: int) -> None:
    """Without looks there are no turns."""
    assert Recording(length_in_frames(samples)).turns() == []
