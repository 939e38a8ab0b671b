"""The layers that graphs are made of: norms, and products with matrices of 8 bits or dense ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.graph import MICROSOFT, GraphBuilder
from npu.weights import Array, Convolution, Dense, Linear, Matrix, Norm

EPSILON = 1e-5  # of every norm
STEPS = 127  # a row's largest magnitude becomes this many quantisation steps
MIDDLE = 128  # the unsigned 8-bit value that stands for zero


# values and the magnitudes of their rows, or values, scale and zero point of them all
Quantised = tuple[str, str] | tuple[str, str, str]


class Factor:
    """The left side of several products: x, and x in 8 bits once the first of them has an 8-bit matrix."""

    def __init__(self, x: str, quantise: Callable[[str], Quantised]) -> None:
        self.x = x
        self._quantise = quantise

    @cached_property
    def quantised(self) -> Quantised:
        """As the builder's `quantise` or `quantise_by_row` gives it."""
        return self._quantise(self.x)


class LayerBuilder(GraphBuilder):
    """A graph builder that knows these layers. All values are [1, rows, width] unless said otherwise."""

    def norm(self, x: str, after: Norm) -> str:
        """Layer normalisation over the width."""
        rest = [] if after.offset is None else [self.constant(after.offset)]
        return self.node("LayerNormalization", x, self.constant(after.gain), *rest, epsilon=EPSILON, axis=-1)

    def gelu(self, x: str) -> str:
        """x times the normal distribution's probability below it."""
        return self.node("Gelu", x, domain=MICROSOFT)

    def factor(self, x: str) -> Factor:
        """x for several products; its rows share one scale where they are of 8 bits."""
        return Factor(x, self.quantise)

    def rows(self, x: str) -> Factor:
        """x for several products; row i of each depends on row i alone."""
        return Factor(x, self.quantise_by_row)

    def product_of(self, factor: Factor, matrix: Matrix) -> str:
        """One of several products of `factor` or `rows`."""
        if isinstance(matrix, Dense):
            return self._dense_product(factor.x, matrix)
        if len(factor.quantised) == 2:
            return self.product_of_rows(*factor.quantised, matrix)
        values, scale, zero = factor.quantised
        return self._integer_product(values, scale, zero, matrix, bias=matrix.bias)

    def product(self, x: str, matrix: Matrix) -> str:
        """x, in 8 bits with one scale for the tensor, times the matrix: the fastest form, whose rows see each other."""
        if isinstance(matrix, Dense):
            return self._dense_product(x, matrix)
        bias = [] if matrix.bias is None else [self.constant(matrix.bias)]
        return self.node("DynamicQuantizeMatMul", x, *self._matrix(matrix), *bias, domain=MICROSOFT)

    def product_by_row(self, x: str, matrix: Matrix) -> str:
        """x, in 8 bits with a scale of its own for each row, times the matrix."""
        return self.product_of(self.rows(x), matrix)

    def quantise(self, x: str) -> tuple[str, str, str]:
        """x in 8 bits with one scale for the tensor -> (values, scale, zero point)."""
        values, scale, zero = self.nodes("DynamicQuantizeLinear", x, outputs=[None, None, None])
        return values, scale, zero

    def quantise_by_row(self, x: str) -> tuple[str, str]:
        """Each row divided by its largest magnitude, in 8 bits of one constant scale -> (values, magnitudes).

        No row may be all zero.
        """
        magnitude = self.node("ReduceMax", self.node("Abs", x), self.constant([-1], np.int64), keepdims=1)
        values = self.node("Div", x, magnitude)
        return self.node("QuantizeLinear", values, *self._row_scale()), magnitude

    def product_of_rows(self, values: str, magnitude: str, linear: Linear) -> str:
        """A product with rows quantised each by itself; row i depends on row i alone."""
        y = self._integer_product(values, *self._row_scale(), linear, bias=None)
        y = self.node(
            "Mul", y, magnitude
        )  # after the product, because kernels take one activation scale a call
        return y if linear.bias is None else self.node("Add", y, self.constant(linear.bias))

    def convolved(self, x: str, convolution: Convolution, matrix: Callable[[Array], Matrix]) -> str:
        """[1, rows, in] -> [1, outputs, out]: one product for each tap of the kernel, over every stride-th row.

        `matrix` stores the taps [in, out]. In 8 bits each row is quantised once, before it is gathered, with a scale
        of its own: one scale for a whole output's view costs a third of the accuracy.
        """
        factor = self.rows(x)
        total = ""
        taps = convolution.kernel.shape[2]
        for tap in range(taps):
            end = tap + 1 - taps or None  # leaves every tap as many rows as there are outputs
            stored = matrix(convolution.kernel[:, :, tap].T)
            if isinstance(stored, Dense):
                part = self._dense_product(self.cut(x, 1, tap, end, convolution.stride), stored)
            else:
                seen, by = (self.cut(each, 1, tap, end, convolution.stride) for each in factor.quantised[:2])
                part = self.product_of_rows(seen, by, stored)
            total = self.node("Add", total, part) if total else part
        return total if convolution.bias is None else self.node("Add", total, self.constant(convolution.bias))

    def cut(self, x: str, axis: int, start: int, stop: int | None, step: int = 1) -> str:
        """x[start:stop:step] along one axis."""
        end = np.iinfo(np.int64).max if stop is None else stop
        return self.node(
            "Slice", x, *(self.constant([value], np.int64) for value in (start, end, axis, step))
        )

    def reshape(self, x: str, *shape: int) -> str:
        """x in another shape; 0 keeps a dimension, -1 is what is left."""
        return self.node("Reshape", x, self.constant(shape, np.int64))

    def _dense_product(self, x: str, dense: Dense) -> str:
        matrix = self.tensor(dense.matrix)
        if dense.matrix.dtype != np.float32:
            matrix = self.cast(matrix, np.float32)
        y = self.node("MatMul", x, matrix)
        return y if dense.bias is None else self.node("Add", y, self.constant(dense.bias))

    def _integer_product(self, values: str, scale: str, zero: str, linear: Linear, bias: Array | None) -> str:
        matrix, matrix_scale, matrix_zero = self._matrix(linear)
        inputs = [values, matrix, scale, matrix_scale, zero, matrix_zero]
        if bias is not None:
            inputs.append(self.constant(bias))
        return self.node("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)

    def _row_scale(self) -> tuple[str, str]:
        return self.scalar(1 / STEPS), self.scalar(MIDDLE, np.uint8)

    def _matrix(self, linear: Linear) -> tuple[str, str, str]:
        return self.tensor(linear.values), self.tensor(linear.scale), self.tensor(linear.zero)


def quantised_by_column(matrix: Array, bias: Array | None = None) -> Linear:
    """A float32 matrix [k, n] in signed 8 bits with a scale for each column."""
    scale = np.abs(matrix).max(axis=0) / STEPS  # [n]
    scale[scale == 0] = 1
    values = np.clip(np.round(matrix / scale), -STEPS, STEPS).astype(np.int8)
    return Linear(values, scale.astype(np.float32), np.zeros(matrix.shape[1], np.int8), bias)


def side_by_side(*matrices: Matrix) -> Matrix:
    """Several products of one input as a single one; all matrices are stored alike."""
    widths = [each.shape[1] for each in matrices]
    bias = None
    if any(each.bias is not None for each in matrices):
        none = np.zeros((), np.float32)
        parts = [
            _spread(none if each.bias is None else each.bias, n)
            for each, n in zip(matrices, widths, strict=True)
        ]
        bias = np.concatenate(parts)
    dense = [each for each in matrices if isinstance(each, Dense)]
    if dense:
        return Dense(np.concatenate([each.matrix for each in dense], axis=1), bias)
    linears = [each for each in matrices if isinstance(each, Linear)]
    return Linear(
        np.concatenate([linear.values for linear in linears], axis=1),
        np.concatenate([_spread(linear.scale, n) for linear, n in zip(linears, widths, strict=True)]),
        np.concatenate([_spread(linear.zero, n) for linear, n in zip(linears, widths, strict=True)]),
        bias,
    )


def multiplied(matrix: Matrix, by: float) -> Matrix:
    """The matrix times a factor; the bias stays."""
    if isinstance(matrix, Dense):
        return replace(matrix, matrix=matrix.matrix * matrix.matrix.dtype.type(by))
    return replace(matrix, scale=matrix.scale * np.float32(by))


def with_bias_multiplied(matrix: Matrix, by: float) -> Matrix:
    """Matrix and bias times a factor."""
    bias = None if matrix.bias is None else matrix.bias * np.float32(by)
    return replace(multiplied(matrix, by), bias=bias)


def widened_outputs(matrix: Matrix, heads: int, width: int) -> Matrix:
    """Each head's columns followed by columns that give zero, up to `width` a head.

    Where they are not that wide already, the matrix has one scale and no bias.
    """
    if matrix.shape[1] == heads * width or isinstance(matrix, Dense):
        return matrix
    values = matrix.values.reshape(matrix.shape[0], heads, -1)  # [k, heads, head width]
    wide = np.full((values.shape[0], heads, width), matrix.zero, np.int8)
    wide[:, :, : values.shape[2]] = values
    return replace(matrix, values=wide.reshape(len(values), heads * width))


def widened_inputs(matrix: Matrix, heads: int, width: int) -> Matrix:
    """Each head's rows followed by rows that are multiplied by zero, up to `width` a head."""
    if matrix.shape[0] == heads * width or isinstance(matrix, Dense):
        return matrix
    values = matrix.values.reshape(heads, -1, matrix.shape[1])  # [heads, head width, n]
    wide = np.full((heads, width, values.shape[2]), matrix.zero, np.int8)
    wide[:, : values.shape[1]] = values
    return replace(matrix, values=wide.reshape(heads * width, values.shape[2]))


def rotation(frequencies: Array, positions: int) -> tuple[Array, Array]:
    """Cosines and sines of rotary embedding, [positions, pairs] each."""
    angle = np.arange(positions, dtype=np.float32)[:, None] * frequencies
    return np.cos(angle), np.sin(angle)


def _spread(value: NDArray[Any], n: int) -> NDArray[Any]:
    return np.broadcast_to(value, (n,))
