"""OpenAI's own client against a daemon process."""

from __future__ import annotations

import base64
import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest


@pytest.fixture
def speech(assets: Path) -> Path:
    """A recording of one voice."""
    return assets / "beckett.wav"


@pytest.fixture
def client(daemon_process) -> Any:
    """A client of a daemon that transcribes by script."""
    with openai.OpenAI(base_url=f"{daemon_process().url}/v1", api_key="none", max_retries=0) as made:
        yield made


def _data_url(samples: np.ndarray) -> str:
    """16 kHz as a WAV file in a URL."""
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(16_000)
        wav.writeframes((samples * 32_767).astype("<i2").tobytes())
    return f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}"


def test_every_format(client, speech: Path) -> None:
    """Is understood by the client, field by field, and they agree."""
    create = client.audio.transcriptions.create
    plain = create(model="whisper-1", file=speech)
    assert "word5" in plain.text and plain.usage.type == "duration" and plain.usage.seconds > 5
    text = create(model="scripted", file=speech, response_format="text", language="en", temperature=0.0)
    assert text == f"{plain.text}\n"
    srt = create(model="whisper-1", file=speech, response_format="srt")
    assert srt.startswith("1\n00:00:0") and "-->" in srt
    vtt = create(model="whisper-1", file=speech, response_format="vtt")
    assert vtt.startswith("WEBVTT\n")
    verbose = create(model="whisper-1", file=speech, response_format="verbose_json", prompt="Beckett")
    assert verbose.language == "english" and verbose.text == plain.text and verbose.words is None
    assert verbose.usage.seconds == plain.usage.seconds
    for number, segment in enumerate(verbose.segments):
        assert segment.id == number and 0 <= segment.start < segment.end <= verbose.duration
        strict = type(segment).model_validate(segment.model_dump(), strict=True)
        assert set(strict.model_dump()) == set(type(segment).model_fields)
        assert strict.avg_logprob == 0.0 and strict.compression_ratio > 0


def test_timestamp_granularities(client, speech: Path) -> None:
    """Words, segments, or both."""
    both = client.audio.transcriptions.create(
        model="whisper-1",
        file=speech,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert " ".join(word.word for word in both.words) == both.text and both.segments
    words = client.audio.transcriptions.create(
        model="whisper-1", file=speech, response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert words.segments is None and words.words == both.words


def test_speakers(client, speech: Path) -> None:
    """Letters in order of appearance."""
    found = client.audio.transcriptions.create(
        model="gpt-4o-transcribe-diarize",
        file=speech,
        response_format="diarized_json",
        chunking_strategy="auto",
    )
    assert found.task == "transcribe" and found.segments[0].speaker == "A"
    assert " ".join(segment.text for segment in found.segments) == found.text
    for segment in found.segments:
        assert type(segment).model_validate(segment.model_dump(), strict=True).start < segment.end


def test_known_speakers(client, assets: Path, recording) -> None:
    """Are called by their names, whichever of them is given first."""
    dialogue = recording("endgame_nagg_nell.wav")
    known = {
        "Nell": _data_url(dialogue[9 * 16_000 : 11 * 16_000]),
        "Nagg": _data_url(dialogue[5 * 16_000 : 8 * 16_000]),
    }
    found = client.audio.transcriptions.create(
        model="gpt-4o-transcribe-diarize",
        file=assets / "endgame_nagg_nell.wav",
        response_format="diarized_json",
        known_speaker_names=list(known),
        known_speaker_references=list(known.values()),
    )
    at = {round(segment.start): segment.speaker for segment in found.segments}
    assert at[5] == "Nagg" and at[9] == "Nell"


@pytest.mark.parametrize(
    ("more", "kind", "param"),
    [
        ({"model": "enormous"}, openai.NotFoundError, "model"),
        ({"response_format": "rtf"}, openai.BadRequestError, "response_format"),
        ({"include": ["logprobs"]}, openai.BadRequestError, "include"),
        ({"timestamp_granularities": ["word"]}, openai.BadRequestError, "timestamp_granularities"),
        ({"known_speaker_names": ["Anna"]}, openai.BadRequestError, "known_speaker_names"),
        (
            {
                "response_format": "diarized_json",
                "known_speaker_names": ["Anna"],
                "known_speaker_references": ["data:audio/wav;base64,AAAA"],
            },
            openai.BadRequestError,
            "known_speaker_references",
        ),
        ({"file": ("notes.txt", b"no audio" * 100)}, openai.BadRequestError, "file"),
    ],
)
def test_refusals(client, speech: Path, more: dict[str, Any], kind: type[openai.APIStatusError], param: str):
    """Are the client's own exceptions, and name the parameter."""
    with pytest.raises(kind) as caught:
        client.audio.transcriptions.create(**{"model": "whisper-1", "file": speech, **more})
    assert caught.value.param == param and caught.value.type == "invalid_request_error"


def test_a_wrong_token(daemon_process, speech: Path) -> None:
    """The client's key is the daemon's token."""
    url = f"{daemon_process(auth={'tokens': ['secret']}).url}/v1"
    with openai.OpenAI(base_url=url, api_key="secret") as good:
        assert good.audio.transcriptions.create(model="whisper-1", file=speech).text
    with (
        openai.OpenAI(base_url=url, api_key="guess", max_retries=0) as bad,
        pytest.raises(openai.AuthenticationError),
    ):
        bad.audio.transcriptions.create(model="whisper-1", file=speech)
