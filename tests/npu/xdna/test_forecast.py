"""What whole models would take: sums of stages."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from npu.xdna.cost import EXPECTED, NOTHING, RECONFIGURATION_S, Bound, Estimate, StageCost, Traffic
from npu.xdna.forecast import Decoding, Encoding, Transcription, rows


def stage(name: str, seconds: float, bound: Bound = Bound.CORES) -> StageCost:
    """That takes so long for one reason."""
    parts = {each: Estimate(0, seconds if each is bound else 0, 2 * seconds) for each in Bound}
    return StageCost(name, 100, Traffic(8, 4, 8, 2, 1, 1), MappingProxyType(parts), NOTHING)


def test_rows() -> None:
    """Layers are put together, in the order of the first; the bound is that of the slowest."""
    stages = (
        stage("conv1", 1),
        stage("layer 0 up", 2),
        stage("layer 0 down", 3),
        stage("layer 1 up", 4, Bound.MEMORY),
        stage("decoder layer 0 query from 0", 1),
        stage("decoder layer 0 query from 1024", 1),
    )
    found = rows(stages)
    assert [(row.name, row.stages, row.time.expected) for row in found] == [
        ("conv1", 1, 1),
        ("up", 2, 6),
        ("down", 1, 3),
        ("query", 2, 2),
    ]
    assert (found[1].products, found[1].bytes, found[1].tasks) == (200, 24, 4)
    assert found[1].bound is Bound.MEMORY


def test_an_encoder() -> None:
    """Stages, dispatches and the loading of overlays add up."""
    encoding = Encoding(EXPECTED, (stage("up", 4), stage("down", 6)), 2, 20)
    assert encoding.time.expected == pytest.approx(10 + 2 * EXPECTED.dispatch.expected)
    assert encoding.listed.expected == pytest.approx(EXPECTED.dispatch.expected + 20 * 36.3e-6)
    assert encoding.time.high == pytest.approx(20 + 2 * EXPECTED.dispatch.high)
    exchanged = replace(encoding, exchanges=2).time.expected - encoding.time.expected
    assert exchanged == pytest.approx(2 * RECONFIGURATION_S)


def test_a_recording() -> None:
    """A window's time is its encoder's and its decoder's; each has bounds."""
    decoding = Decoding(Estimate(1, 2, 3), Estimate(1, 2, 3), Estimate(8, 80, 160), NOTHING, 8, ())
    assert decoding.time == Estimate(1 + 1 + 1, 2 + 2 + 10, 3 + 3 + 20)
    found = Transcription(Encoding(EXPECTED, (stage("all", 6),), 0, 1), decoding, 40)
    assert found.time == Estimate(3, 20, 38)
    assert found.speed == Estimate(40 / 38, 2, 40 / 3)
