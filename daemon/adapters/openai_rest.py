"""OpenAI's `POST /v1/audio/transcriptions`, so that its clients work with this daemon.

https://platform.openai.com/docs/api-reference/audio/createTranscription. What is not offered is refused, except
hints that no model here can use: `prompt`, `temperature`, `keywords`, `chunking_strategy`.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response

from daemon.recordings_api import multipart
from daemon.sessions_api import EXPORTS
from daemon.uploads import Asked, Uploads
from npu.transcripts import Transcript
from streaming.audio import Samples
from streaming.errors import AudioError, BadMessage, UnknownModel
from streaming.events import Record, Utterance
from streaming.recorded import decode_recording
from streaming.window import SAMPLE_RATE

if TYPE_CHECKING:
    from daemon.service import Service

# What clients ask for that were written for OpenAI's service: they get the model that is there.
STAND_INS = frozenset(
    "whisper-1 gpt-transcribe gpt-4o-transcribe gpt-4o-mini-transcribe gpt-4o-mini-transcribe-2025-12-15"
    " gpt-4o-transcribe-diarize".split()
)
LISTS = frozenset(("timestamp_granularities", "known_speaker_names", "known_speaker_references", "include"))
MAX_KNOWN = 10
REFERENCE_S = (1.0, 30.0)  # of a known speaker
LANGUAGES = {"en": "english"}  # verbose_json spells them out

Format = Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"]


class TranscriptionRequest(Record):
    """The fields beside `file`; others are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    language: str | None = None
    response_format: Format = "json"
    timestamp_granularities: tuple[Literal["word", "segment"], ...] = ()
    known_speaker_names: tuple[str, ...] = ()
    known_speaker_references: tuple[str, ...] = ()  # data: URLs
    include: tuple[str, ...] = ()
    stream: bool = False

    def check(self, model: str) -> None:
        """BadMessage, UnknownModel: what is asked for is not offered."""
        if self.model != model and self.model not in STAND_INS:
            raise UnknownModel(f"There is no model {self.model!r}; this daemon runs {model}.", "model")
        if self.stream:
            raise BadMessage(
                "stream: recordings are answered in one piece; leave it out, or stream audio to /v1/stream.",
                "stream",
            )
        if self.include:
            raise BadMessage(f"include: {self.include[0]!r} is not offered; leave it out.", "include")
        if self.timestamp_granularities and self.response_format != "verbose_json":
            raise BadMessage(
                "timestamp_granularities: they need response_format verbose_json.", "timestamp_granularities"
            )
        names, references = self.known_speaker_names, self.known_speaker_references
        if len(names) != len(references) or len(names) > MAX_KNOWN or len(set(names)) != len(names):
            raise BadMessage(
                f"known_speaker_names: give each of up to {MAX_KNOWN} names once, and a reference for each.",
                "known_speaker_names",
            )
        if names and self.response_format != "diarized_json":
            raise BadMessage(
                "known_speaker_names: they need response_format diarized_json.", "known_speaker_names"
            )

    def known(self) -> tuple[tuple[str, Samples], ...]:
        """The known speakers and how they sound; blocks while it decodes."""
        pairs = zip(self.known_speaker_names, self.known_speaker_references, strict=True)
        return tuple((name, _reference(url)) for name, url in pairs)


def create_router(service: Service, uploads: Uploads) -> APIRouter:
    """The path; whoever mounts it sees to it that only those admitted arrive."""
    router = APIRouter(tags=["recordings"])

    @router.post(
        "/v1/audio/transcriptions",
        summary="Transcribe a recording, as OpenAI's API does",
        response_class=Response,
        openapi_extra={"requestBody": multipart(TranscriptionRequest, LISTS)},
    )
    async def transcriptions(request: Request) -> Response:
        async with uploads.received(request) as form:
            wanted = form.read(TranscriptionRequest, LISTS)
            wanted.check(service.transcriber.name)
            asked = Asked(
                language=wanted.language,
                words=wanted.response_format in ("verbose_json", "srt", "vtt"),
                speakers=wanted.response_format == "diarized_json",
                known=await run_in_threadpool(wanted.known),
            )
            transcript = await uploads.transcribe(request, form, asked)
        return answer(transcript, wanted)

    return router


def _reference(url: str) -> Samples:
    """The audio in a data: URL. BadMessage."""
    param = "known_speaker_references"
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise BadMessage(f"{param}: each is audio as a URL, data:audio/wav;base64,...", param)
    try:
        blocks = list(decode_recording(io.BytesIO(base64.b64decode(data, validate=True)), 1.0))
    except (binascii.Error, AudioError) as error:
        raise BadMessage(f"{param}: one of them is no audio ({error}).", param) from error
    audio = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    least, most = REFERENCE_S
    if not least <= len(audio) / SAMPLE_RATE <= most:
        raise BadMessage(f"{param}: each must last {least:g} to {most:g} seconds.", param)
    return audio


def answer(transcript: Transcript, wanted: TranscriptionRequest) -> Response:
    """The transcript in the format that was asked for."""
    match wanted.response_format:
        case "text":
            return PlainTextResponse(f"{transcript.text}\n")
        case "srt" | "vtt" as kind:
            media_type, export = EXPORTS[kind]
            return Response(export(None, transcript.utterances, False), media_type=media_type)
        case "verbose_json":
            return JSONResponse(_verbose(transcript, wanted.timestamp_granularities))
        case "diarized_json":
            return JSONResponse(_diarized(transcript))
        case "json":
            return JSONResponse({"text": transcript.text, "usage": _usage(transcript)})


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration_s)}


def _verbose(transcript: Transcript, granularities: Sequence[str]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "task": "transcribe",
        "language": LANGUAGES.get(transcript.language, transcript.language),
        "duration": transcript.duration_s,
        "text": transcript.text,
        "usage": _usage(transcript),
    }
    if "segment" in granularities or not granularities:
        body["segments"] = [_segment(at, line) for at, line in enumerate(transcript.utterances)]
    if "word" in granularities:
        body["words"] = [
            {"word": word.text, "start": word.start, "end": word.end}
            for line in transcript.utterances
            for word in line.words or ()
        ]
    return body


def _segment(number: int, line: Utterance) -> dict[str, Any]:
    """Every field that OpenAI's clients require. Tokens are not kept, so there are none."""
    text = line.text.encode()
    return {
        "id": number,
        "seek": round(line.start * 100),  # in frames of 10 ms
        "start": line.start,
        "end": line.end,
        "text": line.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": _mean_log_probability(line),
        "compression_ratio": len(text) / len(zlib.compress(text)),
        "no_speech_prob": 0.0,  # what the detector called silence never became a segment
    }


def _mean_log_probability(line: Utterance) -> float:
    """Over words, each of which has the geometric mean of its tokens' probabilities."""
    logs = [math.log(max(word.confidence, 1e-10)) for word in line.words or ()]
    return sum(logs) / len(logs) if logs else 0.0


def _diarized(transcript: Transcript) -> dict[str, Any]:
    letters = {speaker.id: speaker.name or _letter(at) for at, speaker in enumerate(transcript.speakers)}
    return {
        "task": "transcribe",
        "duration": transcript.duration_s,
        "text": transcript.text,
        "segments": [
            {
                "type": "transcript.text.segment",
                "id": f"seg_{at}",
                "start": line.start,
                "end": line.end,
                "speaker": letters[line.speaker.id] if line.speaker else "unknown",
                "text": line.text,
            }
            for at, line in enumerate(transcript.utterances)
        ],
        "usage": _usage(transcript),
    }


def _letter(number: int) -> str:
    """A, B ... Z, AA, AB ..."""
    head, last = divmod(number, 26)
    return (_letter(head - 1) if head else "") + chr(ord("A") + last)
