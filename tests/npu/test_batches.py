"""Batches: what is decoded together, on how many threads, and how it ends early."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from npu.batches import Batches
from npu.transcriber import BATCH
from streaming.window import Hypothesis, Purpose, Window, Word


class Recorder:
    """A transcriber that hears each window's number of samples, and remembers its batches."""

    name, device, languages, translates = "recorder", "none", ("en",), False

    def __init__(self, context_s: float | None = None, doubted: int = 0) -> None:
        """doubted: samples from which a window is in doubt, where it is not 0."""
        self.context_s = context_s
        self.batches: list[list[int]] = []
        self._doubted = doubted

    def transcribe(self, window: Window) -> Hypothesis:
        doubt = "loop" if self._doubted and len(window.audio) >= self._doubted else None
        at = (window.start + 1) / 16_000
        return Hypothesis((Word(str(len(window.audio)), (1,), at, at),), doubt=doubt)

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        self.batches.append([len(window.audio) for window in windows])
        return [self.transcribe(window) for window in windows]


def _windows(lengths: Sequence[int]) -> list[Window]:
    silence = np.zeros(max(lengths, default=0), np.float32)
    starts = np.cumsum([0, *lengths]).tolist()
    return [
        Window(at, start, silence[:length], (), (), Purpose.FINAL)
        for at, (start, length) in enumerate(zip(starts, lengths, strict=False))
    ]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 5, 40, 100])
def test_batches(threads: int, count: int) -> None:
    """Hold windows of like lengths, no more than the model takes; results are in order, progress only grows."""
    recorder, shares = Recorder(), list[float]()
    lengths = [(37 * at) % 101 + 1 for at in range(count)]
    with Batches(recorder, threads) as decoder:
        heard = decoder.begin([_windows(lengths)]).results(shares.append)
    assert [hypothesis.words[0].text for hypothesis in heard] == [str(length) for length in lengths]
    batches = recorder.batches
    assert all(len(batch) <= BATCH for batch in batches)
    assert sorted(length for batch in batches for length in batch) == sorted(lengths)
    if threads == 1:
        assert [length for batch in batches for length in batch] == sorted(lengths, reverse=True)
    if count == 40 and threads == 3:
        assert len(batches) == 3  # one for each thread
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_batches_that_are_stopped() -> None:
    """What is raised between two batches ends the work: those after it are not decoded."""
    recorder = Recorder()

    def stop(share: float) -> None:
        if share > 0:
            raise KeyboardInterrupt

    pool = Batches(recorder).begin([_windows([100] * 100)])
    with pytest.raises(KeyboardInterrupt):
        pool.results(stop)
    assert len(recorder.batches) == 1


def test_several_pools() -> None:
    """Are decoded beside the caller, who asks for them in order; leaving drops those that were not begun."""
    recorder = Recorder()
    with Batches(recorder, 2, size=2) as decoder:
        pools = [decoder.begin([_windows([length] * 3)]) for length in (5, 6, 7)]
        assert [len(pool.results()) for pool in pools] == [3, 3, 3]
        assert all(pool.share == 1.0 for pool in pools)
    assert all(len(batch) <= 2 for batch in recorder.batches)


def test_a_context_that_is_filled() -> None:
    """Windows of one recording are decoded as one; those of two never are."""
    recorder = Recorder(context_s=1.0)
    heard = Batches(recorder).begin([_windows([6_000, 6_000, 6_000]), _windows([3_000])]).results()
    assert sorted(length for batch in recorder.batches for length in batch) == [3_000, 6_000, 12_000]
    assert [len(hypothesis.words) for hypothesis in heard] == [
        1,
        0,
        1,
        1,
    ]  # the recorder's words are at the start


def test_a_context_in_doubt() -> None:
    """Is heard again in its parts: what is wrong with one of them is not held against the others."""
    recorder = Recorder(context_s=1.0, doubted=10_000)
    heard = Batches(recorder).transcribe_all(_windows([6_000, 6_000]))
    assert [hypothesis.words[0].text for hypothesis in heard] == ["6000", "6000"]
    assert all(hypothesis.doubt is None for hypothesis in heard)
