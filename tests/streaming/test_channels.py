"""Speakers on channels of their own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.audio import ChannelMeter, PcmDecoder
from streaming.channels import HOP, ChannelTurns
from streaming.protocol import AudioFormat

RATE = 16_000


def conversation(rate, crosstalk=0.05):
    """[n, 2]: the first speaks for two seconds, then the second, then both; each is heard a little by the other."""
    noise = np.random.default_rng(1).standard_normal((7 * rate, 2)).astype(np.float32) * 0.1
    on = np.zeros((7 * rate, 2), np.float32)
    on[: 2 * rate, 0] = on[3 * rate : 5 * rate, 1] = on[5 * rate : 6 * rate] = 1.0
    alone = noise * on
    return alone + crosstalk * alone[:, ::-1] + 1e-4 * noise


def spans(turns):
    return [(turn.speaker, round(turn.start / RATE, 1), round(turn.end / RATE, 1)) for turn in turns]


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 48_000])
def test_a_conversation(rate):
    """Whose channel is loud speaks, at any rate; crosstalk is nobody, and both at once are two turns."""
    meter, turns = ChannelMeter(2, rate), ChannelTurns(2)
    audio = conversation(rate)
    for at in range(0, len(audio), 777):
        meter.receive(audio[at : at + 777])
        turns.receive_levels(meter.take())
    found = spans(turns.turns(0, 8 * RATE))
    assert [
        (speaker, pytest.approx(start, abs=0.15), pytest.approx(end, abs=0.15))
        for speaker, start, end in found
    ] == [
        (1, 0.0, 2.0),
        (2, 3.0, 6.0),
        (1, 5.0, 6.0),
    ]
    assert turns.heard_until == turns.settled_until == pytest.approx(7 * RATE, abs=2 * HOP)
    assert turns.demand() is None


@given(st.lists(st.integers(1, 4_000), min_size=1, max_size=60))
@settings(max_examples=30)
def test_any_cut_into_messages(sizes):
    """Changes nothing about the levels or the turns."""
    audio = conversation(RATE)
    whole, cut = ChannelMeter(2, RATE), ChannelMeter(2, RATE)
    whole.receive(audio)
    at, levels = 0, []
    for size in [*sizes, len(audio)]:
        cut.receive(audio[at : at + size])
        levels.append(cut.take())
        at += size
    expected = whole.take()
    assert np.allclose(np.concatenate(levels), expected, rtol=1e-4, atol=1e-9)
    once, often = ChannelTurns(2), ChannelTurns(2)
    once.receive_levels(expected)
    for part in levels:
        often.receive_levels(part)
    assert once.turns(0, 8 * RATE) == often.turns(0, 8 * RATE)


def test_missing_audio():
    """Moves time on; turns stand where they were said."""
    turns = ChannelTurns(2, start=RATE)
    turns.skip(RATE)
    turns.receive_levels(np.tile(np.float32([0.01, 0.0]), (100, 1)))
    assert spans(turns.turns(0, 4 * RATE)) == [(1, 2.0, 3.0)]


def test_a_decoder_that_is_metered():
    """Mixes as ever, and tells the levels of the channels."""
    audio = (conversation(RATE) * 32_767).astype("<i2")
    decoder = PcmDecoder(AudioFormat(encoding="pcm_s16le", sample_rate=RATE, channels=2), metered=True)
    plain = PcmDecoder(AudioFormat(encoding="pcm_s16le", sample_rate=RATE, channels=2))
    assert np.array_equal(decoder.decode(audio.tobytes()), plain.decode(audio.tobytes()))
    levels = decoder.levels()
    assert levels.shape == (700, 2) and levels[100, 0] > 50 * levels[100, 1]
    assert decoder.levels().shape == (0, 2)
    assert decoder.metered and not plain.metered
