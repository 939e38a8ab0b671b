"""Buffers that the host shares with the NPU for one design: filled, dispatched over and read by name, in 16-bit values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import NDArray

from npu.xdna.composition import Composition, Constants, Lengths
from npu.xdna.decoders import Parts
from npu.xdna.oracle import to_bf16
from npu.xdna.overlay import DEPTH, Bits
from npu.xdna.regions import Region
from npu.xdna.runtime import Built, Command, Npu, Shared

BYTES = 2  # of a value


class Buffers:
    """Made once, as large as the largest of several compositions wants them."""

    def __init__(
        self, npu: Npu, built: Built, constants: Constants, composers: Iterable[Composition], work: int
    ) -> None:
        """work: values of the buffer that all share; NpuUnavailable where there is no memory."""
        self._npu = npu
        self._built = built
        laid = constants.laid()
        sizes: dict[str, int] = {"work": BYTES * work, "constants": laid.nbytes}
        for composer in composers:
            for name, block in composer.arguments(0).items():
                sizes[name] = max(sizes.get(name, 0), block.bytes)
        self._buffers = {name: npu.buffer(size) for name, size in sizes.items()}
        for name, buffer in self._buffers.items():
            # what is no number would spoil what it is masked from
            buffer.here[:] = laid.view(np.uint8) if name == "constants" else 0
            buffer.to_device()

    def __getitem__(self, name: str) -> Shared:
        return self._buffers[name]

    def pieces(self, parts: Parts, kind: str) -> Pieces:
        """Keys and values of tokens or of states; kind: "past" or "states"."""
        return Pieces([(self._buffers[name], columns) for name, columns in parts.buffers(kind).items()])

    def put(self, name: str, offset: int, values: Bits) -> None:
        """offset: values before them."""
        write(self._buffers[name], offset, values)

    def give(self, region: Region, rows: NDArray[np.float32]) -> None:
        """rows [up to the region's, up to its width], zeros beyond."""
        whole = np.zeros((region.rows, region.width), np.uint16)
        whole[: len(rows), : rows.shape[1]] = to_bf16(rows)
        self.put(region.argument, region.offset, whole)

    def taken(self, region: Region, rows: slice) -> Bits:
        """[rows, width], a copy."""
        part = replace(region, offset=region.offset + rows.start * region.width, rows=rows.stop - rows.start)
        return self.seen(part).copy()

    def seen(self, region: Region) -> Bits:
        """[rows, width], as they are until the next dispatch."""
        buffer, at = self._buffers[region.argument], BYTES * region.offset
        size = BYTES * region.rows * region.width
        buffer.to_host(at, size)
        return buffer.here[at : at + size].view(np.uint16).reshape(-1, region.width)

    def dispatch(self, name: str, composer: Composition, lengths: Lengths) -> None:
        """The sequence of that name, with headers that say these lengths."""
        self.put("headers", 0, composer.headers(lengths))
        buffers = tuple(self._buffers[argument] for argument in composer.arguments(0))
        self._npu.run(self._built, [Command(name, buffers)])


class Pieces:
    """Pieces of 32 rows in a buffer, or in several, each of which has columns of them; and what lies there."""

    def __init__(self, buffers: Sequence[tuple[Shared, slice]]) -> None:
        self._buffers = buffers
        self._lies: dict[int, ReferenceType[Bits]] = {}

    def hold(self, groups: Sequence[tuple[Bits, ...]]) -> None:
        """Pieces of the groups in turn; only what is not there is written."""
        for group, pieces in enumerate(groups):
            for at, piece in enumerate(pieces):
                step = at * len(groups) + group
                if (lies := self._lies.get(step)) is None or lies() is not piece:
                    for buffer, columns in self._buffers:
                        write(buffer, step * DEPTH * (columns.stop - columns.start), piece[:, columns])
                    self._lies[step] = ref(piece)


def write(buffer: Shared, offset: int, values: Bits) -> None:
    """offset: values before them."""
    at = BYTES * offset
    buffer.here[at : at + values.nbytes] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    buffer.to_device(at, values.nbytes)
