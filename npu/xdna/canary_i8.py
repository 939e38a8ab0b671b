"""The canary of the overlay in 8 bits: each of its operations once, asked before an NPU is trusted with speech.

It is one more sequence of every design on that overlay, as `canary` is of those in bf16. Everything here is integers,
so that an answer is right or it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.layers import EPSILON
from npu.xdna.canary import NAME, dispatched
from npu.xdna.composer_i8 import PARTS, Composer8, Tiles, lay_wide, read_narrow, read_wide
from npu.xdna.composition import Constants
from npu.xdna.design import Sequence
from npu.xdna.encoder_i8 import Fixed, NumpyOperators, value_scales
from npu.xdna.failures import UNWRITTEN, CanaryFailed, NpuUnavailable, must_equal
from npu.xdna.gemm import SIDE, SPAN, TILE
from npu.xdna.oracle import ANGLE_BITS, GAIN_BITS, PLAIN_BITS, SCORE_BITS
from npu.xdna.quant_parts import Heads, Normalisation, product_of
from npu.xdna.runtime import Built, Npu

Bytes = NDArray[np.uint8]

_BITS = 10  # fraction bits of what goes in: 9,000 is nearly 9
_LARGEST = 9000
_DEPTH = 64  # of the product
_DOWN = 2  # bits by which its residual is shifted
_FRAMES = 200  # queries and keys; those of the last 56 rows do not count
_SHIFT = 50 - SCORE_BITS  # of scores, so that many keys have a part in what is seen
_PAIRS = 12  # of a head's values that are turned


@dataclass(frozen=True, eq=False)
class Answer8:
    """What the work buffer must hold."""

    what: str
    expected: NDArray[Any]
    found: Callable[[Bytes], NDArray[Any]]  # the same of the work buffer


class Canary8:
    """The questions, and the answers that are known."""

    overlay = "8-bit overlay"  # that is asked, for whoever watches
    asks = "a product, a norm and an attention in 8 bits"
    right = "NumPy's"

    def __init__(self) -> None:
        self._constants = Constants(np.uint8)
        self._composer = Composer8(self._constants)
        self._composer.unit(NAME)
        self._inputs: list[tuple[Tiles, Fixed]] = []
        self._operators = NumpyOperators()
        product, out = self._product()
        self.answers = (product, *self._norm(product.expected, out), self._attention())

    def sequence(self) -> Sequence:
        """The dispatch, to be a part of a design."""
        return self._composer.sequence(NAME, (NAME,), self._composer.work)

    def ask(self, npu: Npu, built: Built) -> None:
        """One dispatch of a package. CanaryFailed where it does not answer, with nothing but zeros, or wrongly;
        NpuUnavailable where it cannot be asked.
        """
        work = self.answered(npu, built)
        try:
            for answer in self.answers:
                must_equal(f"the {answer.what} of the canary in 8 bits", answer.found(work), answer.expected)
        except NpuUnavailable as error:
            raise CanaryFailed(str(error)) from error

    def answered(self, npu: Npu, built: Built) -> Bytes:
        """-> the work buffer after it, whatever it holds."""
        work = np.full(self._composer.work, UNWRITTEN, np.uint8)
        for tiles, values in self._inputs:
            lay_wide(values, tiles.of(work))
        return dispatched(npu, built, self._constants.laid(), self._composer.headers({}), work)

    def _product(self) -> tuple[Answer8, Tiles]:
        """GELU(rows @ matrix + bias) + other / 4, of rows that are narrowed to 8 bits first; and where it lies."""
        x, other = _chance(1, SPAN, _DEPTH), _chance(2, SPAN, SPAN)
        gain = _chance(3, _DEPTH, low=1 << (GAIN_BITS - 1), high=1 << GAIN_BITS).astype(np.int32)
        random = np.random.default_rng(4)
        matrix, bias = random.uniform(-0.2, 0.2, (_DEPTH, SPAN)), random.uniform(-1, 1, SPAN)
        product = product_of(matrix, bias, PLAIN_BITS + _BITS, _BITS, gelu=True)
        compose, ask = self._composer, self._operators
        rows, to = compose.narrow(SPAN, _DEPTH), compose.wide(SPAN, SPAN)
        compose.quantise("rows", self._given(x), gain, rows)
        compose.product("product", rows, [product], to, self._given(other), _DOWN)
        expected = ask.product(ask.quantise(x, gain), product, ask.rescale(other, _DOWN))
        return Answer8("product", expected, lambda work: read_wide(to.of(work), *expected.shape)), to

    def _norm(self, x: Fixed, at: Tiles) -> tuple[Answer8, Answer8]:
        """Its values, and the scales of its rows; x: what lies there."""
        gain, offset = (_chance(seed, x.shape[1]).astype(np.int32) for seed in (5, 6))
        unused = np.zeros(x.shape[1], np.float32)
        norm = Normalisation(gain, offset, round(EPSILON * 4.0**_BITS), unused, unused)
        to = self._composer.narrow(*x.shape)
        self._composer.norm("norm", at, norm, to)
        values, scales = self._operators.layer_norm(x, norm)
        return (
            Answer8("norm", values, lambda work: read_narrow(to.of(work), *x.shape)[0]),
            Answer8("norm's scales", scales, lambda work: read_narrow(to.of(work), *x.shape)[1]),
        )

    def _attention(self) -> Answer8:
        """Four heads, whose queries and keys are turned."""
        width = SIDE * TILE
        qkv = _chance(7, SPAN, PARTS * width)
        angles = np.random.default_rng(8).uniform(0, 2 * np.pi, (SPAN, _PAIRS))
        cosine, sine = (np.round(f(angles) * (1 << ANGLE_BITS)).astype(np.int16) for f in (np.cos, np.sin))
        factors = _chance(9, SIDE, low=1 << 12, high=1 << 14).astype(np.int32)
        compose, ask = self._composer, self._operators
        heads, to = compose.heads(SPAN, SIDE), compose.wide(SPAN, width)
        scales = Heads(_SHIFT, factors, np.ones(SIDE))
        compose.quantise_heads("heads", self._given(qkv), scales, (cosine, sine), heads)
        compose.attention("attention", heads, _SHIFT, to, lambda _: _FRAMES)
        gain = np.full(TILE, 1 << GAIN_BITS, np.int32)
        lanes, seen = qkv[:_FRAMES].reshape(_FRAMES, PARTS, SIDE, TILE), []
        for head, factor in enumerate(factors):
            query, key, value = (np.ascontiguousarray(lanes[:, part, head]) for part in range(PARTS))
            turned = (ask.rotate(each, cosine[:_FRAMES], sine[:_FRAMES]) for each in (query, key))
            queries, keys = (ask.quantise(each, gain) for each in turned)
            values, scale = ask.quantise(value, gain)
            seen.append(ask.attend(queries, keys, (values, value_scales(scale, int(factor))), _SHIFT))
        expected = np.concatenate(seen, axis=1)
        return Answer8("attention", expected, lambda work: read_wide(to.of(work), *expected.shape))

    def _given(self, values: Fixed) -> Tiles:
        """What the host writes."""
        tiles = self._composer.wide(*values.shape)
        self._inputs.append((tiles, values))
        return tiles


def _chance(seed: int, *shape: int, low: int = -_LARGEST, high: int = _LARGEST) -> Fixed:
    return np.random.default_rng(seed).integers(low, high, shape, np.int16)
