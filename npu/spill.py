"""Samples of a long recording that somebody needs as a whole: held in a temporary file, not in memory."""

from __future__ import annotations

import tempfile

import numpy as np

from streaming.audio import Samples
from streaming.errors import AudioError
from streaming.window import SAMPLE_RATE


class Spill:
    """Takes samples in order, gives them back as one array. The file has no name, and ends with its owner."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="amanuensis-")  # noqa: SIM115
        self._samples = 0

    def append(self, samples: Samples) -> None:
        """samples [n] that follow the last ones. AudioError where there is no room for them."""
        try:
            self._file.write(np.ascontiguousarray(samples, np.float32).data)
        except OSError as error:
            raise self._full(error) from error
        self._samples += len(samples)

    def samples(self) -> Samples:
        """All of them, [n] at 16 kHz, read from the file as they are looked at."""
        if not self._samples:
            return np.zeros(0, np.float32)
        try:
            self._file.flush()
        except OSError as error:
            raise self._full(error) from error
        return np.memmap(self._file, np.float32, "r", shape=(self._samples,))

    def close(self) -> None:
        """Gives the room back, once nobody looks at the samples any more."""
        try:
            self._file.close()
        except OSError:
            return  # the disk is full; what could not be written is of no use

    def _full(self, error: OSError) -> AudioError:
        minutes = self._samples / SAMPLE_RATE / 60
        return AudioError(
            f"After {minutes:.0f} minutes it does not fit into the folder {tempfile.gettempdir()} "
            f"({error.strerror}), where it is held to tell speakers apart; name another with TMPDIR."
        )
