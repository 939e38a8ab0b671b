"""The canary: one product and one attention on the overlay, asked before an NPU is trusted with speech.

It is one more sequence of every encoder's design, so that the encoder's own package proves itself. Its numbers are whole,
or few bits, and small, so that sums are exact in whatever order an array adds them. What may be rounded otherwise is
what follows: the sums in float that functions and softmax's weights are made of, and so the last bit of bf16. An answer
may therefore be one step of bf16 off, and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna import oracle_bf16
from npu.xdna.composer import Composer, Seen
from npu.xdna.composition import Constants
from npu.xdna.design import Sequence
from npu.xdna.failures import UNWRITTEN, CanaryFailed, NpuUnavailable, must_agree
from npu.xdna.gemm import SIDE, SPAN
from npu.xdna.oracle import Bits, product_bf16, to_bf16
from npu.xdna.overlay import Activation
from npu.xdna.regions import LANE, Region
from npu.xdna.runtime import Built, Command, Npu

NAME = "canary"  # of its sequence

_WORK = 2  # of a sequence's buffers
_DEPTH = 64  # of the product
_KEY_ROWS, _KEYS, _QUERIES = 64, 50, 200  # there are rows that do not count
_SCALE = 1 / 8  # powers of two for a score of 1: exact in bf16
_WIDTH = SIDE * LANE  # of queries, keys and values: a head for each column of cores


@dataclass(frozen=True, eq=False)
class Answer:
    """What must lie in a region."""

    what: str
    region: Region
    expected: Bits  # [rows, columns], the first of the region's

    def found(self, work: Bits) -> Bits:
        """What lies there."""
        at, (rows, columns) = self.region.offset, self.expected.shape
        whole = work[at : at + rows * self.region.width].reshape(rows, self.region.width)
        return whole[:, :columns]


class Canary:
    """The questions, and the answers that are known."""

    overlay = "overlay"  # that is asked, for whoever watches
    asks = "a product and an attention in bf16"
    right = "right to a step of bf16"

    def __init__(self) -> None:
        self._constants = Constants()
        self._composer = self._composed()
        self._composer.unit(NAME)
        self._inputs: list[tuple[Region, Bits]] = []
        self.answers: tuple[Answer, ...] = (self._product(), self._attention())

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
                must_agree(f"the {answer.what} of the canary", answer.found(work), answer.expected)
        except NpuUnavailable as error:
            raise CanaryFailed(str(error)) from error

    def answered(self, npu: Npu, built: Built) -> Bits:
        """-> the work buffer after it, whatever it holds."""
        work = np.full(2 * self._composer.work, UNWRITTEN, np.uint8).view(np.uint16)
        for region, values in self._inputs:
            work[region.offset : region.offset + values.size] = values.ravel()
        buffers = (self._constants.laid(), self._composer.headers({}), work, *self._more())
        return dispatched(npu, built, *buffers).view(np.uint16)

    def _composed(self) -> Composer:
        """What writes the stages."""
        return Composer(self._constants)

    def _more(self) -> tuple[Bits, ...]:
        """Further buffers of the sequence, in their order."""
        return ()

    def _product(self) -> Answer:
        """GELU(x @ matrix + bias) + other."""
        x, matrix = whole(1, -7, 7, SPAN, _DEPTH), whole(2, -7, 7, _DEPTH, SPAN) / np.float32(64)
        bias, other = whole(3, -8, 8, SPAN) / np.float32(32), whole(4, 1, 8, SPAN, SPAN)
        left, added, to = self._given(x), self._given(other), self._composer.region(SPAN, SPAN)
        self._composer.product(
            "product", left.view(), matrix, to, bias=bias, function=Activation.GELU, other=added
        )
        sums = product_bf16(to_bf16(x), to_bf16(matrix), np.zeros((SPAN, SPAN), np.float32))
        expected = oracle_bf16.epilogue_bf16(sums, bias, Activation.GELU, to_bf16(other))
        return Answer("product", to, expected)

    def _attention(self) -> Answer:
        """Four heads; values are positive, so that nothing cancels."""
        query = whole(5, -2, 2, SPAN, _WIDTH)
        key, value = whole(6, -2, 2, _KEY_ROWS, _WIDTH), whole(7, 1, 16, _KEY_ROWS, _WIDTH)
        queries, keys = self._given(query), self._given(np.concatenate([key, value], axis=1))
        to = self._composer.region(SPAN, _WIDTH)
        self._composer.attention(
            "attention", queries, Seen(keys, keys.part(_WIDTH), lambda _: _KEYS), to,
            heads=SIDE, scale=_SCALE * np.log(2), queries=lambda _: _QUERIES,
        )  # fmt: skip
        q, k, v = map(to_bf16, (query, key, value))
        counted = oracle_bf16.Seen(_KEY_ROWS, np.full(SPAN, _KEYS), shared=SPAN, queries=_QUERIES)
        heads = [slice(head * LANE, (head + 1) * LANE) for head in range(SIDE)]
        seen = [
            oracle_bf16.attention_bf16(q[:, of], k[:, of], v[:, of], np.float32(_SCALE), counted)
            for of in heads
        ]
        return Answer("attention", to, np.concatenate(seen, axis=1))

    def _given(self, values: NDArray[np.float32]) -> Region:
        """What the host writes."""
        region = self._composer.input(*values.shape)
        self._inputs.append((region, to_bf16(values)))
        return region


def dispatched(npu: Npu, built: Built, *arguments: NDArray[Any]) -> NDArray[np.uint8]:
    """A canary's one dispatch with what its buffers hold (constants, headers, work, and others where there are any) ->
    the bytes of the work buffer after it.

    CanaryFailed where it does not end; NpuUnavailable where it cannot begin.
    """
    npu.load(built)
    buffers = []
    for values in arguments:
        buffer = npu.buffer(values.nbytes)
        buffer.here[:] = values.view(np.uint8)
        buffer.to_device()
        buffers.append(buffer)
    try:
        npu.run(built, [Command(NAME, tuple(buffers))])
    except NpuUnavailable as error:
        raise CanaryFailed(str(error)) from error
    work = buffers[_WORK]
    work.to_host()
    return work.here.copy()


def whole(seed: int, low: int, high: int, *shape: int) -> NDArray[np.float32]:
    """Whole numbers from the lowest to the highest."""
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(np.float32)
