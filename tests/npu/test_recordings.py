"""Recordings decoded in batches, on real speech with the real model."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.batches import Batches
from npu.recordings import Source, reading_from, transcribe
from npu.transcriber import ModelTranscriber
from streaming.events import Final, Stopped
from streaming.settings import ResumePoint

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
        for name, event in transcribe(sources, Batches(transcriber), judges=None):
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


def test_a_recording_longer_than_the_pool(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """Is decoded in parts while it is read, with the same text."""
    audio = clips["two_cities"]
    blocks = [audio[at : at + 16_000] for at in range(0, len(audio), 16_000)]
    sources = [("a", blocks)]
    whole = [
        event.text for _, event in transcribe(sources, Batches(transcriber), None) if isinstance(event, Final)
    ]
    for threads in (1, 2):
        watched: list[float] = []
        with Batches(transcriber, threads) as decoder:
            made = transcribe(sources, decoder, None, pool_s=10.0, watch=watched.append)
            parts = [event.text for _, event in made if isinstance(event, Final)]
        assert parts == whole and len(whole) > 4
        assert watched == sorted(watched) and watched[-1] == pytest.approx(len(audio) / 16_000)


def test_a_recording_that_is_taken_up(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """At any of its marks goes on as if nothing had happened: the same words at the same times, the same account."""
    audio = clips["two_cities"]
    marks: list[tuple[int, ResumePoint]] = []
    heard: list[Final | Stopped] = []

    def listen(source: Source) -> list[Final | Stopped]:
        found: list[Final | Stopped] = []
        decoder = Batches(transcriber)
        for _, event in transcribe(
            [source], decoder, None, pool_s=8.0, mark=lambda _, point: marks.append((len(heard), point))
        ):
            if isinstance(event, Final | Stopped):
                found.append(event)
                heard.append(event)
        return found

    def blocks(first: int) -> list[Array]:
        return [audio[at : at + 16_000] for at in range(first, len(audio), 16_000)]

    whole = listen(Source("a", blocks(0)))
    points = list(marks)
    assert len(points) > 3
    for count, point in points[::2]:
        heard.clear()
        first = reading_from(point)
        rest = listen(Source("a", blocks(first), point, first))
        said = [(each.text, each.start, each.end) for each in rest if isinstance(each, Final)]
        expected = [(each.text, each.start, each.end) for each in whole[count:] if isinstance(each, Final)]
        assert said == expected
        ends = rest[-1], whole[-1]
        assert isinstance(ends[0], Stopped) and isinstance(ends[1], Stopped)
        assert ends[0].ledger.speech_s == pytest.approx(ends[1].ledger.speech_s, abs=0.02)
