"""A Whisper that speaks, through the whole pipeline: the text, the times, the languages, and what is withheld."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
from numpy.typing import NDArray

from npu.loading import load_transcriber
from npu.transcriber import Transcriber
from npu.transcripts import Progress, Transcript, Wanted, transcripts
from streaming.containers import decode_container
from streaming.errors import ModelError
from streaming.events import Event, Final, Gap, Partial
from streaming.session import Session
from streaming.settings import SessionOptions
from streaming.vad import SpeechDetector
from streaming.window import SAMPLE_RATE, Hypothesis, Manner, Window

Array = NDArray[np.float32]

FIXTURES = Path(__file__).parent.parent / "fixtures"
SENTENCES: dict[str, Any] = json.loads((FIXTURES / "speech" / "sentences.json").read_text())
TALK = "english-talk.flac"
STEP = SAMPLE_RATE // 10  # samples that arrive at a time


@pytest.fixture(scope="module", params=["int8", "fp32"])
def small_talk(request: pytest.FixtureRequest, cache_dir: Path) -> Transcriber:
    """The fixture, made resident."""
    folder = str(FIXTURES / "whisper-small-talk")
    return load_transcriber(folder, cache_dir=cache_dir, precision=request.param)


def audio(name: str) -> Array:
    """A clip, 16 kHz."""
    with (FIXTURES / "speech" / name).open("rb") as file:
        return np.concatenate(list(decode_container(file)))


def said(name: str, field: str = "text") -> str:
    """What is said in it, or what that means in English."""
    return " ".join(sentence[field] for sentence in SENTENCES[name]["sentences"])


def errors(expected: str, heard: str) -> float:
    """Word error rate, whatever the case and punctuation."""
    plain = jiwer.Compose(
        [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.Strip(), jiwer.ReduceToListOfListOfWords()]
    )
    return float(jiwer.wer(expected, heard, reference_transform=plain, hypothesis_transform=plain))


def transcribed(model: Transcriber, name: str, **wanted: Any) -> Transcript:
    """A clip as a recording."""
    made = next(iter(transcripts([(name, [audio(name)])], model, None, Wanted(**wanted), Progress())))
    assert isinstance(made, Transcript)
    return made


def test_held_out_sentences(small_talk: Transcriber) -> None:
    """Fewer than one word in ten is wrong, over both languages, neither of which is told."""
    heard = {name: transcribed(small_talk, name) for name in SENTENCES}
    for name, made in heard.items():
        assert made.language == SENTENCES[name]["language"]
        assert errors(said(name), made.text) <= 0.15, made.text
    everything = " ".join(map(said, SENTENCES))
    assert errors(everything, " ".join(made.text for made in heard.values())) <= 0.1


@pytest.mark.parametrize("detect", [True, False])
def test_a_recording_longer_than_the_context(small_talk: Transcriber, detect: bool) -> None:
    """Utterances or the model's own segments: nothing is lost or doubled at the seams, and words have their times."""
    made = transcribed(small_talk, TALK, words=True, detect=detect)
    assert errors(said(TALK), made.text) <= 0.1, made.text
    words = [word for line in made.utterances for word in line.words or ()]
    assert all(before.start <= after.start + 0.02 for before, after in pairwise(words))
    first = {s["text"].split()[0]: [] for s in SENTENCES[TALK]["sentences"]}  # type: dict[str, list[float]]
    for word in words:
        first.get(word.text, []).append(word.start)
    off = [
        min(abs(start - s["start"]) for start in first[s["text"].split()[0]])
        for s in SENTENCES[TALK]["sentences"]
        if first[s["text"].split()[0]]
    ]
    assert len(off) >= 10 and np.mean(off) < 0.25


def test_translation(small_talk: Transcriber) -> None:
    """Into English."""
    made = transcribed(small_talk, "spanish-three.flac", manner=Manner(task="translate"))
    assert errors(said("spanish-three.flac", "english"), made.text) <= 0.1


@pytest.mark.parametrize(
    "manner",
    [Manner("en", beam=3), Manner("en", temperature=0.0), Manner("en", prompt="Anna has eight days.")],
)
def test_other_manners(small_talk: Transcriber, manner: Manner) -> None:
    """A beam, a temperature, something said before: the same words."""
    assert (
        errors(said("english-pair.flac"), transcribed(small_talk, "english-pair.flac", manner=manner).text)
        == 0
    )


def live(model: Transcriber | Deafened, samples: Array) -> Iterator[Event]:
    """The events of a session in which the model answers at once."""
    session = Session(SpeechDetector(None), SessionOptions())
    for at in range(0, len(samples), STEP):
        yield from session.receive_audio(samples[at : at + STEP])
        while session.demand() is not None:
            window = session.next_window()
            yield from session.receive_hypothesis(window, model.transcribe(window))
    yield from session.finish()
    while session.demand() is not None:
        window = session.next_window()
        yield from session.receive_hypothesis(window, model.transcribe(window))


@pytest.mark.parametrize("context", ["full", "window"])
def test_live(context: Any, cache_dir: Path) -> None:
    """What was committed stays, the finals are right, and partials are there long before them."""
    folder = str(FIXTURES / "whisper-small-talk")
    model = load_transcriber(folder, cache_dir=cache_dir, live_context=context)
    shown: dict[int, str] = {}
    partials = 0
    finals = []
    for event in live(model, audio(TALK)[: 20 * SAMPLE_RATE]):
        if isinstance(event, Partial | Final):
            assert event.text.startswith(shown.get(event.utterance, ""))
            shown[event.utterance] = event.text
        partials += isinstance(event, Partial)
        if isinstance(event, Final):
            finals.append(event.text)
            assert event.language == "en"
    sentences = [s["text"] for s in SENTENCES[TALK]["sentences"] if s["end"] < 19]
    heard = " ".join(finals).split()[: len(" ".join(sentences).split())]
    assert errors(" ".join(sentences), " ".join(heard)) <= 0.1 and partials > 2 * len(sentences)


class Deafened:
    """A model that hears noise, whatever the detector heard."""

    def __init__(self, model: Transcriber) -> None:
        self._model = model

    def transcribe(self, window: Window) -> Hypothesis:
        noise = np.random.default_rng(4).normal(0, 0.02, len(window.audio)).astype(np.float32)
        return self._model.transcribe(replace(window, audio=noise))


def test_noise_in_place_of_speech(small_talk: Transcriber, caplog: pytest.LogCaptureFixture) -> None:
    """Gives no words: a gap says why, and the log where."""
    with caplog.at_level(logging.INFO):
        events = list(live(Deafened(small_talk), audio("spanish-1.flac")))
    assert not [event for event in events if isinstance(event, Final)]
    assert [event.reason for event in events if isinstance(event, Gap)] == ["suppressed:silence"]
    assert "words withheld, silence" in caplog.text


def test_a_model_without_timestamps(cache_dir: Path) -> None:
    """Cannot go through a recording by itself, and says so."""
    model = load_transcriber(cache_dir=cache_dir)
    with pytest.raises(ModelError, match="tells no times"):
        transcribed(model, "english-1.flac", detect=False)
