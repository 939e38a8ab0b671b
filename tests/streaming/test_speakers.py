from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npu.scripted_voices import ToneVoices
from npu.voiceprint import perform
from streaming.errors import StateError
from streaming.listening import Job
from streaming.speakers import Diarizer, DiarizerSettings
from streaming.turns import Turn
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]
Script = Sequence[tuple[float, float, int]]  # start and end in seconds, and which tone

TONES = (300.0, 700.0, 1500.0, 3000.0)
VOICES = ToneVoices(TONES)
VERDICT = 480  # samples of a frame of the detector
MEETING: Script = (
    (1.0, 4.0, 0), (4.5, 7.0, 1), (7.3, 9.0, 0), (9.0, 12.0, 1), (13.5, 16.0, 2), (16.2, 17.0, 0), (17.2, 21.0, 2),
    (24.0, 27.0, 1), (26.5, 29.0, 0),
)  # fmt: skip


def sound(script: Script, seconds: float) -> Array:
    audio = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    for start, end, tone in script:
        at = np.arange(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))
        audio[at] += 0.2 * np.sin(2 * np.pi * TONES[tone] * at / SAMPLE_RATE, dtype=np.float32)
    return audio


def verdicts(audio: Array) -> list[bool]:
    whole = len(audio) - len(audio) % VERDICT
    return [bool(each) for each in np.abs(audio[:whole]).reshape(-1, VERDICT).max(axis=1) > 0.01]


def work(diarizer: Diarizer) -> None:
    while diarizer.demand() is not None:
        job = diarizer.next_job()
        diarizer.receive_heard(job, perform(VOICES, job))


def feed(
    diarizer: Diarizer, audio: Array, message: int = 1_600, then: Callable[[Diarizer], None] = work
) -> None:
    speech, told = verdicts(audio), 0
    for at in range(0, len(audio), message):
        diarizer.receive_audio(audio[at : at + message])
        complete = min(at + message, len(audio)) // VERDICT
        diarizer.receive_verdicts(speech[told:complete])
        told = complete
        then(diarizer)


def diarized(script: Script, seconds: float, **more: int) -> Diarizer:
    diarizer = Diarizer()
    feed(diarizer, sound(script, seconds), **more)
    diarizer.finish()
    work(diarizer)
    return diarizer


def everything(diarizer: Diarizer) -> tuple[Turn, ...]:
    return diarizer.turns(0, 1 << 60)


def rounded(turns: Sequence[Turn]) -> list[tuple[float, float, int]]:
    return [
        (round(turn.start / SAMPLE_RATE, 1), round(turn.end / SAMPLE_RATE, 1), turn.speaker) for turn in turns
    ]


def test_meeting() -> None:
    """Everybody's turns, numbered in order of appearance; overlapping ones overlap."""
    turns = everything(diarized(MEETING, 30))
    assert [turn.speaker for turn in turns] == [1, 2, 1, 2, 3, 1, 3, 2, 1]
    for turn, (start, end, _) in zip(turns, MEETING, strict=True):
        assert turn.start / SAMPLE_RATE == pytest.approx(start, abs=0.06)
        assert turn.end / SAMPLE_RATE == pytest.approx(end, abs=0.06)
        assert turn.settled and turn.confidence is not None and turn.confidence > 0.8


def test_silence() -> None:
    """Nothing is asked of the models, and all of it is settled."""
    diarizer = Diarizer()
    feed(diarizer, np.zeros(60 * SAMPLE_RATE, np.float32), then=lambda d: None)
    assert diarizer.demand() is None
    assert diarizer.heard_until > 59 * SAMPLE_RATE
    diarizer.finish()
    assert diarizer.finished and not everything(diarizer)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 7_000), min_size=1, max_size=30))
def test_any_cut_of_the_audio(sizes: list[int]) -> None:
    """Messages shorter than a step give the same turns, wherever they are cut."""
    audio = sound(MEETING[:5], 18)
    expected = everything(diarized(MEETING[:5], 18))
    diarizer, speech, at, told, index = Diarizer(), verdicts(audio), 0, 0, 0
    while at < len(audio):
        size = sizes[index % len(sizes)]
        diarizer.receive_audio(audio[at : at + size])
        at, index = at + size, index + 1
        complete = min(at, len(audio)) // VERDICT
        diarizer.receive_verdicts(speech[told:complete])
        told = complete
        work(diarizer)
    diarizer.finish()
    work(diarizer)
    assert everything(diarizer) == expected


def test_verdicts_come_late() -> None:
    """They change nothing but when."""
    audio = sound(MEETING, 30)
    diarizer, speech = Diarizer(), verdicts(audio)
    for frame, verdict in enumerate(speech):
        diarizer.receive_audio(audio[frame * VERDICT : (frame + 1) * VERDICT])
        if frame >= 4:
            diarizer.receive_verdicts([speech[frame - 4]])
        work(diarizer)
        del verdict
    diarizer.receive_verdicts(speech[-4:])
    diarizer.finish()
    work(diarizer)
    assert rounded(everything(diarizer)) == rounded(everything(diarized(MEETING, 30)))


def test_settled_labels() -> None:
    """What is settled never changes; turns keep their numbers from the first sight on."""
    diarizer = Diarizer()
    seen: dict[tuple[int, int], Turn] = {}

    def check(d: Diarizer) -> None:
        work(d)
        for turn in d.turns(0, d.settled_until):
            if turn.settled:
                assert seen.setdefault((turn.start, turn.speaker), turn).end <= turn.end

    script = [(start + 30 * i, end + 30 * i, tone) for i in range(3) for start, end, tone in MEETING]
    feed(diarizer, sound(script, 90), then=check)
    diarizer.finish()
    work(diarizer)
    assert diarizer.settled_until >= 90 * SAMPLE_RATE - VERDICT
    assert [turn.speaker for turn in everything(diarizer)] == 3 * [1, 2, 1, 2, 3, 1, 3, 2, 1]
    assert len(seen) > 15


def test_late_machine() -> None:
    """When jobs are rarely taken each covers more; no window is longer, and nothing is missed."""
    jobs: list[Job] = []
    calls = 0

    def seldom(diarizer: Diarizer) -> None:
        nonlocal calls
        calls += 1
        if calls % 25 == 0 and diarizer.demand() is not None:
            jobs.append(diarizer.next_job())
            diarizer.receive_heard(jobs[-1], perform(VOICES, jobs[-1]))

    diarizer = Diarizer()
    feed(diarizer, sound(MEETING, 30), then=seldom)
    assert 5 <= len(jobs) <= 12
    assert max(len(job.audio) for job in jobs) <= 10 * SAMPLE_RATE
    diarizer.finish()
    work(diarizer)
    assert sorted({turn.speaker for turn in everything(diarizer)}) == [1, 2, 3]
    spoken = sum(turn.end - turn.start for turn in everything(diarizer)) / SAMPLE_RATE
    assert spoken == pytest.approx(sum(end - start for start, end, _ in MEETING), rel=0.1)


def test_machine_that_never_comes() -> None:
    """The audio kept is bounded; what was not listened to in time is given up."""
    diarizer = Diarizer()
    feed(diarizer, sound([(0.0, 100.0, 0)], 100), then=lambda d: None)
    assert diarizer.demand() is not None
    job = diarizer.next_job()
    assert job.end > 80 * SAMPLE_RATE and len(job.audio) <= 10 * SAMPLE_RATE
    assert diarizer._tape.end - diarizer._tape.start <= 41 * SAMPLE_RATE
    assert diarizer.heard_until >= 79 * SAMPLE_RATE


@pytest.mark.parametrize("hole_s", [0.5, 5.0, 100.0])
def test_hole(hole_s: float) -> None:
    """Time moves on over missing audio; the same voices have the same numbers behind it."""
    diarizer = Diarizer()
    feed(diarizer, sound(MEETING[:4], 13))
    diarizer.skip(round(hole_s * SAMPLE_RATE))
    after = sound([(1.0, 4.0, 1), (5.0, 8.0, 0)], 9)
    feed(diarizer, after)
    diarizer.finish()
    work(diarizer)
    late = [turn for turn in everything(diarizer) if turn.start > 13 * SAMPLE_RATE]
    assert [(turn.speaker, round(turn.start / SAMPLE_RATE - 13 - hole_s)) for turn in late] == [
        (2, 1),
        (1, 5),
    ]


def test_resumed_session() -> None:
    """Positions count from the session's first sample."""
    start = 1_000_003
    diarizer = Diarizer(start=start)
    feed(diarizer, sound(MEETING[:2], 8))
    diarizer.finish()
    work(diarizer)
    (first, second) = everything(diarizer)
    assert first.start == pytest.approx(start + SAMPLE_RATE, abs=800)
    assert second.end == pytest.approx(start + 7 * SAMPLE_RATE, abs=800)


def test_short_first_word() -> None:
    """The first to speak has a number at once, and keeps it."""
    diarizer = Diarizer()
    feed(diarizer, sound([(1.0, 1.9, 0)], 4))
    assert [turn.speaker for turn in everything(diarizer)] == [1]
    feed(diarizer, sound([(0.0, 3.0, 0)], 4))
    assert {turn.speaker for turn in everything(diarizer)} == {1}
    assert diarizer.speakers[1].seconds < 4.2


def test_job_that_fails() -> None:
    """The session goes on without it."""
    diarizer = Diarizer()
    audio = sound(MEETING, 30)
    failed = 0

    def fail_at_first(d: Diarizer) -> None:
        nonlocal failed
        if d.demand() is not None and failed < 3:
            d.receive_failure(d.next_job())
            failed += 1
        work(d)

    feed(diarizer, audio, then=fail_at_first)
    diarizer.finish()
    work(diarizer)
    assert diarizer.finished and {turn.speaker for turn in everything(diarizer)} == {1, 2, 3}


def test_wrong_calls() -> None:
    """They are refused by name."""
    diarizer = Diarizer()
    with pytest.raises(StateError, match="next_job"):
        diarizer.next_job()
    diarizer.finish()
    with pytest.raises(StateError, match="receive_audio"):
        diarizer.receive_audio(np.zeros(100, np.float32))


def test_long_session_is_bounded() -> None:
    """After ten minutes no more is kept than after two, but the settled turns and a line for each speaker."""
    diarizer = Diarizer(DiarizerSettings(step_s=2.0))
    script = [(start + 30 * i, end + 30 * i, tone) for i in range(20) for start, end, tone in MEETING]
    feed(diarizer, sound(script, 600), message=8_000)
    assert len(diarizer._views) < 40 and len(diarizer._maps) < 60
    assert len(diarizer._roster._prints) <= 100
    assert list(diarizer.speakers) == [1, 2, 3]
