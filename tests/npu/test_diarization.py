from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.diarization import diarize
from npu.loading import load_judge
from npu.scripted_voices import ToneVoices
from npu.voiceprint import OnnxVoices, load_voices, perform
from streaming.containers import decode_container
from streaming.speakers import Diarizer
from streaming.turns import Turn
from streaming.vad import FrameJudge, SpeechDetector
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

TONES = (300.0, 700.0, 1500.0)
SHARED = Path(os.environ.get("AMANUENSIS_SHARED", Path(__file__).parents[3] / "shared"))


@pytest.fixture(scope="module")
def voices(cache_dir: Path) -> OnnxVoices:
    return load_voices(cache_dir)


@pytest.fixture(scope="module")
def judges(cache_dir: Path) -> Callable[[], FrameJudge]:
    return load_judge(cache_dir)


def tones(*script: tuple[float, float, int]) -> Array:
    audio = np.zeros(round(script[-1][1] + 1) * SAMPLE_RATE, np.float32)
    for start, end, tone in script:
        at = np.arange(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))
        audio[at] += 0.2 * np.sin(2 * np.pi * TONES[tone] * at / SAMPLE_RATE, dtype=np.float32)
    return audio


def live(voices: OnnxVoices, judge: FrameJudge, audio: Array) -> Diarizer:
    diarizer, detector = Diarizer(), SpeechDetector(judge)

    def work() -> None:
        while diarizer.demand() is not None:
            job = diarizer.next_job()
            diarizer.receive_heard(job, perform(voices, job))

    for at in range(0, len(audio), 1_600):
        block = audio[at : at + 1_600]
        diarizer.receive_audio(block)
        diarizer.receive_verdicts(detector.receive(block))
        work()
    diarizer.finish()
    work()
    return diarizer


def shares(
    turns: list[Turn] | tuple[Turn, ...], truth: list[tuple[float, float, str]]
) -> dict[str, dict[int, float]]:
    """Of each person's speech, the share that lies in each speaker's turns."""
    found: dict[str, dict[int, float]] = {}
    for person in {person for *_, person in truth}:
        spoken = [(start * SAMPLE_RATE, end * SAMPLE_RATE) for start, end, who in truth if who == person]
        total = sum(end - start for start, end in spoken)
        for turn in turns:
            shared = sum(max(0.0, min(end, turn.end) - max(start, turn.start)) for start, end in spoken)
            of = found.setdefault(person, {})
            of[turn.speaker] = of.get(turn.speaker, 0.0) + shared / total
    return found


def test_tones() -> None:
    """Each tone's turns, numbered in order of appearance, overlapping ones too."""
    script = ((0.5, 4.0, 1), (4.2, 8.0, 0), (7.5, 11.0, 2), (13.0, 25.0, 1), (25.5, 27.0, 2))
    turns = diarize(ToneVoices(TONES), tones(*script))
    assert [turn.speaker for turn in turns] == [1, 2, 3, 1, 3]
    for turn, (start, end, _) in zip(turns, script, strict=True):
        assert turn.start / SAMPLE_RATE == pytest.approx(start, abs=0.06)
        assert turn.end / SAMPLE_RATE == pytest.approx(end, abs=0.06)


def test_number_of_speakers_is_given() -> None:
    """There are not more than the most, nor fewer than the fewest."""
    audio = tones((0.5, 4.0, 0), (4.2, 8.0, 1), (9.0, 12.0, 2))
    voices = ToneVoices(TONES)
    assert len({turn.speaker for turn in diarize(voices, audio, max_speakers=2)}) == 2
    assert len({turn.speaker for turn in diarize(voices, audio, min_speakers=3, max_speakers=3)}) == 3
    with pytest.raises(ValueError, match="impossible"):
        diarize(voices, audio, min_speakers=3, max_speakers=2)


@pytest.mark.parametrize("samples", [0, 100, SAMPLE_RATE, 3 * SAMPLE_RATE])
def test_nobody(samples: int) -> None:
    """Silence of any length has no turns."""
    assert diarize(ToneVoices(TONES), np.zeros(samples, np.float32)) == []


def test_only_where_there_is_speech() -> None:
    """The models are not asked about windows without any."""
    asked = []

    class Listening(ToneVoices):
        def segment(self, audio: Array) -> Array:
            asked.append(len(audio))
            return super().segment(audio)

    audio = tones((1.0, 3.0, 0), (60.0, 63.0, 1))
    turns = diarize(
        Listening(TONES), audio, speech=[(SAMPLE_RATE, 3 * SAMPLE_RATE), (60 * SAMPLE_RATE, 63 * SAMPLE_RATE)]
    )
    assert [turn.speaker for turn in turns] == [1, 2]
    assert len(asked) < 25


def test_a_dialogue_and_a_reading(
    voices: OnnxVoices, judges: Callable[[], FrameJudge], clips: dict[str, Array]
) -> None:
    """Real voices, live and as a whole: the reader is one speaker, and none of the two actors."""
    reading, dialogue = (
        clips["two_cities"][: 20 * SAMPLE_RATE],
        clips["endgame_nagg_nell"][: 20 * SAMPLE_RATE],
    )
    audio = np.concatenate([reading, dialogue])
    truth = [(0.0, 20.0, "reader"), (20.0, 40.0, "actors")]
    for turns in (live(voices, judges(), audio).turns(0, len(audio)), tuple(diarize(voices, audio))):
        found = shares(turns, truth)
        reader = max(found["reader"], key=lambda speaker: found["reader"][speaker])
        assert reader == 1 and found["reader"][1] > 0.6
        assert sum(share for speaker, share in found["reader"].items() if speaker != 1) < 0.05
        assert found["actors"].get(1, 0.0) < 0.05


def recording(folder: str, name: str, rttm: str) -> tuple[Array, list[tuple[float, float, str]]]:
    """Audio of the shared folder, and its turns."""
    file = SHARED / folder / f"{name}.flac"
    if not file.is_file():
        pytest.skip("the recordings do not lie beside the project")
    with file.open("rb") as stream:
        audio = np.concatenate(list(decode_container(stream)))
    lines = (SHARED / rttm / f"{name}.rttm").read_text().splitlines()
    fields = [line.split() for line in lines]
    return audio, [(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in fields]


@pytest.mark.parametrize(
    ("name", "least"), [("ami_dev00", 0.75), ("ami_dev01", 0.7), ("pyannote_sample", 0.9)]
)
def test_people_at_a_table(
    voices: OnnxVoices, judges: Callable[[], FrameJudge], name: str, least: float
) -> None:
    """Are told apart as a whole, though the network takes two for one within its window."""
    audio, truth = recording("evalset", name, "evalset/rttm")
    turns = diarize(voices, audio, verdicts=SpeechDetector(judges()).receive(audio))
    found = shares(turns, truth)
    assert {turn.speaker for turn in turns} == {1, 2}
    mostly = {person: max(of, key=lambda speaker: of[speaker]) for person, of in found.items()}
    assert set(mostly.values()) == {1, 2}
    assert all(found[person][speaker] > least for person, speaker in mostly.items())


def test_a_meeting(voices: OnnxVoices, judges: Callable[[], FrameJudge]) -> None:
    """Two people, each by one number, live and as a whole."""
    audio, turns_of_all = recording("meetings", "m2", "meetings")
    audio, truth = audio[: 90 * SAMPLE_RATE], [turn for turn in turns_of_all if turn[1] < 90]
    for turns in (live(voices, judges(), audio).turns(0, len(audio)), tuple(diarize(voices, audio))):
        assert {turn.speaker for turn in turns} == {1, 2}
        for of in shares(turns, truth).values():
            assert max(of.values()) > 0.9
