"""One core multiplies two tiles."""

from __future__ import annotations

import numpy as np

from npu.xdna.array import Array
from npu.xdna.check import check
from npu.xdna.host_kernels import HostKernels
from npu.xdna.single_core import NAME, OUT, ordered, product, single_core


def test_limits(kernels: HostKernels) -> None:
    """It fits the hardware."""
    assert not check(single_core(kernels.stacks))


def test_products(kernels: HostKernels) -> None:
    """Are exact, one after the other."""
    array = Array(single_core(kernels.stacks), kernels)
    for seed in range(3):
        a, b = np.random.default_rng(seed).integers(-128, 128, (2, 64, 64), np.int8)
        laid_a, laid_b = ordered(a, b)
        c = np.zeros(OUT.count, np.int32)
        array.run(NAME, {"a": laid_a.view(np.uint8), "b": laid_b.view(np.uint8), "c": c.view(np.uint8)})
        assert np.array_equal(c, product(a, b))
        assert c.sum() == (a.astype(np.int32) @ b.astype(np.int32)).sum()
