"""Linear layers on the whole array: what the kernels' oracle says of the whole matrices, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from npu.xdna import oracle
from npu.xdna.array import Array
from npu.xdna.check import check
from npu.xdna.gemm import Shape
from npu.xdna.host_kernels import HostKernels
from npu.xdna.linear import Layer, columns, headers, linear
from npu.xdna.scaling import requantiser

TABLE = oracle.activation_table(lambda x: x / (1 + np.exp(-1.702 * x)))
PLAIN = Layer(Shape(256, 128, 512))
ADDING = Layer(Shape(512, 64, 512), residual=True)


def test_limits(kernels: HostKernels) -> None:
    """It fits the hardware."""
    assert not check(linear(kernels.stacks, (PLAIN, ADDING), TABLE))


@pytest.mark.parametrize("seed", range(2))
def test_layers(kernels: HostKernels, seed: int) -> None:
    """With an activation, with a residual, with both, one after the other on one overlay; one dispatch each."""
    array = Array(linear(kernels.stacks, (PLAIN, ADDING), TABLE), kernels, seed=seed)
    for layer, activation in ((PLAIN, True), (ADDING, False), (ADDING, True), (PLAIN, False)):
        m, k, n = layer.shape.m, layer.shape.k, layer.shape.n
        random = np.random.default_rng(seed)
        a, b = random.integers(-128, 128, (m, k), np.int8), random.integers(-128, 128, (k, n), np.int8)
        token = random.integers(2**18, 2**20, m)
        scales = requantiser(
            random.uniform(0.004, 0.01, n), k, oracle.NORM_BITS, 2.0**-oracle.ACTIVATION_BITS
        )
        bias = random.integers(-4000, 4000, n).astype(np.int32)
        residual = random.integers(-(2**15), 2**15, (m, n), np.int16)
        c = np.zeros((m, n), np.int16)
        buffers = {
            "headers": headers(layer, token, scales, activation),
            "columns": columns(layer, scales, bias),
        }
        buffers |= {
            name: x.view(np.uint8) for name, x in (("a", a), ("b", b), ("residual", residual), ("c", c))
        }
        array.run(layer.name, buffers)
        expected = oracle.epilogue(
            oracle.product(a, b), scales.channel, token, bias, scales.channel_shift, scales.token_shift,
            TABLE if activation else None, residual if layer.residual else None,
        )  # fmt: skip
        assert np.array_equal(c, expected)
        assert len(np.unique(c)) > 1000
