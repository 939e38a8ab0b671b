"""Samples held in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npu.spill import Spill
from streaming.errors import AudioError


def test_samples() -> None:
    """Come back as one array that the file backs; none are an empty one."""
    spill = Spill()
    assert len(spill.samples()) == 0
    for at in range(0, 10, 2):
        spill.append(np.arange(at, at + 2, dtype=np.float32))
    samples = spill.samples()
    assert isinstance(samples, np.memmap) and samples.tolist() == list(range(10))
    spill.close()
    assert samples[3] == 3.0  # for as long as somebody looks at them


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is a sentence that says where there was no room."""
    spill = Spill()
    spill.close()
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(spill, "_file", full)
        with pytest.raises(AudioError, match="TMPDIR"):
            spill.append(np.zeros(16_000, np.float32))
