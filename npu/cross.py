"""Cross-attention whose keys and values are kept in 8 bits: a quarter of what each token has to read.

Each of a head's channels has a scale of its own over the window. A query is quantised by itself; the probabilities
are, a block of states at a time, against the largest of the block, so that one state which nearly everything looks at
does not round the others away. All products are sums of integers, exact in any order, and have no zero points, for
which ONNX Runtime has kernels that read a single row's matrix once, as it lies: the 128 that makes queries positive
is taken off afterwards.
"""

from __future__ import annotations

import numpy as np

from npu.layers import MIDDLE, STEPS, LayerBuilder

_PARTS = 255  # a block's largest probability becomes this many quantisation steps
_TINY = 1e-30  # added to magnitudes, which may be zero


def names(layer: int) -> tuple[str, str, str, str, str]:
    """Of a layer's keys, their scales, what is added to their products, values, their scales."""
    return f"ck{layer}", f"cks{layer}", f"cko{layer}", f"cv{layer}", f"cvs{layer}"


def shapes(windows: int | str, heads: int, width: int, states: str) -> tuple[list[int | str], ...]:
    """Of the same."""
    scales = [windows, heads, 1, width]
    keys, offsets = [windows, heads, width, states], [windows, heads, 1, states]
    return keys, scales, offsets, [windows, heads, states, width], scales


def dtypes() -> tuple[type[np.generic], ...]:
    """Of the same."""
    return np.int8, np.float32, np.float32, np.int8, np.float32


def write(build: LayerBuilder, layer: int, key: str, value: str) -> None:
    """Keys and values [1, states, heads, width] -> the outputs of `names`."""
    k, scale, offset, v, value_scale = names(layer)
    root = build.node("Sqrt", build.cast(build.node("Shape", key, start=3), np.float32))
    rounded, largest = _by_channel(build, key)
    build.node("Transpose", rounded, perm=[0, 1, 3, 2], to=k)
    build.node("Div", largest, build.node("Mul", root, build.scalar(STEPS * STEPS)), to=scale)
    last = build.constant([-1], np.int64)
    total = build.node("ReduceSum", build.cast(rounded, np.float32), last, keepdims=1)
    total = build.node("Transpose", total, perm=[0, 1, 3, 2])
    build.node("Mul", total, build.scalar(-MIDDLE), to=offset)
    rounded, largest = _by_channel(build, value)
    build.node("Identity", rounded, to=v)
    build.node("Div", largest, build.scalar(STEPS * _PARTS), to=value_scale)


def scores(build: LayerBuilder, layer: int, query: str) -> str:
    """query [windows, heads, rows, width] -> [windows, heads, rows, states], before the softmax."""
    keys, scale, offset, _, _ = names(layer)
    values, magnitude = build.quantise_by_row(build.node("Mul", query, scale))
    products = build.cast(build.node("MatMulInteger", values, keys), np.float32)
    return build.node("Mul", build.node("Add", products, offset), magnitude)


def seen(build: LayerBuilder, layer: int, where: str, heads: int, width: int, block: int) -> str:
    """Probabilities [windows, heads, rows, states] -> [windows, heads, rows, width]; states are whole blocks."""
    *_, values, scale = names(layer)
    last = build.constant([-1], np.int64)
    blocks = build.node("Reshape", where, build.constant([0, 0, 0, -1, 1, block], np.int64))
    largest = build.node(
        "Add", build.node("ReduceMax", blocks, last, keepdims=1), build.scalar(_TINY)
    )  # [windows, heads, rows, blocks, 1, 1]
    parts = build.node(
        "QuantizeLinear",
        build.node("Div", blocks, largest),
        build.scalar(1 / _PARTS),
        build.scalar(0, np.uint8),
    )
    laid = build.node("Reshape", values, build.constant([0, heads, 1, -1, block, width], np.int64))
    products = build.cast(build.node("MatMulInteger", parts, laid), np.float32)
    total = build.node(
        "ReduceSum", build.node("Mul", products, largest), build.constant([3, 4], np.int64), keepdims=0
    )
    return build.node("Mul", total, scale)


def _by_channel(build: LayerBuilder, x: str) -> tuple[str, str]:
    """[1, states, heads, width] -> in 8 bits [1, heads, states, width], the largest magnitudes [1, heads, 1, width].

    ONNX Runtime reduces the last axis but one well, and those before it badly; without the two reshapes it would
    move the transposition behind the reduction.
    """
    width = build.node("Shape", x, start=3)
    x = build.reshape(build.node("Transpose", x, perm=[0, 2, 1, 3]), 0, 0, -1)
    whole = build.node("Concat", build.constant([0, 0, -1], np.int64), width, axis=0)
    x = build.node("Reshape", x, whole)
    largest = build.node("ReduceMax", build.node("Abs", x), build.constant([2], np.int64), keepdims=1)
    largest = build.node("Add", largest, build.scalar(_TINY))
    rounded = build.node("Div", x, largest)
    return build.node("QuantizeLinear", rounded, build.scalar(1 / STEPS), build.scalar(0, np.int8)), largest
