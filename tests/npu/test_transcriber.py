from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npu.loading import load_transcriber
from npu.transcriber import ModelTranscriber
from streaming.window import SAMPLE_RATE, Hypothesis, Purpose, Window

Array = NDArray[np.float32]


def window(
    audio: Array,
    forced: tuple[int, ...] = (),
    draft: tuple[int, ...] = (),
    start: int = 0,
    timed: bool = False,
) -> Window:
    return Window(0, start, audio, forced, draft, Purpose.FINAL, timed)


def text(hypothesis: Hypothesis) -> str:
    return " ".join(word.text for word in hypothesis.words)


def test_speech(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """The words are those that are said."""
    heard = text(transcriber.transcribe(window(clips["two_cities"][: 9 * SAMPLE_RATE]))).lower()
    for said in ("best of times", "worst of times", "age of wisdom", "age of foolishness"):
        assert said in heard


def test_draft_and_forced_words(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """The own words as draft, or the first of them forced, change nothing."""
    audio = clips["beckett"]
    plain = transcriber.transcribe(window(audio))
    tokens = plain.tokens
    committed = tuple(token for word in plain.words[:5] for token in word.tokens)
    assert transcriber.transcribe(window(audio, draft=tokens)).words == plain.words
    again = transcriber.transcribe(window(audio, committed, tokens[len(committed) :]))
    assert again.words == plain.words


def test_forced_words_that_nobody_said(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """The hypothesis begins with them, each still a word of its own."""
    other = transcriber.transcribe(window(clips["two_cities"][: 3 * SAMPLE_RATE])).words
    forced = tuple(token for word in other for token in word.tokens)
    found = transcriber.transcribe(window(clips["beckett"][: 4 * SAMPLE_RATE], forced)).words
    assert [word.tokens for word in found[: len(other)]] == [word.tokens for word in other]


@pytest.mark.parametrize("samples", [0, 1, 1_599])
def test_audio_shorter_than_a_word(transcriber: ModelTranscriber, samples: int) -> None:
    """Nothing, or what was committed before."""
    audio = np.zeros(samples, np.float32)
    assert transcriber.transcribe(window(audio)).words == ()
    assert transcriber.transcribe(window(audio, forced=(887,))).tokens == (887,)


@given(
    seed=st.integers(0, 2**32),
    samples=st.integers(1_600, 24_000),
    level=st.sampled_from([0.0, 1e-30, 1e-4, 0.3, 1.0, 1e4]),
    timed=st.booleans(),
)
@example(
    seed=1986, samples=1985, level=1.0, timed=True
)  # its last word begins a rounding error behind the end
@settings(max_examples=40, deadline=None)
def test_any_noise(transcriber: ModelTranscriber, seed: int, samples: int, level: float, timed: bool) -> None:
    """Any audio gives a hypothesis, with words that are ascending in time and inside the window."""
    audio = (np.random.default_rng(seed).standard_normal(samples) * level).astype(np.float32)
    hypothesis = transcriber.transcribe(window(audio, timed=timed))
    end = 0.0
    for word in hypothesis.words:
        if timed:
            assert end <= word.start <= word.end <= samples / SAMPLE_RATE + 1e-9
            assert 0 <= word.confidence <= 1.00001
            end = word.end


def test_times_of_words(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """Silence put before speech moves the words by its length, and so does the window's place in the session."""
    audio = clips["two_cities"][: 8 * SAMPLE_RATE]
    late = np.concatenate([np.zeros(SAMPLE_RATE, np.float32), audio])
    first = transcriber.transcribe(window(audio, timed=True)).words
    second = transcriber.transcribe(window(late, start=5 * SAMPLE_RATE, timed=True)).words
    assert [word.text.lower().strip(",.") for word in first] == [
        word.text.lower().strip(",.") for word in second
    ]
    moved = np.array([after.start - before.start for before, after in zip(first, second, strict=True)])
    assert np.median(np.abs(moved - 6.0)) < 0.03
    assert np.mean(np.abs(moved - 6.0) < 0.15) >= 0.75


def test_pause_in_the_middle(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """No word lies in two seconds of silence."""
    speech = clips["two_cities"][: round(2.4 * SAMPLE_RATE)]
    audio = np.concatenate(
        [speech, np.zeros(2 * SAMPLE_RATE, np.float32), clips["beckett"][: 3 * SAMPLE_RATE]]
    )
    words = transcriber.transcribe(window(audio, timed=True)).words
    assert len(words) > 5
    for word in words:
        assert min(word.end, 4.4) - max(word.start, 2.4) < 0.1


def test_words_that_are_not_timed(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """No times and no confidences."""
    words = transcriber.transcribe(window(clips["beckett"])).words
    assert all((word.start, word.end, word.confidence) == (0, 0, 0) for word in words)


def test_all_windows_of_a_recording(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """Come out in order, each as if it were alone, too short ones included."""
    audio = clips["two_cities"]
    cuts = [
        audio[i * 2 * SAMPLE_RATE :][: n * SAMPLE_RATE // 2]
        for i, n in enumerate((6, 3, 12, 8, 1, 5, 9, 4, 2))
    ]
    windows = [
        window(each, start=i * 2 * SAMPLE_RATE, timed=True) for i, each in enumerate([*cuts, audio[:100]])
    ]
    together = transcriber.transcribe_all(windows)
    assert together[-1].words == ()
    for alone, found in zip([transcriber.transcribe(each) for each in windows], together, strict=True):
        assert [word.tokens for word in found.words] == [word.tokens for word in alone.words]
        assert np.allclose([w.start for w in found.words], [w.start for w in alone.words], atol=0.05)
        differences = [
            abs(f.confidence - a.confidence) for f, a in zip(found.words, alone.words, strict=True)
        ]
        assert max(differences, default=0) < 0.05


def test_a_partial_of_hardly_any_speech(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """Has no more tokens than fit into what was said after the pre-roll; forced words stay whatever their number."""
    audio = clips["two_cities"][5 * SAMPLE_RATE :][: round(0.8 * SAMPLE_RATE)]
    quiet = round(0.5 * SAMPLE_RATE)
    short = Window(0, 0, audio, (), (), Purpose.PARTIAL, quiet=quiet)
    assert len(transcriber.transcribe(short).tokens) <= 3
    forced = transcriber.transcribe(window(clips["beckett"])).tokens
    again = Window(0, 0, audio, forced, (), Purpose.PARTIAL, quiet=quiet)
    assert transcriber.transcribe(again).tokens == forced


def test_one_that_nobody_needs(cache_dir: Path, clips: dict[str, Array]) -> None:
    """Goes with the last reference to it, and its weights with it: nothing of it waits for the collector."""
    transcriber = load_transcriber(cache_dir=cache_dir)
    assert isinstance(transcriber, ModelTranscriber)
    gone = [weakref.ref(transcriber), weakref.ref(transcriber._backend)]
    gc.disable()
    try:
        assert transcriber.transcribe(window(clips["beckett"][: 2 * SAMPLE_RATE])).words
        del transcriber
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()
