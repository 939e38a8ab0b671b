"""The oracle of log-mel in split bf16: the same float32 operations in the same order."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from npu.xdna.features import FRAME_VALUES, HOP_VALUES, fourier, mel_filters
from npu.xdna.oracle import Bits, Floats, from_bf16, product_bf16, to_bf16
from npu.xdna.oracle_bf16 import parts_of, product_of_parts

ABOVE = np.float32(2)  # the range below the peak, and what is added while it is sought
_LEAST = np.float32(1e-10)
_K = tuple(np.float32(each) for each in (3.04406895, 0.07231589, -0.02556887, 0.01171875))
_DOUBLED, _DOUBLED_REST = np.float32(0.0751953125), np.float32(6.198883056640625e-05)


def squared(x: Floats) -> Floats:
    """Within 2^-15."""
    return product_of_parts(x, x)


def logarithm(x: Floats) -> Floats:
    """(log10(max(x, 1e-10)) + 12) / 4 of values >= 0: 2 more than Whisper's."""
    bits = np.maximum(x.view(np.int32), _LEAST.view(np.int32))
    doubled = ((bits >> 23) - 127).astype(np.float32)
    rest = ((bits & 0x7FFFFF) + (127 << 23)).view(np.float32) - np.float32(1.5)
    high, low = parts_of(rest)
    bent = from_bf16(to_bf16(_K[2] + high * _K[3]))
    above, below = parts_of(_K[1] + high * bent)
    found: Floats = (
        _K[0] + doubled * _DOUBLED + doubled * _DOUBLED_REST + high * above + high * below + low * above
    )
    return found


def lifted(y: Bits, peak: np.float32) -> Bits:
    """No less than 2 below the peak, of which 2 more is given."""
    least = peak - 2 * ABOVE
    return to_bf16(np.maximum(from_bf16(y) - least, np.float32(0)) + least)


def log_mel_bf16(samples: Bits, frames: int, mels: int) -> Bits:
    """What `features.heard` lays -> [frames, mels]."""
    laid = np.pad(samples, (0, FRAME_VALUES))
    rows = sliding_window_view(laid, FRAME_VALUES)[::HOP_VALUES][:frames]
    power = to_bf16(squared(_product(rows, fourier())))
    power = np.pad(power, ((0, 0), (0, len(mel_filters(mels)) - power.shape[1])))
    above = logarithm(_product(power, mel_filters(mels)))
    return lifted(to_bf16(above - ABOVE), above.max())


def _product(a: Bits, b: NDArray[np.float64]) -> Floats:
    return product_bf16(a, to_bf16(b), np.zeros((len(a), b.shape[1]), np.float32))
