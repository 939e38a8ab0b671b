"""Speech or not."""

import numpy as np
import pytest

from npu.loading import load_judge
from streaming.vad import SpeechDetector

RNG = np.random.default_rng(7)


def share(verdicts):
    return sum(verdicts) / len(verdicts)


@pytest.fixture(scope="module")
def judges():
    return load_judge()


def test_digital_silence_and_hiss_below_the_floor(judges):
    """Silence is silence, with a judge and without."""
    hiss = (RNG.standard_normal(32_000) * 1e-4).astype(np.float32)
    for judge in (judges(), None):
        assert not any(SpeechDetector(judge).receive(np.zeros(32_000, np.float32)))
        assert not any(SpeechDetector(judge).receive(hiss))


def test_speech_is_heard(judges, recording):
    """A read passage is mostly speech, with a judge and without."""
    speech = recording("two_cities.wav")[: 16_000 * 30]
    assert share(SpeechDetector(judges()).receive(speech)) > 0.6
    assert share(SpeechDetector(None).receive(speech)) > 0.6


def test_loud_noise_is_not_speech_to_the_judge(judges):
    """White noise and a hum at speaking level pass the gate at times, and never Silero."""
    time = np.arange(16_000 * 10) / 16_000
    noise = (0.1 * RNG.standard_normal(len(time))).astype(np.float32)
    hum = (0.1 * sum(np.sin(2 * np.pi * f * time) / k for k, f in enumerate((100, 200, 300), 1))).astype(
        np.float32
    )
    for sound in (noise, hum):
        assert share(SpeechDetector(judges()).receive(sound)) < 0.02


def test_where_messages_are_cut_changes_nothing(judges, recording):
    """One long message and many short ones of odd lengths give the same verdicts."""
    speech = recording("beckett.wav")
    whole = SpeechDetector(judges()).receive(speech)
    detector, pieces, at = SpeechDetector(judges()), [], 0
    for length in RNG.integers(1, 3_000, 1_000):
        pieces += detector.receive(speech[at : at + length])
        at += length
    assert pieces == whole


def test_two_streams_share_no_state(judges, recording):
    """A second stream heard in between changes nothing for the first."""
    speech = recording("beckett.wav")
    alone = SpeechDetector(judges()).receive(speech)
    first, second = SpeechDetector(judges()), SpeechDetector(judges())
    mixed = []
    for at in range(0, len(speech), 1_600):
        mixed += first.receive(speech[at : at + 1_600])
        second.receive(speech[::-1][at : at + 1_600].copy())
    assert mixed == alone
