"""Silero VAD: the probability that 32 ms of audio are speech, with the recurrent state of one stream."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.backends.onnx import Runner
from streaming.window import SAMPLE_RATE

CHUNK = 512  # samples of one question
_CONTEXT = 64  # samples before the chunk that the model sees as well
_STATE = (2, 1, 128)


class SileroJudge:
    """One stream's judge; the resident model is shared."""

    def __init__(self, model: Runner) -> None:
        self._model = model
        self._rate = np.array(SAMPLE_RATE, np.int64)
        self._context: NDArray[np.float32] = np.zeros(_CONTEXT, np.float32)
        self._state: NDArray[Any] = np.zeros(_STATE, np.float32)

    def judge(self, chunk: NDArray[np.float32]) -> float:
        """chunk [512] at 16 kHz, the one after the last -> probability of speech, 0..1."""
        heard = np.concatenate([self._context, chunk], dtype=np.float32)
        inputs = {"input": heard[None], "state": self._state, "sr": self._rate}
        probability, self._state = self._model.run(inputs)
        self._context = heard[-_CONTEXT:]
        return float(probability[0, 0])

    def reset(self) -> None:
        """Forgets the stream so far."""
        self._context = np.zeros(_CONTEXT, np.float32)
        self._state = np.zeros(_STATE, np.float32)
