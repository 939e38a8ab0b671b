"""What a decoder with weights in 8 bits computes, in float32; `test_decoder_w8` holds the NPU's decoder to it."""

from __future__ import annotations

import numpy as np

from npu.backends.reference import linear, norm
from npu.weights import Dense, Norm
from npu.xdna.rounded import rounded, rounded_heads

RANDOM = np.random.default_rng(5)


def floats(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return RANDOM.standard_normal(shape, np.float32)


def test_a_norm_in_a_matrix() -> None:
    """What follows a norm that does nothing is off by half a step of each weight at most, whatever its gains."""
    x, gain, offset = floats(5, 32), np.geomspace(0.01, 10, 32, dtype=np.float32), floats(32)
    matrix = Dense(floats(32, 8), floats(8))
    found = linear(norm(x, Norm(np.ones(32, np.float32))), rounded(matrix, Norm(gain, offset)))
    expected = linear(norm(x, Norm(gain, offset)), matrix)
    step = np.abs(gain[:, None] * matrix.matrix).max(axis=0) / 127
    normal = norm(x, Norm(np.ones(32, np.float32)))
    assert np.all(np.abs(found - expected) <= np.abs(normal).sum(axis=1)[:, None] * step * 0.501 + 1e-4)
    assert not np.allclose(found, expected, atol=1e-4)


def test_heads() -> None:
    """Each head and 64 frames have a scale of their own, which their largest magnitude sets; what was given stays."""
    x = floats(2, 100, 36) * np.array([1, 1000], np.float32)[:, None, None]
    x[:, 64:] *= 50
    before = x.copy()
    found = rounded_heads(x)
    for head in range(2):
        for frames in (slice(0, 64), slice(64, 100)):
            step = np.abs(x[head, frames]).max() / 127
            off = np.abs(found[head, frames] - x[head, frames]).max()
            assert 0.4 * step < off < 0.51 * step
    assert np.array_equal(x, before)
