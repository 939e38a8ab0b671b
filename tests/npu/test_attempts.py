"""Which temperatures are tried, and which of the results is taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.attempts import Attempt, Decoder
from npu.beam import Beam
from npu.decoding import Rules
from npu.model import Cache
from npu.opening import Opened
from npu.plausibility import Thresholds

Array = NDArray[np.float32]

VOCABULARY, START, END = 24, 1, 2
GREEDY = Beam(1)


def spelled(tokens: Sequence[int]) -> str:
    """A letter a token."""
    return "".join(chr(96 + token) for token in tokens)


def attempts(model: object, count: int, most: int = 30, silence: float = 0.0) -> list[Attempt]:
    """Windows of a parrot, which hears nothing."""
    rules = Rules((START,), END, most, np.ones(VOCABULARY, np.bool_))
    caches = [model.encode(None).start() for _ in range(count)]  # type: ignore[attr-defined]
    return [Attempt(Opened(cache, (START,), "en", silence), rules) for cache in caches]


@pytest.fixture
def loop(parrot: type) -> object:
    """A model that is caught in a loop unless tokens are drawn."""

    class Loop(parrot):  # type: ignore[misc, valid-type]
        def extend(self, cache: Cache, tokens: tuple[int, ...]) -> Array:
            logits = super().extend(cache, tokens)
            logits[:, 9] = 4.5
            logits[:, END] = 4.0
            return np.asarray(logits, np.float32)

    return Loop(VOCABULARY, 3)


def test_other_temperatures(loop: object) -> None:
    """They are tried in order until the words are plausible, and say the same each time."""
    decoder = Decoder(loop, spelled, Thresholds(log_prob=-9.0))  # type: ignore[arg-type]
    first, again = (decoder.at_leisure(attempts(loop, 1), GREEDY, None, False)[0] for _ in range(2))
    assert first.doubt is None
    assert first.temperature > 0
    assert first.decoding.tokens == again.decoding.tokens
    for temperature in (0.0, first.temperature):
        (fixed,) = decoder.at_leisure(attempts(loop, 1), GREEDY, temperature, False)
        assert fixed.temperature == temperature
        assert fixed.doubt == (None if temperature else "repetition")


def test_windows_together(parrot: type) -> None:
    """Each comes out as alone, at its own temperature."""
    model = parrot(VOCABULARY, 11)
    decoder = Decoder(model, spelled, Thresholds())
    together = decoder.at_leisure(attempts(model, 3), GREEDY, None, True)
    (alone,) = decoder.at_leisure(attempts(model, 1), GREEDY, None, True)
    for outcome in together:
        assert outcome.decoding.tokens == alone.decoding.tokens
        assert (outcome.temperature, outcome.doubt) == (alone.temperature, alone.doubt)
        assert outcome.decoding.attention.shape == (len(alone.decoding.tokens), 1)


def test_the_most_probable_of_guesses(parrot: type) -> None:
    """Where every temperature guesses, the likeliest words are taken, not the last."""
    model = parrot(VOCABULARY, 5)
    sure = Thresholds(log_prob=0.0, compression=99.0)  # nothing is as sure as that
    ladder = [
        Decoder(model, spelled, sure).at_leisure(attempts(model, 1), GREEDY, each, False)[0]
        for each in sure.temperatures
    ]
    (taken,) = Decoder(model, spelled, sure).at_leisure(attempts(model, 1), GREEDY, None, False)
    sound = [each.decoding.mean_log_prob for each in ladder if each.doubt is None]
    assert taken.decoding.mean_log_prob == pytest.approx(max(sound))


def test_silence(parrot: type) -> None:
    """What is guessed where nobody speaks is doubted at once, and not tried again; partials likewise."""
    model = parrot(VOCABULARY, 5)
    decoder = Decoder(model, spelled, Thresholds())
    (final,) = decoder.at_leisure(attempts(model, 1, silence=0.9), GREEDY, None, False)
    assert (final.doubt, final.temperature) == ("silence", 0.0)
    assert decoder.at_once(attempts(model, 1, silence=0.9)[0], timed=False).doubt == "silence"


def test_room_that_is_filled(parrot: type) -> None:
    """A final that has no end is doubted; a partial is as long as it may be."""
    model = parrot(VOCABULARY, 5)
    decoder = Decoder(model, spelled, Thresholds(log_prob=-99.0, temperatures=(0.0,)))
    (final,) = decoder.at_leisure(attempts(model, 1, most=2), GREEDY, None, False)
    assert (final.doubt, len(final.decoding.tokens)) == ("density", 2)
    partial = decoder.at_once(attempts(model, 1, most=2)[0], timed=False)
    assert (partial.doubt, partial.decoding.tokens) == (None, final.decoding.tokens)


def test_without_thresholds(loop: object) -> None:
    """Nothing is doubted, and nothing tried again."""
    decoder = Decoder(loop, spelled, None)  # type: ignore[arg-type]
    (outcome,) = decoder.at_leisure(attempts(loop, 1), GREEDY, None, False)
    assert (outcome.doubt, outcome.temperature, outcome.decoding.tokens) == (None, 0.0, (9,))


def test_a_beam_that_is_timed(parrot: type) -> None:
    """Its words have attention and scores, a row for each token, forced ones included."""
    model = parrot(VOCABULARY, 8)
    decoder = Decoder(model, spelled, None)
    (attempt,) = attempts(model, 1)
    forced = Attempt(attempt.opened, attempt.rules, forced=(5, 6))
    (outcome,) = decoder.at_leisure([forced], Beam(3), None, True)
    tokens = outcome.decoding.tokens
    assert tokens[:2] == (5, 6)
    assert outcome.decoding.attention.shape == (len(tokens), 1)
    assert outcome.decoding.log_probs.shape == (len(tokens),)
