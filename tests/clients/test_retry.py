"""When to try again."""

from __future__ import annotations

import random

from clients.retry import Retry


def test_pauses_grow_and_end() -> None:
    """The first attempt is made at once, the others wait longer and longer, up to the limit in total."""
    retry = Retry(first_s=1.0, factor=2.0, ceiling_s=8.0, limit_s=60.0)
    for seed in range(50):
        pauses = list(retry.pauses(random.Random(seed)))
        assert pauses[0] == 0.0
        assert abs(sum(pauses) - 60.0) < 1e-6
        for pause, whole in zip(pauses[1:-1], [1.0, 2.0, 4.0, 8.0, *[8.0] * 20], strict=False):
            assert whole / 2 <= pause <= whole


def test_pauses_of_two_clients_differ() -> None:
    """Clients that lost the same daemon do not come back in step."""
    retry = Retry()
    assert list(retry.pauses(random.Random(1)))[1:] != list(retry.pauses(random.Random(2)))[1:]
