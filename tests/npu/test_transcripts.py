"""Transcripts of recordings, by script: what is put together, and what fails alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.scripted import ScriptedTranscriber
from npu.transcripts import (
    Progress,
    SpeakersWanted,
    Transcript,
    Unreadable,
    Wanted,
    transcripts,
    understood,
)
from streaming.errors import AudioError, ModelError
from streaming.events import Final
from streaming.turns import Turn

Array = NDArray[np.float32]
SCRIPT = [(0.4 * at, 0.4 * at + 0.3, f"word{at}") for at in range(200)]


class Halves:
    """A diarizer that gives the first half of a recording to one speaker, the other to another."""

    name = "halves"

    def __init__(self) -> None:
        self.asked: list[tuple[int, int | None, int | None]] = []

    def turns(
        self, audio: Array, min_speakers: Any, max_speakers: Any, speech: Any = None, watch: Any = None
    ) -> list[Turn]:
        assert all(0 <= start < end <= len(audio) for start, end in speech)
        watch(0.5)
        self.asked.append((len(audio), min_speakers, max_speakers))
        half = len(audio) // 2
        return [Turn(0, half, 7, True, None), Turn(half, len(audio), 3, True, None)]


class Watch(Progress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.read_s = 0.0
        self.told: list[str] = []

    def read(self, name: str, seconds: float) -> None:
        self.read_s += seconds

    def decoded(self, seconds: float) -> None:
        assert seconds <= self.read_s + 1e-6
        self.seconds.append(seconds)

    def telling_apart(self, name: str, share: float) -> None:
        self.told.append(name)


def _blocks(audio: Array) -> list[Array]:
    return [audio[at : at + 16_000] for at in range(0, len(audio), 16_000)]


def _transcripts(
    sources: Sequence[tuple[str, Iterable[Array]]], wanted: Wanted, watch: Progress | None = None
) -> dict[str, Transcript | Unreadable]:
    made = transcripts(sources, ScriptedTranscriber(SCRIPT), None, wanted, watch or Progress())
    return {outcome.name: outcome for outcome in made}


@pytest.fixture
def speech(clips: dict[str, Array]) -> Array:
    """Half a minute of two people."""
    return clips["endgame_nagg_nell"]


def test_a_transcript(speech: Array) -> None:
    """Has what was said, numbered, without words or speakers that nobody wants; progress ends at its length."""
    watch = Watch()
    (made,) = _transcripts([("talk", _blocks(speech))], Wanted(), watch).values()
    assert isinstance(made, Transcript)
    assert made.text.startswith("word") and made.speakers == []
    assert [line.utterance for line in made.utterances] == list(range(1, len(made.utterances) + 1))
    assert made.duration_s == pytest.approx(len(speech) / 16_000) and 0 < made.speech_s < made.duration_s
    assert all(line.words is None and line.speaker is None for line in made.utterances)
    assert watch.seconds == sorted(watch.seconds) and watch.seconds[-1] == pytest.approx(made.duration_s)
    assert watch.told == []


def test_speakers(speech: Array) -> None:
    """Are told apart on the whole audio, with the bounds; every line is of one of them."""
    diarizer, watch = Halves(), Watch()
    wanted = Wanted(speakers=SpeakersWanted(diarizer, 2, 4))
    made = _transcripts([("a", _blocks(speech)), ("b", _blocks(speech[:160_000]))], wanted, watch)
    assert diarizer.asked == [(len(speech), 2, 4), (160_000, 2, 4)] and watch.told == ["a", "b"]
    for each in made.values():
        assert isinstance(each, Transcript) and [speaker.id for speaker in each.speakers] == ["S1", "S2"]
        assert sum(len(line.words or ()) for line in each.utterances) == len(each.text.split())
        summary = each.summary(words=False)
        assert {segment["speaker"] for segment in summary["segments"]} == {"S1", "S2"}
        assert "words" not in summary["segments"][0]
        assert sum(s["seconds"] for s in summary["speakers"]) == pytest.approx(
            sum(line.end - line.start for line in each.utterances), abs=0.01
        )


def test_names(speech: Array) -> None:
    """Of speakers who are recognised stand in the segments."""
    wanted = SpeakersWanted(Halves(), recognise=lambda turns, audio: {3: ("Nell", 0.8)})
    (made,) = _transcripts([("talk", _blocks(speech))], Wanted(speakers=wanted)).values()
    assert isinstance(made, Transcript)
    summary = made.summary(words=True)
    assert (summary["segments"][0]["speaker"], summary["segments"][-1]["speaker"]) == ("S1", "Nell")
    assert [(each["id"], each.get("name"), each.get("confidence")) for each in summary["speakers"]] == [
        ("S1", None, None),
        ("S2", "Nell", 0.8),
    ]
    words = [word["text"] for segment in summary["segments"] for word in segment["words"]]
    assert " ".join(words) == summary["text"]


def _broken(audio: Array) -> Iterator[Array]:
    yield audio[:32_000]
    raise AudioError("It has become unreadable.")


def test_a_recording_that_breaks(speech: Array) -> None:
    """Is unreadable, however much of it was read; the others have their transcripts."""
    sources = [
        ("a", _blocks(speech)),
        ("broken", _broken(speech)),
        ("b", _blocks(speech)),
        ("empty", []),
    ]
    made = _transcripts(sources, Wanted())
    broken, empty = made["broken"], made["empty"]
    assert isinstance(broken, Unreadable) and broken.read_s == 2.0 and "unreadable" in str(broken.error)
    assert isinstance(empty, Transcript) and empty.text == "" and empty.duration_s == 0.0
    a, b = made["a"], made["b"]
    assert isinstance(a, Transcript) and isinstance(b, Transcript) and a.text == b.text != ""


def test_a_diarizer_that_fails(speech: Array) -> None:
    """Concerns the recording."""

    class Failing(Halves):
        def turns(self, *_: Any) -> list[Turn]:
            raise ModelError("It failed.")

    (made,) = _transcripts([("talk", _blocks(speech))], Wanted(speakers=SpeakersWanted(Failing()))).values()
    assert isinstance(made, Unreadable) and str(made.error) == "It failed."


def test_silence() -> None:
    """Is not given to a diarizer."""
    diarizer = Halves()
    wanted = Wanted(speakers=SpeakersWanted(diarizer))
    (made,) = _transcripts([("quiet", [np.zeros(32_000, np.float32)])], wanted).values()
    assert isinstance(made, Transcript) and made.utterances == () and diarizer.asked == []


@pytest.mark.parametrize(
    ("tag", "bare"), [(None, "en"), ("en-GB", "en"), ("EN_us", "en"), ("english", "en"), ("fr", None)]
)
def test_languages(tag: str | None, bare: str | None) -> None:
    """Are reduced to their codes; another than the model's is refused."""
    transcriber = ScriptedTranscriber(SCRIPT)
    if bare is None:
        with pytest.raises(ModelError, match="English"):
            understood(tag, transcriber)
    else:
        assert understood(tag, transcriber) == bare


def test_evidence(speech: Array) -> None:
    """Comes with each utterance where it is wanted: its tokens, and where its window began."""

    heard: list[str] = []

    class Listener(Watch):
        def said(self, name: str, final: Final) -> None:
            heard.append(final.text)

    (made,) = _transcripts([("talk", _blocks(speech))], Wanted(evidence=True), Listener()).values()
    assert isinstance(made, Transcript)
    assert heard == [line.text for line in made.utterances]
    for line in made.utterances:
        assert line.evidence is not None and len(line.evidence.tokens) == len(line.text.split())
        assert line.evidence.heard_from <= line.start and line.evidence.avg_logprob is None
        assert "evidence" not in line.model_dump() and "evidence" not in line.model_dump_json()
    (plain,) = _transcripts([("talk", _blocks(speech))], Wanted()).values()
    assert isinstance(plain, Transcript) and plain.utterances[0].evidence is None
