"""The forms of OpenAI's audio endpoints, and what of them is not offered.

https://platform.openai.com/docs/api-reference/audio. Fields that are not here are ignored, as `chunking_strategy`:
recordings are always cut where nobody speaks.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field

from daemon.asked import Asked
from daemon.recordings_api import MAX_PROMPT, MAX_VOCABULARY, Phrase
from streaming.audio import Samples
from streaming.errors import AudioError, BadMessage
from streaming.events import Record
from streaming.recorded import decode_recording
from streaming.window import SAMPLE_RATE

# What clients ask for that were written for OpenAI's service: they get the default model.
STAND_INS = frozenset(
    "whisper-1 gpt-transcribe gpt-4o-transcribe gpt-4o-mini-transcribe gpt-4o-mini-transcribe-2025-12-15"
    " gpt-4o-transcribe-diarize".split()
)
LISTS = frozenset(
    (
        "timestamp_granularities",
        "known_speaker_names",
        "known_speaker_references",
        "include",
        "keywords",
    )
)
MAX_KNOWN = 10
REFERENCE_S = (1.0, 30.0)  # of a known speaker
STREAMED_POOL_S = 30.0  # audio decoded at a time where somebody reads along

PlainFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
Format = PlainFormat | Literal["diarized_json"]


class TranslationRequest(Record):
    """The fields beside `file` of /v1/audio/translations."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: Annotated[str, Field(max_length=200)]
    prompt: str = Field(default="", max_length=MAX_PROMPT)
    response_format: PlainFormat = "json"
    temperature: float | None = Field(default=None, ge=0, le=1)

    def asked(self) -> Asked:
        """The same, of any path."""
        return Asked(
            model=model_of(self.model),
            task="translate",
            prompt=self.prompt,
            temperature=self.temperature or None,
            words=self.response_format in ("verbose_json", "srt", "vtt"),
            evidence=True,
        )


class TranscriptionRequest(Record):
    """The fields beside `file` of /v1/audio/transcriptions."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: Annotated[str, Field(max_length=200)]
    language: str | None = Field(default=None, max_length=40)
    prompt: str = Field(default="", max_length=MAX_PROMPT)
    response_format: Format = "json"
    temperature: float | None = Field(default=None, ge=0, le=1)
    timestamp_granularities: tuple[Literal["word", "segment"], ...] = ()
    keywords: tuple[Phrase, ...] = Field(default=(), max_length=MAX_VOCABULARY)
    known_speaker_names: tuple[str, ...] = ()
    known_speaker_references: tuple[str, ...] = ()  # data: URLs
    include: tuple[str, ...] = ()
    stream: bool = False

    def asked(self) -> Asked:
        """The same, of any path; blocks while it decodes the known speakers. BadMessage: it is not offered."""
        self._check()
        pairs = zip(self.known_speaker_names, self.known_speaker_references, strict=True)
        usual = Asked()
        return Asked(
            model=model_of(self.model),
            language=self.language,
            prompt=self.prompt,
            temperature=self.temperature or None,
            vocabulary=self.keywords,
            words=self.response_format in ("verbose_json", "srt", "vtt"),
            evidence=True,
            speakers=self.response_format == "diarized_json",
            known=tuple((name, _reference(url)) for name, url in pairs),
            pool_s=STREAMED_POOL_S if self.stream else usual.pool_s,
        )

    def _check(self) -> None:
        if self.include:
            raise BadMessage(f"include: {self.include[0]!r} is not offered; leave it out.", "include")
        if self.stream and self.response_format not in ("json", "text", "diarized_json"):
            raise BadMessage(
                f"stream: {self.response_format} comes in one piece; take json, text or diarized_json.",
                "stream",
            )
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


def model_of(name: str) -> str | None:
    """The model that a client means; None: the default one."""
    return None if name in STAND_INS else name


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
