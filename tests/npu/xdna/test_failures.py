"""What failures mean and what to try, in words."""

from __future__ import annotations

import numpy as np
import pytest

from npu.xdna.failures import NpuUnavailable, explained, must_agree, must_equal, trials
from npu.xdna.oracle import to_bf16

EXPECTED = np.arange(1, 9, dtype=np.int32)


def test_an_output_that_is_right() -> None:
    """Is let through, also where it is zero."""
    must_equal("y", EXPECTED.copy(), EXPECTED)
    must_equal("y", np.zeros(4, np.int8), np.zeros(4, np.int8))


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (np.zeros(8, np.int32), "every value of y is zero"),
        (np.full(32, 0xA5, np.uint8).view(np.int32), "y was never written"),
        (np.array([1, 2, 3, 9, 5, 6, 7, 0], np.int32), "in 2 of 8 values, the first at 3: 9, not 4"),
    ],
)
def test_an_output_that_is_wrong(found: np.ndarray[tuple[int], np.dtype[np.int32]], sentence: str) -> None:
    """Is a failure with a name."""
    with pytest.raises(NpuUnavailable, match=sentence):
        must_equal("y", found, EXPECTED)


@pytest.mark.parametrize(
    ("said", "trial"),
    [
        ("No module named 'pyxrt'", "setup.sh"),
        (" No such device with index '0'", "modprobe amdxdna"),
        ("Open /dev/accel/accel0 failed: Permission denied", "usermod -aG render"),
        ("mmap(len=4096, prot=3, flags=8193, offset=0) failed (err=11)", "memlock unlimited"),
        ("Failed to create context", "fuser"),
        ("No valid DPU kernel found in xclbin", "amanuensis npu build"),
        ("DRM_IOCTL_AMDXDNA_EXEC_CMD IOCTL failed", "dmesg"),
        ("something nobody has seen", "dmesg"),
    ],
)
def test_what_to_try(said: str, trial: str) -> None:
    """Is named for each failure of XRT."""
    assert any(trial in each for each in trials(explained(RuntimeError(said))))


def test_steps_of_bf16() -> None:
    """One off agrees, two do not; around zero and to infinity as well; what is no number never does."""
    values = np.array([1.0, -1.0, 3.0, 256.0], np.float32)
    expected = to_bf16(values)
    must_agree("it", expected + np.uint16(1), expected)
    must_agree("it", np.array([0x8001], np.uint16), np.array([0x0000], np.uint16))
    for found in (expected + np.uint16(2), expected ^ np.uint16(0x8000), to_bf16(values * np.nan)):
        with pytest.raises(NpuUnavailable, match="computes wrongly: it differs in 4 of 4 values"):
            must_agree("it", found, expected)
    with pytest.raises(NpuUnavailable, match="it was never written"):
        must_agree("it", np.full(4, 0xA5A5, np.uint16), expected)
