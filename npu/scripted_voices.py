"""Voices that are tones: the twin of the resident networks, for tests of what is above them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npu.fbank import BINS
from streaming.listening import FRAME, FRAME_AT, LOCALS, MOMENT, VOICEPRINT
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

_AUDIBLE = 0.02  # amplitude from which a tone counts
_FRAMES_A_MOMENT = MOMENT // (SAMPLE_RATE // 100)
_DEPTH = 3.0  # natural logarithms below the loudest bin that still count to a voice


class ToneVoices:
    """Hears each of some tones as a person's voice; any of them may sound at once."""

    def __init__(self, hertz: tuple[float, ...] = (300.0, 700.0, 1500.0, 3000.0)) -> None:
        self._hertz = hertz

    def segment(self, audio: Array) -> Array:
        """The tones of a frame's samples; voices are in order of appearance in the window."""
        count = max(0, (len(audio) - FRAME_AT) // FRAME)
        pieces = audio[FRAME_AT : FRAME_AT + count * FRAME].reshape(count, FRAME)
        phases = 2j * np.pi / SAMPLE_RATE * np.outer(np.arange(FRAME), self._hertz)
        sounding = np.abs(pieces @ np.exp(-phases)) * 2 / FRAME > _AUDIBLE  # [frames, tones]
        order = [
            tone for tone in np.argsort(sounding.argmax(axis=0), kind="stable") if sounding[:, tone].any()
        ]
        activity = np.zeros((count, LOCALS), np.float32)
        for local, tone in enumerate(order[:LOCALS]):
            activity[:, local] = sounding[:, tone]
        return activity

    def features(self, spectrogram: Array, mean: Array) -> NDArray[np.float16]:
        """The loudest bins of each moment."""
        at = np.minimum(
            np.arange(0, len(spectrogram), _FRAMES_A_MOMENT) + _FRAMES_A_MOMENT // 2, len(spectrogram) - 1
        )
        chosen = spectrogram[at]
        return np.asarray(np.maximum(0, chosen - chosen.max(axis=1, keepdims=True) + _DEPTH), np.float16)

    def embed(self, maps: NDArray[np.float16], weights: Array) -> Array:
        """Their weighted mean."""
        voiceprints = np.zeros((len(weights), VOICEPRINT), np.float32)
        voiceprints[:, :BINS] = weights @ maps.astype(np.float32)
        length = np.linalg.norm(voiceprints, axis=1, keepdims=True)
        return np.asarray(voiceprints / np.maximum(length, 1e-6), np.float32)
