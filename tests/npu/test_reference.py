from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npu.backends.reference import ReferenceBackend, convolve, norm, rotate
from npu.decoding import Rules, decode
from npu.tokens import Tokenizer
from npu.weights import Convolution, Norm
from streaming.window import SAMPLE_RATE

START = 1  # Moonshine's signal

Array = NDArray[np.float32]


def test_convolution() -> None:
    """It is the sum of its definition."""
    chance = np.random.default_rng(1)
    x, kernel = chance.random((2, 11)).astype(np.float32), chance.random((3, 2, 4)).astype(np.float32)
    y = convolve(x, Convolution(kernel, None, stride=3))
    expected = [[float((kernel[o] * x[:, t : t + 4]).sum()) for t in (0, 3, 6)] for o in range(3)]
    assert np.allclose(y, expected, atol=1e-5)


def test_norm() -> None:
    """Rows have zero mean and unit variance before the gain."""
    x = np.random.default_rng(2).random((3, 64)).astype(np.float32) * 7 + 4
    y = norm(x, Norm(np.ones(64, np.float32)))
    assert np.allclose(y.mean(axis=1), 0, atol=1e-5)
    assert np.allclose(y.std(axis=1), 1, atol=1e-3)


def test_rotation() -> None:
    """Products of two turned vectors depend on their distance alone; what lies beyond the turned part stays."""
    chance = np.random.default_rng(3)
    frequencies = np.array([1.0, 0.3], np.float32)
    x, y = (np.repeat(chance.random((1, 1, 6)), 12, axis=1).astype(np.float32) for _ in range(2))
    first, second = rotate(x, frequencies, start=0)[0], rotate(y, frequencies, start=0)[0]
    assert np.allclose([first[i] @ second[i + 3] for i in range(9)], first[0] @ second[3], atol=1e-5)
    assert np.array_equal(first[:, 4:], x[0, :, 4:])
    assert np.allclose(rotate(x[:, 5:], frequencies, start=5)[0], first[5:], atol=1e-6)


def test_speech(
    reference: ReferenceBackend, clips: dict[str, Array], rules: Rules, tokenizer: Tokenizer
) -> None:
    """It hears what is said."""
    encoded = reference.encode(clips["two_cities"][: 3 * SAMPLE_RATE])
    tokens = decode(reference, encoded.start(), rules).tokens
    assert "it was the best of times" in tokenizer.text(tokens).lower()


def test_truncated_cache(reference: ReferenceBackend, clips: dict[str, Array]) -> None:
    """Forgotten tokens leave no trace."""
    encoded = reference.encode(clips["beckett"][:SAMPLE_RATE])
    cache, other = encoded.start(), encoded.start()
    expected = reference.extend(cache, (START, 400, 500))
    reference.extend(other, (START, 400, 600, 700))
    other.truncate(2)
    assert np.allclose(reference.extend(other, (500,))[0], expected[2], atol=1e-3)
    assert np.allclose(other.attention(), cache.attention(), atol=1e-5)
