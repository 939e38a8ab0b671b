"""OpenAI's own client against a daemon process."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import wave
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import openai
import pytest

from npu.scripted import ScriptedTranscriber


@pytest.fixture
def speech(assets: Path) -> Path:
    """A recording of one voice."""
    return assets / "beckett.wav"


@pytest.fixture(scope="module")
def client(lasting_daemon_process) -> Any:
    """A client of a daemon that transcribes by script."""
    with openai.OpenAI(base_url=f"{lasting_daemon_process().url}/v1", api_key="none", max_retries=0) as made:
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
        ({"stream": True, "response_format": "srt"}, openai.BadRequestError, "stream"),
        ({"language": "Klingon"}, openai.BadRequestError, "language"),
        ({"temperature": 1.5}, openai.BadRequestError, "temperature"),
        ({"keywords": ["x" * 101]}, openai.BadRequestError, "keywords"),
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


def test_streaming(client, speech: Path) -> None:
    """Text comes in deltas that add up, and the last event has all of it and what was used."""
    create = client.audio.transcriptions.create
    whole = create(model="whisper-1", file=speech)
    *deltas, done = create(model="gpt-4o-transcribe", file=speech, stream=True)
    assert {event.type for event in deltas} == {"transcript.text.delta"} and len(deltas) > 1
    assert done.type == "transcript.text.done" and done.text == whole.text
    assert "".join(event.delta for event in deltas) == done.text
    usage = done.usage
    assert usage.type == "tokens" and usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.output_tokens == len(done.text.split())  # the script's words are tokens
    assert usage.input_token_details.audio_tokens == usage.input_tokens
    assert 0 <= 10 * whole.usage.seconds - usage.input_tokens < 10


def test_streaming_speakers(client, speech: Path) -> None:
    """Segments say who spoke, each after the delta that names it."""
    events = list(
        client.audio.transcriptions.create(
            model="gpt-4o-transcribe-diarize", file=speech, response_format="diarized_json", stream=True
        )
    )
    kinds = [event.type.rpartition(".")[2] for event in events]
    assert kinds == ["delta", "segment"] * (len(kinds) // 2) + ["done"]
    for delta, segment in zip(events[:-1:2], events[1:-1:2], strict=True):
        assert delta.segment_id == segment.id and delta.delta.strip() == segment.text
        assert segment.start < segment.end and segment.speaker
    assert "".join(delta.delta for delta in events[:-1:2]) == events[-1].text


def test_a_stream_that_fails(client) -> None:
    """Raises the client's own exception, as what is known beforehand does."""
    events = client.audio.transcriptions.create(
        model="whisper-1", file=("a.txt", b"no audio" * 99), stream=True
    )
    with pytest.raises(openai.APIError) as caught:
        list(events)
    assert caught.value.param == "file"
    with pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(model="enormous", file=("a.txt", b"no audio"), stream=True)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI has announced their end
def test_a_model_that_cannot_translate(client, speech: Path) -> None:
    """Says so."""
    with pytest.raises(openai.BadRequestError, match="scripted cannot translate") as caught:
        client.audio.translations.create(model="whisper-1", file=speech)
    assert caught.value.param == "model"


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI has announced their end
def test_whisper(daemon, small_talk, sayings) -> None:
    """By its name: languages, translations, and a verbose answer that is true in every field."""
    path, said = sayings("spanish-three")
    english = " ".join(sentence["english"] for sentence in said["sentences"])

    async def main() -> None:
        async with (
            daemon(others={"whisper-small-talk": small_talk}) as d,
            openai.AsyncOpenAI(base_url=f"{d.url}/v1", api_key="none", max_retries=0) as client,
        ):
            model = {"model": "whisper-small-talk", "file": path}
            create, translate = client.audio.transcriptions.create, client.audio.translations.create
            verbose = await create(
                **model, response_format="verbose_json", timestamp_granularities=["word", "segment"]
            )
            assert verbose.language == "spanish" and plain(verbose.text) == plain(said["text"])
            assert plain(" ".join(word.word for word in verbose.words)) == plain(said["text"])
            for segment in verbose.segments:
                assert segment.tokens and -1 < segment.avg_logprob < 0 and 0 < segment.no_speech_prob < 0.5
                assert segment.temperature == 0 and 0 <= segment.seek <= 100 * segment.start
            for language in ("es", "Spanish", "es-MX"):
                assert (await create(**model, language=language)).text == verbose.text
            hinted = await create(
                **model, prompt="Tenemos que enviar la caja el viernes.", keywords=["Julia"], temperature=0.0
            )
            assert plain(hinted.text) == plain(said["text"])
            with pytest.raises(openai.BadRequestError, match="en, es"):
                await create(**model, language="de")

            assert jiwer.wer(plain(english), plain((await translate(**model)).text)) <= 0.1
            whole = await translate(**model, response_format="verbose_json")
            assert whole.language == "english" and whole.segments
            assert jiwer.wer(plain(english), plain(whole.text)) <= 0.1
            assert (await translate(**model, response_format="srt")).startswith("1\n00:00:0")

            stream = await create(**model, stream=True)
            *deltas, done = [event async for event in stream]
            assert done.text == verbose.text == "".join(event.delta for event in deltas)
            assert done.usage.output_tokens == sum(len(segment.tokens) for segment in verbose.segments)

    asyncio.run(main())


def plain(text: str) -> str:
    """Letters and spaces."""
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter == " ")


def test_a_reader_that_leaves(daemon, eventually, speech: Path) -> None:
    """Ends the work on a stream, and its place is free."""

    class Held(ScriptedTranscriber):
        gate = threading.Event()

        def transcribe_all(self, windows: Any) -> Any:
            assert self.gate.wait(20)
            return super().transcribe_all(windows)

    async def main() -> None:
        held = Held([])
        async with (
            daemon(held, uploads={"waiting": 0}) as d,
            openai.AsyncOpenAI(base_url=f"{d.url}/v1", api_key="none", max_retries=0) as client,
        ):
            stream = await client.audio.transcriptions.create(model="whisper-1", file=speech, stream=True)
            with pytest.raises(openai.RateLimitError):
                await client.audio.transcriptions.create(model="whisper-1", file=speech)
            await stream.close()
            held.gate.set()
            await eventually(lambda: d.service.models._first.users == 0)
            assert (await client.audio.transcriptions.create(model="whisper-1", file=speech)).text == ""

    asyncio.run(main())


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
