"""Whisper's features by the NPU: audio in, one dispatch, features out.

What `npu.mel` computes in float comes here from integers; the scale below the loudest value is the host's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npu.xdna import mel
from npu.xdna.mel_design import Window, header, matrix
from npu.xdna.runtime import Built, Command, Npu

Array = NDArray[np.float32]


def centred(audio: Array, window: Window) -> tuple[NDArray[np.int16], int]:
    """audio [n] at 16 kHz, with silence up to the window -> the argument `audio`, and how often it was doubled.

    It is mirrored at both ends, as Whisper does; ValueError where it is longer than the window.
    """
    if len(audio) // mel.HOP > window.frames:
        raise ValueError(f"{len(audio)} samples are more than the {window.frames} frames of the window")
    lasting = np.pad(audio, (0, max(0, window.frames * mel.HOP - len(audio))))
    values, doubled = mel.fixed(np.pad(lasting, mel.WINDOW // 2, mode="reflect"))
    laid = np.zeros(window.arguments["audio"].count, np.int16)
    used = values[: len(laid)]
    laid[: len(used)] = used
    return laid, doubled


class LogMel:
    """The features of windows of one length; its buffers are allocated once. For one thread at a time."""

    def __init__(self, npu: Npu, built: Built, window: Window) -> None:
        """built: the design that has the window's sequence; NpuUnavailable where there is no memory."""
        self._npu = npu
        self._built = built
        self._window = window
        self._buffers = {name: npu.buffer(block.bytes) for name, block in window.arguments.items()}
        self._give("matrix", matrix())

    def features(self, audio: Array) -> Array:
        """audio [n] at 16 kHz, -1..1, with silence up to the window -> [frames, mels], as `npu.mel.log_mel`'s.

        ValueError where it is longer than the window, NpuUnavailable where the NPU fails.
        """
        values, doubled = centred(audio, self._window)
        self._give("audio", values)
        self._give("header", header(self._window, mel.floor_of(doubled)))
        self._npu.run(self._built, [Command(self._window.name, tuple(self._buffers.values()))])
        return mel.features(self._logarithms(), doubled)

    def _give(self, name: str, values: NDArray[np.int16] | NDArray[np.int32]) -> None:
        buffer = self._buffers[name]
        buffer.here[:] = values.view(np.uint8).reshape(-1)
        buffer.to_device()

    def _logarithms(self) -> NDArray[np.int16]:
        """[frames, mels]: those of the window, of all that the rounds made."""
        buffer = self._buffers["logarithms"]
        buffer.to_host()
        return buffer.here.view(np.int16).reshape(-1, self._window.mels)[: self._window.frames]
