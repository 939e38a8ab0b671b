"""Several decodings in lockstep on the NPU: a row of a pass is a token of each, over its own past and its window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil

import numpy as np
from numpy.typing import NDArray

from npu.xdna.caches import NpuCache, Remembered, Window
from npu.xdna.passing import NpuDecoder, Rows


@dataclass(frozen=True, eq=False)
class _Decoding:
    window: Window
    remembered: Remembered


def extend_all(
    decoder: NpuDecoder, caches: Sequence[NpuCache], tokens: Sequence[Sequence[int]]
) -> list[NDArray[np.float32]]:
    """Tokens on top of each cache -> the logits [k, vocabulary] of each: in lockstep, where that takes fewer passes.

    A pass takes a token of every cache, or all tokens of one. Caches are left alone where this fails in lockstep.
    """
    batch, most = NpuBatch(decoder, caches, attended=True), max(map(len, tokens))
    if min(map(len, tokens)) < most or not fewer_in_lockstep(
        most, len(caches), decoder.at_once, batch.passes
    ):
        return [decoder.extend(cache, each) for cache, each in zip(caches, tokens, strict=True)]
    logits = np.stack([batch.extend(each) for each in zip(*tokens, strict=True)], axis=1)
    for row, cache in enumerate(caches):
        cache.remembered = batch.remembered(row).behind(cache.remembered)
        cache.tokens += tokens[row]
    return list(logits)


def fewer_in_lockstep(tokens: int, decodings: int, at_once: int, passes: int = 1) -> bool:
    """Whether so many tokens of each take fewer passes in lockstep than one by one.

    at_once: tokens of one decoding that a pass takes; passes: for a token of all.
    """
    return tokens * passes < decodings * ceil(tokens / at_once)


class NpuBatch:
    """The decoders' memory of several decodings. As many go into one pass as there are rows and sequences for."""

    def __init__(self, decoder: NpuDecoder, starts: Sequence[NpuCache], attended: bool) -> None:
        self._decoder = decoder
        self._attended = attended
        self._decodings = [_Decoding(cache.window, cache.remembered.without_queries()) for cache in starts]

    def extend(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """One token for each decoding -> logits [decodings, vocabulary]."""
        logits, decodings = [], []
        for span in self._passes(range(len(self._decodings))):
            taken = [self._decodings[at] for at in span]
            found = self._decoder.found(
                Rows(
                    [tokens[at] for at in span],
                    [each.remembered.length for each in taken],
                    [each.remembered.all_pieces for each in taken],
                    _windows(taken),
                    together=True,
                    new=0,
                    attended=self._attended,
                )
            )
            logits.append(found.logits)
            for at, each in enumerate(taken):
                row = slice(at, at + 1)
                queries = {layer: rows[row] for layer, rows in found.queries.items()}
                remembered = each.remembered.and_then(found.memory[row], queries)
                decodings.append(replace(each, remembered=remembered))
        self._decodings = decodings
        return np.concatenate(logits)

    @property
    def passes(self) -> int:
        """That the next tokens take."""
        return len(self._passes(range(len(self._decodings))))

    def remembered(self, row: int) -> Remembered:
        """All that a decoding knows, but what was asked before the batch was begun."""
        return self._decodings[row].remembered

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these decodings."""
        self._decodings = [self._decodings[row] for row in rows]

    def attention(self, row: int) -> NDArray[np.float32]:
        """[calls, frames] of a decoding."""
        decoding = self._decodings[row]
        return decoding.window.attention(decoding.remembered.queries)

    def _passes(self, span: range) -> list[range]:
        """In halves until they fit: of the windows, and then of the decodings of a window."""
        taken = [self._decodings[at] for at in span]
        windows = _windows(taken)
        past = [each.remembered.all_pieces for each in taken]
        if len(span) == 1 or self._decoder.fits(past, windows):
            return [span]
        middle = len(windows) // 2 * (len(span) // len(windows)) or len(span) // 2
        return self._passes(span[:middle]) + self._passes(span[middle:])


def _windows(decodings: Sequence[_Decoding]) -> list[Window]:
    """Those of one window lie side by side."""
    return [next(group).window for _, group in groupby(decodings, key=lambda each: id(each.window))]
