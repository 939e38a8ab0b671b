"""A decoder is priced by the stages of its passes, of which there is one for a token of each window."""

from __future__ import annotations

from dataclasses import replace

import pytest

from npu.untrained import BASE
from npu.xdna.composition import Constants
from npu.xdna.cost import EXPECTED
from npu.xdna.decoder_forecast import DecoderStages
from npu.xdna.decoders import passes
from npu.xdna.forecast import Decoding, Lockstep, Precision, rows, total
from npu.xdna.shapes import whisper_parts

SMALL = replace(BASE, decoder_layers=2, vocabulary=2000)
PARTS = whisper_parts(SMALL)
LOCKSTEP = Lockstep(states=320, tokens=40, batch=8, opening=3, alone=2, together=0)


def decoding(lockstep: Lockstep, precision: Precision = Precision.BF16) -> Decoding:
    return DecoderStages(PARTS, lockstep, Constants(), precision).decoding(EXPECTED)


def test_stages() -> None:
    """One layer counts as often as there are layers: they are those of a whole pass."""
    (whole,) = passes(PARTS, Constants(), [(16, 80)])
    found = decoding(LOCKSTEP).stages
    assert len(found) == sum(map(len, whole.composer.units.values()))
    sequence = whole.composer.sequence("whole", whole.composer.units, whole.composer.work)
    assert sum(stage.traffic.tasks + stage.traffic.waits for stage in found) == len(sequence.steps)


def test_steps() -> None:
    """Every token of a window is a pass, with a dispatch, and sees more of the past the later it comes."""
    found = decoding(LOCKSTEP)
    last = total(cost.time for cost in found.stages) + EXPECTED.dispatch
    assert 39 * last.expected < found.steps.expected < 40 * last.expected
    assert found.share.expected == pytest.approx(found.steps.expected / 8)


def test_an_opening() -> None:
    """It takes passes of a window's own, which read all weights as well, or of all windows, which share them."""
    found, without = decoding(LOCKSTEP), decoding(replace(LOCKSTEP, alone=0))
    assert found.opening.expected == pytest.approx(2 * found.alone.expected)
    assert without.opening.expected == 0
    assert found.alone.expected < found.steps.expected / 40
    shared = decoding(replace(LOCKSTEP, alone=0, together=3))
    first = shared.steps.expected / LOCKSTEP.tokens  # a pass of all, about
    assert shared.opening.expected == pytest.approx(3 * first / LOCKSTEP.batch, rel=0.1)


def test_attention_of_many() -> None:
    """Keys of others are moved, and next to nothing is done for them: more windows are far less than as many times."""
    few, many = (decoding(replace(LOCKSTEP, batch=batch)) for batch in (4, 8))
    of_few, of_many = (
        next(row for row in rows(each.stages) if row.name == "cross-attention") for each in (few, many)
    )
    assert of_many.bytes == pytest.approx(2 * of_few.bytes, rel=0.1)
    assert of_many.products == pytest.approx(2 * of_few.products, rel=0.1)
    full = 8 * LOCKSTEP.states * SMALL.width * 2 * 64 * SMALL.decoder_layers  # if each row saw every key
    assert full / 16 < of_many.products < full


def test_in_8_bits() -> None:
    """A step reads half of the weights, keys and values; more than 16 windows take several passes."""
    wide, narrow = (decoding(LOCKSTEP, each) for each in Precision)
    of_wide, of_narrow = ({row.name: row.bytes for row in rows(each.stages)} for each in (wide, narrow))
    assert of_narrow["cross-attention"] < 0.65 * of_wide["cross-attention"]
    assert of_narrow["head"] < 0.5 * of_wide["head"]
    assert narrow.share.expected < 0.6 * wide.share.expected
    many = decoding(replace(LOCKSTEP, batch=32), Precision.INT8)
    half = decoding(replace(LOCKSTEP, batch=16), Precision.INT8)
    assert many.steps.expected == pytest.approx(2 * half.steps.expected)
