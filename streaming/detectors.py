"""The WebRTC voice detector: the cheap first opinion on every frame."""

from __future__ import annotations

import numpy as np
import webrtcvad

from streaming.audio import Samples
from streaming.window import SAMPLE_RATE

FRAME = SAMPLE_RATE * 30 // 1000  # samples of one 30 ms frame


class WebRtcGate:
    """Says whether a 30 ms frame may hold speech. Keeps its noise estimate: one per stream."""

    def __init__(self, mode: int = 2) -> None:
        """mode 0..3: how readily frames are refused."""
        self._vad = webrtcvad.Vad(mode)

    def passes(self, frame: Samples) -> bool:
        """frame [480], -1..1."""
        return bool(self._vad.is_speech((frame * np.float32(32767)).astype("<i2").tobytes(), SAMPLE_RATE))
