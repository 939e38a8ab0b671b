from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends.onnx import OnnxBackend
from npu.decoding import Rules, decode
from npu.moonshine import TINY
from npu.shaping import Spelling, Timestamps, Vocabulary, shapers, vocabulary
from npu.tokens import Signals, Tokenizer
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

SIGNALS = Signals(
    start=10, end=9, untimed=11, first_time=12, latest_first_time=2, never=(3,), never_first=(4, 9)
)
SIZE = 20
TEXT, TIMES = set(range(9)), set(range(12, 20))


def allowed(tokens: list[int], timestamps: bool = True) -> set[int]:
    """What may follow when the model has no preference, except that text is more likely than any time."""
    logits = np.zeros(SIZE, np.float32)
    logits[:10] = 5
    for shaper in shapers(SIGNALS, timestamps):
        shaper.shape(logits, tokens)
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


def test_order_of_timestamps() -> None:
    """A time early on, text, a time, the next segment's time or the end; no time goes back."""
    text = TEXT - {3}
    assert allowed([]) == {12, 13, 14}
    assert allowed([13]) == text | {9, 10, 11} - {11}
    assert allowed([13, 5]) == text | {9, 10} | {14, 15, 16, 17, 18, 19}
    assert allowed([13, 5, 15]) == {9, 10} | {15, 16, 17, 18, 19}
    assert allowed([13, 5, 15, 15]) == text | {9, 10}
    assert allowed([13, 5, 15, 16, 5]) == text | {9, 10} | {17, 18, 19}


def test_times_that_are_likely_together() -> None:
    """Where all times together are more probable than any token of text, one of them it is."""
    logits = np.zeros(SIZE, np.float32)
    logits[5] = 1.5  # as likely as 4.5 times
    Timestamps(SIGNALS).shape(logits, [13, 5])
    assert np.flatnonzero(np.isfinite(logits)).tolist() == [14, 15, 16, 17, 18, 19]


def test_text_without_timestamps() -> None:
    """Some tokens never come, some never first."""
    assert allowed([], timestamps=False) == set(range(SIZE)) - {3, 4, 9}
    assert allowed([5], timestamps=False) == set(range(SIZE)) - {3}


def test_a_model_of_which_nothing_is_asked(tokenizer: Tokenizer) -> None:
    """Costs nothing."""
    assert shapers(tokenizer.signals) == ()


def gains(words: Vocabulary, tokens: list[int]) -> dict[int, float]:
    """By how much tokens are raised over the others."""
    logits = np.zeros(SIZE, np.float32)
    words.shape(logits, tokens)
    usual = np.median(logits)
    return {int(i): float(logits[i] - usual) for i in np.flatnonzero(logits != usual)}


def test_words_begun() -> None:
    """What goes on with a word that is begun is raised the more the more of it was said; another word begins as ever."""
    words = Vocabulary([Spelling((1, 2, 3), 2), Spelling((1, 4), 2), Spelling((5,), 3)])
    begun = gains(words, [])
    assert set(begun) == {1, 5} and 0 < begun[1] < begun[5]
    second = gains(words, [8, 1])
    assert second[2] == second[4] > begun[1]
    third = gains(words, [8, 1, 2])
    assert third[3] > second[2] and third[1] == begun[1]
    assert gains(words, [1, 2, 3]) == gains(words, [5]) == gains(words, [1, 2, 8]) == begun


def test_wrong_beginnings() -> None:
    """All that was given to a word is taken back from a hypothesis that leaves it half said."""
    words = Vocabulary([Spelling((1, 2, 3), 2)])
    total = 0.0
    for tokens, token in (([], 1), ([1], 2), ([1, 2], 8)):
        logits = np.zeros(SIZE, np.float32)
        words.shape(logits, tokens)
        total += float(logits[token])
    assert total == pytest.approx(0.0)


def test_words_without_a_space() -> None:
    """They are looked for at the beginning of a text only."""
    words = Vocabulary([Spelling((1, 2), 2)], at_first=[Spelling((6, 2), 2)])
    assert set(gains(words, [])) == {1, 6}
    assert set(gains(words, [6])) == {1, 2}
    assert set(gains(words, [8])) == set(gains(words, [8, 6])) == {1}


def heard(backend: OnnxBackend, tokenizer: Tokenizer, audio: Array, words: tuple[str, ...]) -> str:
    expected = (vocabulary(words, tokenizer),) if words else ()
    most = TINY.token_limit(len(audio), SAMPLE_RATE)
    signals = tokenizer.signals
    rules = Rules((signals.start,), signals.end, most, tokenizer.word_starts, expected)
    return tokenizer.text(decode(backend, backend.encode(audio).start(), rules).tokens)


def test_real_speech(backend: OnnxBackend, tokenizer: Tokenizer, clips: dict[str, Array]) -> None:
    """A word that is misheard without is heard with it."""
    audio = clips["two_cities"][: 20 * SAMPLE_RATE]
    assert "string of hope" in heard(backend, tokenizer, audio, ())
    assert "spring of hope" in heard(backend, tokenizer, audio, ("spring",))


NAMES = (
    "Amanuensis", "Krzysztof Nowak", "Ljubljana", "Kubernetes", "Siobhan", "Anneliese", "Prometheus", "Beckett",
    "Tchaikovsky", "Moonshine", "Debezium", "Saoirse",
)  # fmt: skip


@pytest.mark.parametrize("at", [0, 8, 16, 24])
def test_names_that_nobody_says(
    at: int, backend: OnnxBackend, tokenizer: Tokenizer, clips: dict[str, Array]
) -> None:
    """Are not heard."""
    audio = clips["two_cities"][at * SAMPLE_RATE :][: 8 * SAMPLE_RATE]
    assert heard(backend, tokenizer, audio, NAMES) == heard(backend, tokenizer, audio, ())
