"""Moonshine's sizes, and how audio enters it. `moonshine_encoder` and `moonshine_decoder` build its graphs.

Against the graphs of the wheel: signed 8-bit matrices, fused attention, the keys and values of the cross-attention
computed once with the encoder, and a decoder whose rows do not see each other's quantisation.
Architecture: Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands", 2024.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npu.architecture import Architecture

BUILDER = 5  # raised whenever the graphs change, so that cached ones are made again

WIDTH = 288
HEADS = 8
HEAD_WIDTH = WIDTH // HEADS
STORED_WIDTH = 48  # grouped-query attention wants heads of a multiple of 16
SCALE = HEAD_WIDTH**-0.5  # of attention scores
HOP = 64  # samples between rows of the first convolution
REACH = 127  # samples each of them sees
SHORTEST = REACH + HOP * 12  # samples that give one encoder state
STATE_SAMPLES = HOP * 3 * 2  # samples between encoder states
POSITIONS = 4096  # encoder states, 98 s
TOKENS = 768  # decoder positions


def rows(audio: NDArray[np.float32], short: bool) -> NDArray[np.float32]:
    """audio [n] -> [rows + 1, HOP], just what the first convolution needs; at least SHORTEST samples count.

    The model has no context but the audio itself, so `short` makes no difference.
    """
    n = max(len(audio), SHORTEST)
    count = (n - REACH) // HOP + 1
    laid = np.zeros((count + 1) * HOP, np.float32)  # a row sees REACH samples: one less than two hops
    kept = min(len(audio), len(laid))
    laid[:kept] = audio[:kept]
    return laid.reshape(-1, HOP)


TINY = Architecture(
    name="moonshine-tiny",
    layers=6,
    heads=HEADS,
    head_width=HEAD_WIDTH,
    stored_width=STORED_WIDTH,
    vocabulary=32_768,
    most_tokens=TOKENS - 1,
    most_samples=POSITIONS * STATE_SAMPLES,
    tokens_per_second=6.5,
    aligned={layer: tuple(range(HEADS)) for layer in range(3)},
    samples_per_state=STATE_SAMPLES,
    prepare=rows,
)
