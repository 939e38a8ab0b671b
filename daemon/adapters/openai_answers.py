"""The answers of OpenAI's audio endpoints: a transcript in the format that was asked for."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from daemon.sessions_api import EXPORTS
from npu.languages import name_of
from npu.transcripts import Transcript
from streaming.events import Utterance
from streaming.window import Task

AUDIO_TOKENS_PER_S = 10  # as OpenAI counts the audio of a user
FRAMES_PER_S = 100  # in which `seek` counts


def answer(
    transcript: Transcript, response_format: str, granularities: Sequence[str] = (), task: Task = "transcribe"
) -> Response:
    """All of it in one piece."""
    match response_format:
        case "text":
            return PlainTextResponse(f"{transcript.text}\n")
        case "srt" | "vtt" as kind:
            media_type, export = EXPORTS[kind]
            return Response(export(None, transcript.utterances, False), media_type=media_type)
        case "verbose_json":
            return JSONResponse(_verbose(transcript, granularities, task))
        case "diarized_json":
            return JSONResponse(_diarized(transcript))
        case _:
            return JSONResponse({"text": transcript.text, "usage": _usage(transcript)})


def token_usage(transcript: Transcript, output_tokens: int) -> dict[str, Any]:
    """What the last event of a stream says; output_tokens: that the model has written."""
    audio_tokens = math.ceil(transcript.duration_s * AUDIO_TOKENS_PER_S)
    return {
        "type": "tokens",
        "input_tokens": audio_tokens,
        "input_token_details": {"audio_tokens": audio_tokens},
        "output_tokens": output_tokens,
        "total_tokens": audio_tokens + output_tokens,
    }


def speaker_segments(transcript: Transcript) -> list[dict[str, Any]]:
    """Who said what: known speakers by their names, others as A, B ... in order of appearance."""
    letters = {speaker.id: speaker.name or _letter(at) for at, speaker in enumerate(transcript.speakers)}
    return [
        {
            "type": "transcript.text.segment",
            "id": f"seg_{at}",
            "start": line.start,
            "end": line.end,
            "speaker": letters[line.speaker.id] if line.speaker else "unknown",
            "text": line.text,
        }
        for at, line in enumerate(transcript.utterances)
    ]


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration_s)}


def _verbose(transcript: Transcript, granularities: Sequence[str], task: Task) -> dict[str, Any]:
    body: dict[str, Any] = {
        "task": task,
        "language": name_of("en" if task == "translate" else transcript.language),
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
    """Every field that OpenAI's clients require. What the model keeps no account of is 0."""
    text, evidence = line.text.encode(), line.evidence
    known = evidence.avg_logprob if evidence is not None else None
    return {
        "id": number,
        "seek": round((evidence.heard_from if evidence is not None else line.start) * FRAMES_PER_S),
        "start": line.start,
        "end": line.end,
        "text": line.text,
        "tokens": list(evidence.tokens) if evidence is not None else [],
        "temperature": evidence.temperature if evidence is not None else 0.0,
        "avg_logprob": _mean_log_probability(line) if known is None else known,
        "compression_ratio": len(text) / len(zlib.compress(text)),
        "no_speech_prob": evidence.no_speech_prob if evidence is not None else 0.0,
    }


def _mean_log_probability(line: Utterance) -> float:
    """Over words, each of which has the geometric mean of its tokens' probabilities."""
    logs = [math.log(max(word.confidence, 1e-10)) for word in line.words or ()]
    return sum(logs) / len(logs) if logs else 0.0


def _diarized(transcript: Transcript) -> dict[str, Any]:
    return {
        "task": "transcribe",
        "duration": transcript.duration_s,
        "text": transcript.text,
        "segments": speaker_segments(transcript),
        "usage": _usage(transcript),
    }


def _letter(number: int) -> str:
    """A, B ... Z, AA, AB ..."""
    head, last = divmod(number, 26)
    return (_letter(head - 1) if head else "") + chr(ord("A") + last)
