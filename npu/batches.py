"""Batches: the windows of a pool decoded in lockstep, on one thread or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self

from npu.packing import Pack, packed
from npu.transcriber import BATCH, Transcriber
from streaming.window import SAMPLE_RATE, Hypothesis, Window

SMALLEST_BATCH = 4  # windows; below it a thread more gains less than the batch loses
CONTEXT_BATCH = 8  # the same of a model that hears a context of fixed length: what it keeps of one is large
AHEAD = 2  # pools that are collected beside the one in hand, so that no thread waits for the next


class Batches:
    """Has pools of windows decoded, a batch at a time. One thread is the caller's own, and works when it is waited for;
    several work beside the caller, who can go on reading.
    """

    def __init__(self, transcriber: Transcriber, threads: int = 1, size: int | None = None) -> None:
        """size: windows decoded in lockstep; more gain little, and each needs memory. None: as the model does best."""
        self._transcriber = transcriber
        self._threads = threads
        self._size = size or (BATCH if transcriber.context_s is None else CONTEXT_BATCH)
        self.context_s = transcriber.context_s
        self._room = round((transcriber.context_s or 0.0) * SAMPLE_RATE)
        self._executor = ThreadPoolExecutor(threads, "decoding") if threads > 1 else None

    @property
    def ahead(self) -> int:
        """Pools that may be begun before the first of them is waited for."""
        return 0 if self._executor is None else AHEAD

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends with the batches in hand; those that were not begun are dropped."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def begin(self, windows: Sequence[Sequence[Window]]) -> Pool:
        """windows: of several recordings, those of each in order; without forced words or drafts."""
        packs = [pack for each in windows for pack in packed(each, self._room)]
        batches = self._batches(packs)
        if self._executor is None:
            return Pool(
                batches, [Deferred(partial(self._decode, [packs[row] for row in rows])) for rows in batches]
            )
        return Pool(
            batches, [self._executor.submit(self._decode, [packs[row] for row in rows]) for rows in batches]
        )

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        """Windows of one recording, in order; blocks until done."""
        return self.begin([windows]).results()

    def _decode(self, packs: Sequence[Pack]) -> list[list[Hypothesis]]:
        """What was heard in each window of each pack. What is in doubt as a whole is heard again in its parts."""
        heard = self._transcriber.transcribe_all([pack.window for pack in packs])
        doubtful = [
            row for row, pack in enumerate(packs) if heard[row].doubt is not None and len(pack.parts) > 1
        ]
        parts = [part for row in doubtful for part in packs[row].parts]
        again = iter(self._transcriber.transcribe_all(parts) if parts else ())
        return [
            [next(again) for _ in pack.parts] if row in doubtful else pack.parted(heard[row])
            for row, pack in enumerate(packs)
        ]

    def _batches(self, packs: Sequence[Pack]) -> list[list[int]]:
        """Indices of packs of about one length, the longest first, as many batches for each thread as for another."""
        rounds = -(-len(packs) // (self._size * self._threads))
        size = max(-(-len(packs) // max(1, rounds * self._threads)), min(SMALLEST_BATCH, self._size))
        order = sorted(range(len(packs)), key=lambda row: len(packs[row].window.audio), reverse=True)
        return [order[at : at + size] for at in range(0, len(order), size)]


class Deferred:
    """A batch that is decoded when its result is asked for: the twin of a future for a single thread."""

    def __init__(self, decode: Callable[[], list[list[Hypothesis]]]) -> None:
        self._decode = decode

    def done(self) -> bool:
        """It is not, before it is asked for."""
        return False

    def result(self) -> list[list[Hypothesis]]:
        """Decodes it."""
        return self._decode()


class Pool:
    """Windows that are being decoded."""

    def __init__(
        self, batches: Sequence[Sequence[int]], works: Sequence[Deferred | Future[list[list[Hypothesis]]]]
    ) -> None:
        """batches: which packs each holds."""
        self._batches = batches
        self._works = works
        self._count = sum(map(len, batches))

    @property
    def share(self) -> float:
        """Of it that is decoded, 0..1; what is done when it is asked for is not counted."""
        done = sum(len(rows) for rows, work in zip(self._batches, self._works, strict=True) if work.done())
        return done / self._count if self._count else 1.0

    def results(self, between: Callable[[float], None] = lambda _share: None) -> list[Hypothesis]:
        """What was heard in the windows, in their order; blocks until done.

        between: called before each batch and at the end with the share that is decoded; what it raises ends the work.
        """
        found: dict[int, list[Hypothesis]] = {}
        for rows, work in zip(self._batches, self._works, strict=True):
            between(max(len(found) / self._count, self.share))
            found |= zip(rows, work.result(), strict=True)
        between(1.0)
        return [hypothesis for row in range(self._count) for hypothesis in found[row]]
