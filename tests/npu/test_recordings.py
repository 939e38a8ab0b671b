"""Recordings decoded in batches, on real speech with the real model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.recordings import Batches, transcribe
from npu.transcriber import BATCH, ModelTranscriber
from streaming.events import Final, Stopped
from streaming.window import Hypothesis, Purpose, Window, Word

Array = NDArray[np.float32]


def test_several_recordings(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """Each has its own finals, in order, and an account of its audio; none knows that others were decoded with it."""
    names = ("two_cities", "beckett", "endgame_nagg_nell")

    def heard(chosen: tuple[str, ...], block: int) -> dict[str, list[str]]:
        texts: dict[str, list[str]] = {}
        sources = (
            (name, [clips[name][at : at + block] for at in range(0, len(clips[name]), block)])
            for name in chosen
        )
        for name, event in transcribe(sources, transcriber, judges=None):
            if isinstance(event, Final):
                texts.setdefault(name, []).append(event.text)
            if isinstance(event, Stopped):
                total = sum(event.ledger.model_dump().values())
                assert abs(total - len(clips[name]) / 16_000) < 0.03
                texts.setdefault(name, []).append("stopped")
        return texts

    together = heard(names, 160_000)
    assert {name: lines[-1] for name, lines in together.items()} == dict.fromkeys(names, "stopped")
    assert "best of times" in together["two_cities"][0]
    for name in names:
        assert heard((name,), 7_777)[name] == together[name]


def test_a_recording_longer_than_the_pool(
    transcriber: ModelTranscriber, clips: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is decoded in parts while it is read, with the same text."""
    audio = clips["two_cities"]
    blocks = [audio[at : at + 16_000] for at in range(0, len(audio), 16_000)]
    sources = [("a", blocks)]
    whole = [event.text for _, event in transcribe(sources, transcriber, None) if isinstance(event, Final)]
    monkeypatch.setattr("npu.recordings.POOL_S", 10.0)
    parts = [event.text for _, event in transcribe(sources, transcriber, None) if isinstance(event, Final)]
    assert parts == whole and len(whole) > 4


class _Recorder:
    """A transcriber that hears each window's number of samples, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        self.batches.append([len(window.audio) for window in windows])
        return [Hypothesis((Word(str(len(window.audio)), (1,)),)) for window in windows]


def _windows(lengths: Sequence[int]) -> list[Window]:
    silence = np.zeros(max(lengths, default=0), np.float32)
    return [Window(at, 0, silence[:length], (), (), Purpose.FINAL) for at, length in enumerate(lengths)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 5, 40, 100])
def test_batches(threads: int, count: int) -> None:
    """Hold windows of like lengths, no more than the model takes; results are in order, progress only grows."""
    recorder, shares = _Recorder(), list[float]()
    lengths = [(37 * at) % 101 + 1 for at in range(count)]
    decoder = Batches(recorder, shares.append, threads)  # type: ignore[arg-type]
    heard = decoder.transcribe_all(_windows(lengths))
    assert [hypothesis.words[0].text for hypothesis in heard] == [str(length) for length in lengths]
    assert all(len(batch) <= BATCH for batch in recorder.batches)
    assert sorted(length for batch in recorder.batches for length in batch) == sorted(lengths)
    if threads == 1:
        assert [length for batch in recorder.batches for length in batch] == sorted(lengths, reverse=True)
    if count == 40 and threads == 3:
        assert len(recorder.batches) == 3  # one for each thread
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) == len(recorder.batches) + 1


def test_batches_that_are_stopped() -> None:
    """What is raised between two batches ends the work: those after it are not decoded."""
    recorder = _Recorder()

    def stop(share: float) -> None:
        if share > 0:
            raise KeyboardInterrupt

    decoder = Batches(recorder, stop, threads=1)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        decoder.transcribe_all(_windows([100] * 100))
    assert len(recorder.batches) == 1
