"""The whole array multiplies: the product is NumPy's, bit for bit, whoever works first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna import oracle
from npu.xdna.array import Array
from npu.xdna.check import check
from npu.xdna.design import Design
from npu.xdna.emulator import KERNEL, Emulator, Package, instructions
from npu.xdna.gemm import Shape, gemm, header
from npu.xdna.host_kernels import HostKernels
from npu.xdna.runtime import Built, Command, Npu

SMALL, DEEP, WIDE = Shape(256, 64, 256), Shape(256, 320, 256), Shape(512, 128, 768)
SHAPES = (SMALL, DEEP, WIDE)


def multiplied(array: Array, shape: Shape, seed: int = 0) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """One dispatch -> what came out, and what should."""
    random = np.random.default_rng(seed)
    a = random.integers(-128, 128, (shape.m, shape.k), np.int8)
    b = random.integers(-128, 128, (shape.k, shape.n), np.int8)
    c = np.zeros((shape.m, shape.n), np.int32)
    buffers = {"header": header(shape)} | {
        name: each.view(np.uint8) for name, each in (("a", a), ("b", b), ("c", c))
    }
    array.run(shape.name, buffers)
    return c, (a.astype(np.float64) @ b).astype(np.int32)


def test_limits(kernels: HostKernels) -> None:
    """It fits the hardware, with the stack that the kernels were measured to need."""
    assert not check(gemm(kernels.stacks, SHAPES))


@pytest.mark.parametrize("seed", range(3))
def test_products(kernels: HostKernels, seed: int) -> None:
    """Exact for one span and one step, for many of both, one after the other on the same overlay."""
    array = Array(gemm(kernels.stacks, SHAPES), kernels, seed=seed)
    for shape in SHAPES:
        found, expected = multiplied(array, shape, seed)
        assert np.array_equal(found, expected)


def test_one_dispatch(kernels: HostKernels) -> None:
    """Is enough for 512 x 512 x 512."""
    shape = Shape(512, 512, 512)
    found, expected = multiplied(Array(gemm(kernels.stacks, (shape,)), kernels), shape)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("fifo", ["a2", "b1", "C3"])
def test_wrong_strides(kernels: HostKernels, fifo: str) -> None:
    """A memory tile that orders tiles another way makes a wrong product, and only where its tiles go."""
    design = gemm(kernels.stacks, (SMALL,))
    found, expected = multiplied(Array(swapped(design, fifo), kernels), SMALL)
    right = (found == expected).mean(axis=1 if fifo == "a2" else 0).reshape(4, 64).mean(axis=1)
    assert [at for at, share in enumerate(right) if share < 1] == [int(fifo[1])]


def swapped(design: Design, name: str) -> Design:
    """Two strides of a fifo's order exchanged."""
    order = design.fifo(name).sent
    assert order is not None
    first, second, *others = order.strides
    sizes = (order.sizes[1], order.sizes[0], *order.sizes[2:])
    wrong = replace(order, sizes=sizes, strides=(second, first, *others))
    return replace(
        design, fifos=tuple(replace(each, sent=wrong) if each.name == name else each for each in design.fifos)
    )


def test_parts_of_tiles() -> None:
    """Are refused, with what to do."""
    with pytest.raises(ValueError, match="pad it"):
        Shape(250, 64, 256)


def test_through_xrt(kernels: HostKernels) -> None:
    """The runtime gets the same product with one command."""
    design = gemm(kernels.stacks, (DEEP,))
    xrt = Emulator({"gemm.xclbin": Package(design, lambda: kernels)})
    npu = Npu(xrt)
    built = Built(design.name, "gemm.xclbin", KERNEL, {DEEP.name: instructions(design, DEEP.name)})
    random = np.random.default_rng(8)
    a = random.integers(-128, 128, (DEEP.m, DEEP.k), np.int8)
    b = random.integers(-128, 128, (DEEP.k, DEEP.n), np.int8)
    shared = []
    for data in (header(DEEP), a, b, np.zeros((DEEP.m, DEEP.n), np.int32)):
        shared.append(npu.buffer(data.nbytes))
        shared[-1].here[:] = data.view(np.uint8).ravel()
        shared[-1].to_device()
    npu.run(built, [Command(DEEP.name, tuple(shared))])
    shared[-1].to_host()
    assert np.array_equal(shared[-1].here.view(np.int32).reshape(DEEP.m, DEEP.n), oracle.product(a, b))
