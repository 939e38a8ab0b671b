"""What goes into the array comes out of it, on every column and without a core."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from npu.xdna.array import Array
from npu.xdna.check import check
from npu.xdna.passthrough import NAME, WORDS, passthrough
from npu.xdna.rings import Bytes


class NoKernels:
    """A design without cores calls none."""

    def call(self, name: str, arguments: Sequence[Bytes | int]) -> None:
        raise AssertionError(name)


def test_limits() -> None:
    """It fits the hardware, and uses the shims of all columns."""
    assert not check(passthrough())
    assert {tile.column for tile in passthrough().tiles() if tile.row == 0} == set(range(4))


@pytest.mark.parametrize("seed", range(3))
def test_numbers(seed: int) -> None:
    """Come back as they were, again and again."""
    array = Array(passthrough(), NoKernels(), seed=seed)
    for _ in range(2):
        x = np.random.default_rng(seed).integers(0, 256, WORDS.bytes, np.uint8)
        y = np.zeros_like(x)
        array.run(NAME, {"x": x, "y": y})
        assert np.array_equal(x, y)
