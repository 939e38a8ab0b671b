"""Silero VAD: the probability that 32 ms of audio are speech, with the recurrent state of one stream."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.backends.onnx import Runner
from npu.silero_graph import CHUNK, CONTEXT, STATE


class SileroJudge:
    """One stream's judge; the resident model is shared."""

    def __init__(self, model: Runner) -> None:
        self._model = model
        self._context: NDArray[np.float32] = np.zeros(CONTEXT, np.float32)
        self._state: NDArray[Any] = np.zeros(STATE, np.float32)

    def judge(self, chunks: NDArray[np.float32]) -> list[float]:
        """chunks [n, 512] at 16 kHz that follow the last ones -> probability of speech in each, 0..1."""
        heard = np.concatenate([self._context, chunks.reshape(-1)], dtype=np.float32)
        windows = np.stack([heard[at : at + CONTEXT + CHUNK] for at in range(0, chunks.size, CHUNK)])
        probabilities, self._state = self._model.run({"input": windows, "state": self._state})
        self._context = heard[-CONTEXT:]
        return [float(each) for each in probabilities]

    def reset(self) -> None:
        """Forgets the stream so far."""
        self._context = np.zeros(CONTEXT, np.float32)
        self._state = np.zeros(STATE, np.float32)
