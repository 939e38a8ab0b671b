"""Voices of a window in pieces."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from streaming.listening import FRAME, FRAME_AT, LOCALS, MOMENT, Array, Job, moment_weights
from streaming.pieces import Piece, piece_weights, pieces_of
from streaming.window import SAMPLE_RATE

FRAMES = 590
LONGEST = 1.5 * SAMPLE_RATE / FRAME  # frames


def activity(*spans: tuple[int, int, int]) -> Array:
    found = np.zeros((FRAMES, LOCALS), np.float32)
    for local, start, end in spans:
        found[start:end, local] = 0.9
    return found


def test_a_short_stretch() -> None:
    """Is one piece; a pause of a moment does not end it, a longer one does."""
    heard = activity((1, 10, 50), (1, 53, 80), (2, 100, 120), (2, 130, 150))
    assert pieces_of(heard, 0.0) == [Piece(1, 10, 80), Piece(2, 100, 120), Piece(2, 130, 150)]


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 0.75])
def test_a_long_stretch(shift: float) -> None:
    """Is cut into pieces that follow each other, none of them much too long or a splinter."""
    pieces = pieces_of(activity((0, 20, 500)), shift)
    assert (pieces[0].start, pieces[-1].end) == (20, 500)
    assert all(a.end == b.start for a, b in pairwise(pieces))
    lengths = [piece.end - piece.start for piece in pieces]
    assert max(lengths) < 1.5 * LONGEST and min(lengths) >= 0.4 * LONGEST - 1


def test_shifts() -> None:
    """Cut a stretch at different places."""
    cuts = [{piece.start for piece in pieces_of(activity((0, 0, 500)), k / 4)} for k in range(4)]
    assert not set.intersection(*cuts) - {0}


def test_weights() -> None:
    """Of all pieces of a voice together are the weights of that voice, and so are the seconds."""
    heard = activity((0, 10, 300), (1, 250, 500))
    moments = np.arange(10, 130)
    start = 10 * MOMENT - 10 * MOMENT % FRAME
    job = Job(start, np.zeros(FRAMES * FRAME + FRAME_AT, np.float32), range(0), ())
    whole, seconds = moment_weights(job, heard, moments)
    pieces = pieces_of(heard, 0.5)
    weights, clean = piece_weights(start, heard, pieces, moments)
    for local in range(LOCALS):
        own = [at for at, piece in enumerate(pieces) if piece.local == local]
        np.testing.assert_allclose(weights[own].sum(axis=0), whole[local], atol=1e-6)
        assert clean[own].sum() == pytest.approx(seconds[local], abs=1e-4)


def test_speech_under_speech() -> None:
    """Has no weight."""
    heard = activity((0, 100, 160), (1, 100, 160))
    weights, clean = piece_weights(0, heard, pieces_of(heard, 0.0), np.arange(120))
    assert weights.max() == 0 and clean.tolist() == [0, 0]
