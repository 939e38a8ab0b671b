"""The layers that Moonshine's graphs are made of: norms, and products with 8-bit matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.graph import MICROSOFT, GraphBuilder
from npu.weights import Array, Linear

EPSILON = 1e-5  # of every norm
_STEPS = 127  # a row's largest magnitude becomes this many quantisation steps
_MIDDLE = 128  # the unsigned 8-bit value that stands for zero


class LayerBuilder(GraphBuilder):
    """A graph builder that knows these layers. All values are [1, rows, width] unless said otherwise."""

    def norm(self, x: str, gain: Array) -> str:
        """Layer normalisation over the width."""
        return self.node("LayerNormalization", x, self.constant(gain), epsilon=EPSILON, axis=-1)

    def quantise(self, x: str) -> tuple[str, str, str]:
        """x in 8 bits with one scale for the tensor -> (values, scale, zero point), to be shared by several products."""
        values, scale, zero = self.nodes("DynamicQuantizeLinear", x, outputs=[None, None, None])
        return values, scale, zero

    def product_of(self, quantised: tuple[str, str, str], linear: Linear) -> str:
        """A product with an input that is quantised already."""
        values, scale, zero = quantised
        return self._integer_product(values, scale, zero, linear, bias=linear.bias)

    def product(self, x: str, linear: Linear) -> str:
        """x quantised with one scale for the tensor, times the matrix: the fastest form, whose rows see each other."""
        weights = self._matrix(linear)
        bias = [] if linear.bias is None else [self.constant(linear.bias)]
        return self.node("DynamicQuantizeMatMul", x, *weights, *bias, domain=MICROSOFT)

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

    def product_by_row(self, x: str, linear: Linear) -> str:
        """x quantised with a scale of its own for each row, times the matrix."""
        return self.product_of_rows(*self.quantise_by_row(x), linear)

    def cut(self, x: str, axis: int, start: int, stop: int | None, step: int = 1) -> str:
        """x[start:stop:step] along one axis."""
        end = np.iinfo(np.int64).max if stop is None else stop
        return self.node(
            "Slice", x, *(self.constant([value], np.int64) for value in (start, end, axis, step))
        )

    def reshape(self, x: str, *shape: int) -> str:
        """x in another shape; 0 keeps a dimension, -1 is what is left."""
        return self.node("Reshape", x, self.constant(shape, np.int64))

    def _integer_product(self, values: str, scale: str, zero: str, linear: Linear, bias: Array | None) -> str:
        matrix, matrix_scale, matrix_zero = self._matrix(linear)
        inputs = [values, matrix, scale, matrix_scale, zero, matrix_zero]
        if bias is not None:
            inputs.append(self.constant(bias))
        return self.node("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)

    def _row_scale(self) -> tuple[str, str]:
        return self.scalar(1 / _STEPS), self.scalar(_MIDDLE, np.uint8)

    def _matrix(self, linear: Linear) -> tuple[str, str, str]:
        return self.tensor(linear.values), self.tensor(linear.scale), self.tensor(linear.zero)


def quantised_by_column(matrix: Array, bias: Array | None = None) -> Linear:
    """A float32 matrix [k, n] in signed 8 bits with a scale for each column."""
    scale = np.abs(matrix).max(axis=0) / _STEPS  # [n]
    scale[scale == 0] = 1
    values = np.clip(np.round(matrix / scale), -_STEPS, _STEPS).astype(np.int8)
    return Linear(values, scale.astype(np.float32), np.zeros(matrix.shape[1], np.int8), bias)


def side_by_side(*linears: Linear) -> Linear:
    """Several products of one input as a single one; without biases."""
    widths = [linear.values.shape[1] for linear in linears]
    return Linear(
        np.concatenate([linear.values for linear in linears], axis=1),
        np.concatenate([_spread(linear.scale, n) for linear, n in zip(linears, widths, strict=True)]),
        np.concatenate([_spread(linear.zero, n) for linear, n in zip(linears, widths, strict=True)]),
    )


def widened_outputs(linear: Linear, heads: int, width: int) -> Linear:
    """Each head's columns followed by columns that give zero, up to `width` a head."""
    values = linear.values.reshape(linear.values.shape[0], heads, -1)  # [k, heads, head width]
    wide = np.full((values.shape[0], heads, width), linear.zero, np.int8)
    wide[:, :, : values.shape[2]] = values
    return Linear(wide.reshape(len(values), heads * width), linear.scale, linear.zero, linear.bias)


def widened_inputs(linear: Linear, heads: int, width: int) -> Linear:
    """Each head's rows followed by rows that are multiplied by zero, up to `width` a head."""
    values = linear.values.reshape(heads, -1, linear.values.shape[1])  # [heads, head width, n]
    wide = np.full((heads, width, values.shape[2]), linear.zero, np.int8)
    wide[:, : values.shape[1]] = values
    return Linear(wide.reshape(heads * width, values.shape[2]), linear.scale, linear.zero, linear.bias)


def rotation(frequencies: Array, positions: int) -> tuple[Array, Array]:
    """Cosines and sines of rotary embedding, [positions, pairs] each."""
    angle = np.arange(positions, dtype=np.float32)[:, None] * frequencies
    return np.cos(angle), np.sin(angle)


def _spread(value: NDArray[Any], n: int) -> NDArray[Any]:
    return np.broadcast_to(value, (n,))
