"""Whisper's log-mel features as stages of the overlay in bf16: samples go in, and what comes out is where the first
convolution reads.

A spectrum is a product of frames, which overlap, with the Fourier matrix under its window; its squares with the filters
are a second one, whose logarithms are then lifted to no less than eight decades below the loudest. bf16 has 8 bits and
features reach 80 dB down, so that samples and matrix are two numbers each, what bf16 has of them and the rest: of the
four products of those all but that of both rests are summed, in float. Sources and scales are those of `npu.mel`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.mel import HOP, WIDTH, filters
from npu.xdna.composer import Composer, of_all
from npu.xdna.composition import Lengths, Moves, Said, within
from npu.xdna.design import Start
from npu.xdna.gemm import SPAN, TILE
from npu.xdna.oracle import from_bf16, to_bf16
from npu.xdna.overlay import DEPTH, Bits, Operation, Spectral, Words
from npu.xdna.regions import Region, View, columns_of, rows_of
from npu.xdna.streams import padded

Array = NDArray[Any]

_PIECE = gcd(HOP, WIDTH)  # samples that lie together: 80
_PARTS = 3  # samples, their rests, and samples again, each for a part of the matrix
HOP_VALUES = _PARTS * HOP  # from one frame to the next
FRAME_VALUES = (
    -(-_PARTS * WIDTH // DEPTH) * DEPTH
)  # that a frame reads: what is beyond it is multiplied with zero
FREQUENCIES = WIDTH // 2 + 1
BINS = 2 * FREQUENCIES - 2  # cosines, then sines, of which the first and the last are zero
_BINS_READ = -(-BINS // DEPTH) * DEPTH
ROWS_BEHIND = -(-FRAME_VALUES // HOP_VALUES) - 1  # that the last frame reaches


def heard(audio: Array, frames: int) -> Bits:
    """audio [n] at 16 kHz, -1..1 -> [values] that the stages read for so many frames, which hold all of it.

    Silence follows it, and it is mirrored at both ends, as `npu.mel` does.
    """
    lasting = np.pad(audio, (0, max(0, frames * HOP - len(audio))))
    mirrored = np.pad(lasting, WIDTH // 2, mode="reflect")[: (frames - 1) * HOP + WIDTH]
    pieces = mirrored.astype(np.float32, copy=False).reshape(-1, _PIECE)
    laid = np.empty((len(pieces), _PARTS, _PIECE), np.uint16)
    laid[:, 0] = _cut(pieces)
    laid[:, 1] = _cut(pieces - from_bf16(laid[:, 0]))
    laid[:, 2] = laid[:, 0]
    return laid.ravel()


def _cut(x: NDArray[np.float32]) -> Bits:
    """In bf16 without rounding, which takes a fraction of the time: two such parts hold every 16-bit sample."""
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def fourier() -> Array:
    """[1216, 400]: cosines and sines under a periodic Hann window, in parts as samples lie."""
    n = np.arange(WIDTH)
    angle = 2 * np.pi / WIDTH * n[:, None] * np.arange(FREQUENCIES)
    window = 0.5 - 0.5 * np.cos(2 * np.pi / WIDTH * n)
    waves = window[:, None] * np.concatenate([np.cos(angle), np.sin(angle)[:, 1:-1]], axis=1)
    high = from_bf16(to_bf16(waves))
    parts = np.stack([high, high, waves - high]).reshape(_PARTS, -1, _PIECE, BINS)
    return padded(parts.swapaxes(0, 1).reshape(-1, BINS), FRAME_VALUES, BINS)


def mel_filters(mels: int) -> Array:
    """[416, mels]: of the squares of cosines, then of sines."""
    found = filters(mels)
    return padded(np.concatenate([found, found[1:-1]]), _BINS_READ, mels)


class FeatureComposer(Composer):
    """Writes them before the other stages of an encoder."""

    def log_mel(
        self, samples: Region, mels: int, to: Region, frames: Callable[[Lengths], int], name: str = "log-mel"
    ) -> None:
        """samples: as `heard` lays them, 480 values a row; to [frames, mels], with zeros behind the frames that count."""
        power = self.region(to.rows, BINS)
        self.product(
            f"{name} spectrum", View(samples.offset, HOP_VALUES, FRAME_VALUES), fourier(), power,
            function=Spectral.SQUARE,
        )  # fmt: skip
        self.product(
            f"{name} filters", power.view(width=_BINS_READ), mel_filters(mels), to,
            function=Spectral.LOGARITHM, heard=frames,
        )  # fmt: skip
        self._lift(f"{name} range", to, frames)

    def _lift(self, name: str, x: Region, frames: Callable[[Lengths], int]) -> None:
        """In place, below the loudest that cores have kept."""
        partials, rounds = self._partials(), x.width // SPAN
        moves = Moves()

        def lifted(i: int, m: int) -> Iterator[Start]:
            row = m + i * TILE
            words: dict[Words, Said] = {Words.STEPS: rounds, Words.ROWS: within(frames, row)}
            yield self._head(i, self._header(Operation.LIFT, words))
            yield Start(f"A{i}", "work", of_all(partials))
            yield rows_of(i, x.view(), row)
            yield columns_of(i, x, m, rounds)

        moves.together(partial(self._given_away, partials))
        moves.settle()
        for m in range(0, x.rows, SPAN):
            moves.together(partial(lifted, m=m))
        calls = Counter(keep_header=1, loudest_f32=1, lift_bf16=2 * rounds)
        total = Counter({kernel: n * (x.rows // SPAN) for kernel, n in calls.items()})
        self._add(name, moves, total + Counter(keep_header=1, group_out_f32=1), 1)
