from __future__ import annotations

import kaldi_native_fbank as kaldi
import numpy as np
import pytest
from numpy.typing import NDArray

from npu.fbank import BINS, HOP, WIDTH, frames_in, log_mel
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]


def by_kaldi(audio: Array) -> Array:
    options = kaldi.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hamming"
    options.frame_opts.snip_edges = True
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.mel_opts.num_bins = BINS
    options.mel_opts.low_freq = 20
    options.mel_opts.high_freq = 0
    options.use_energy = False
    bank = kaldi.OnlineFbank(options)
    bank.accept_waveform(SAMPLE_RATE, (audio * 32768).tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])


@pytest.mark.parametrize("name", ["two_cities", "beckett"])
def test_against_kaldi(clips: dict[str, Array], name: str) -> None:
    """Real speech has the same energies, but for rounding."""
    audio = clips[name][: 10 * SAMPLE_RATE]
    ours, theirs = log_mel(audio), by_kaldi(audio)
    assert ours.shape == theirs.shape and ours.dtype == np.float32
    assert np.abs(ours - theirs).max() < 5e-3


def test_silence() -> None:
    """Digital silence is at the floor, and finite."""
    assert np.allclose(log_mel(np.zeros(SAMPLE_RATE, np.float32)), np.log(np.finfo(np.float32).eps))


@pytest.mark.parametrize("samples", [0, WIDTH - 1, WIDTH, WIDTH + HOP - 1, WIDTH + HOP])
def test_length(samples: int) -> None:
    """Only whole frames count."""
    assert log_mel(np.zeros(samples, np.float32)).shape == (frames_in(samples), BINS)
