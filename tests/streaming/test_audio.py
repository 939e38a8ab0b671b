"""Raw PCM in, 16 kHz mono out."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.audio import RAW_ENCODINGS, PcmDecoder, Tape
from streaming.errors import AudioError
from streaming.protocol import AudioFormat


def decode_all(audio: AudioFormat, data: bytes, cuts: list[int]) -> np.ndarray:
    decoder = PcmDecoder(audio)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [decoder.decode(data[a:b]) for a, b in itertools.pairwise(edges)]
    return np.concatenate([*parts, decoder.flush()])


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from(sorted(RAW_ENCODINGS)),
    channels=st.integers(1, 3),
    data=st.binary(max_size=600),
    cuts=st.lists(st.integers(0, 600), max_size=6),
)
def test_any_cut_of_the_bytes(encoding, channels, data, cuts):
    """Where messages are cut changes nothing, odd bytes included; every sample is finite and in -1..1."""
    audio = AudioFormat(encoding=encoding, sample_rate=16_000, channels=channels)
    whole = decode_all(audio, data, [])
    assert np.array_equal(whole, decode_all(audio, data, cuts))
    assert np.isfinite(whole).all() and (np.abs(whole) <= 1).all()


@settings(max_examples=15, deadline=None)
@given(rate=st.sampled_from([8_000, 22_050, 44_100, 48_000, 192_000]), cut=st.integers(1, 4_000))
def test_resampling_keeps_its_state_between_messages(rate, cut):
    """A tone cut into messages is the tone, resampled: same samples as in one piece, right length and frequency."""
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate) * 32767).astype("<i2").tobytes()
    audio = AudioFormat(encoding="pcm_s16le", sample_rate=rate, channels=1)
    whole = decode_all(audio, tone, [])
    pieces = decode_all(audio, tone, list(range(cut, len(tone), cut))[:500])
    assert np.allclose(whole, pieces, atol=1e-6)
    assert abs(len(whole) - 16_000) <= 2
    assert np.abs(np.fft.rfft(whole[:16_000])).argmax() == 440


def test_nan_infinity_and_clipped_floats():
    """NaN becomes silence, what lies beyond full scale is clipped."""
    data = np.array([np.nan, np.inf, -np.inf, 3.0, 0.25], "<f4").tobytes()
    decoder = PcmDecoder(AudioFormat(encoding="pcm_f32le", sample_rate=16_000))
    assert decoder.decode(data).tolist() == [0.0, 1.0, -1.0, 1.0, 0.25]


def test_g711_codes():
    """The codes of silence, of the extremes and of a level in between, as ITU-T G.711 tabulates them."""
    mulaw = PcmDecoder(AudioFormat(encoding="mulaw", sample_rate=16_000))
    assert (mulaw.decode(bytes([0xFF, 0x7F, 0x80, 0x00, 0xF0])) * 32768).tolist() == [
        0,
        0,
        32124,
        -32124,
        120,
    ]
    alaw = PcmDecoder(AudioFormat(encoding="alaw", sample_rate=16_000))
    assert (alaw.decode(bytes([0xD5, 0x55, 0xAA, 0x2A])) * 32768).tolist() == [8, -8, 32256, -32256]


def test_channels_are_mixed_down():
    """Stereo becomes the mean of its channels; `received` counts sample frames."""
    decoder = PcmDecoder(AudioFormat(encoding="pcm_s16le", sample_rate=16_000, channels=2))
    mixed = decoder.decode(np.array([[8192, 0], [-8192, -8192]], "<i2").tobytes())
    assert mixed.tolist() == [0.125, -0.25]
    assert decoder.received == 2


def test_a_container_is_not_raw():
    """A container's bytes are refused here."""
    with pytest.raises(AudioError):
        PcmDecoder(AudioFormat(encoding="flac", sample_rate=16_000))


@given(st.lists(st.tuples(st.integers(0, 50_000), st.integers(0, 50_000)), max_size=20))
def test_tape_gives_back_what_it_was_given(steps):
    """Whatever was appended and forgotten, what is still on the tape is what was put there."""
    tape, all_samples = Tape(), np.zeros(0, np.float32)
    rng = np.random.default_rng(1)
    for count, forget in steps:
        fresh = rng.random(count, np.float32)
        tape.append(fresh)
        all_samples = np.concatenate([all_samples, fresh])
        tape.forget(forget)
        assert np.array_equal(tape.cut(tape.start, tape.end), all_samples[tape.start :])
    assert tape.end == len(all_samples)


def test_tape_memory_is_bounded():
    """An hour through a tape that forgets leaves seconds of memory behind."""
    tape = Tape()
    for _ in range(36_000):
        tape.append(np.zeros(1_600, np.float32))
        tape.forget(tape.end - 16_000)
    assert len(tape._buffer) <= 8 * 16_000
