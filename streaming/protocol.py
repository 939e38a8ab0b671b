"""What a producer says: the client's messages of PROTOCOL section 1, and their refusal."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from streaming.errors import BadMessage
from streaming.events import Record

SUBPROTOCOL = "amanuensis.v1"
SESSION_NAME = r"^[A-Za-z0-9_.-]{1,64}$"

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "webm", "ogg", "flac", "mp3", "wav"]


class AudioFormat(Record):
    """How the binary frames are to be read."""

    encoding: Encoding
    sample_rate: int = Field(ge=8_000, le=192_000)  # Hz; containers name their own, this one is then ignored
    channels: int = Field(default=1, ge=1, le=8)  # interleaved, mixed down


class Resume(Record):
    """Continue a session whose connection was lost."""

    token: str
    last_seq: int = Field(default=0, ge=0)  # durable events the client has seen


class Start(Record):
    """First message on the socket."""

    type: Literal["start"] = "start"
    audio: AudioFormat
    session: str | None = Field(default=None, pattern=SESSION_NAME)
    title: str | None = Field(default=None, max_length=200)
    language: str | None = Field(default=None, max_length=16)
    task: Literal["transcribe", "translate"] = "transcribe"
    model: str | None = None
    diarize: bool | None = None  # speaker labels; None: as the daemon is configured
    channels: Literal["mixed", "speakers"] = (
        "mixed"  # "speakers": one on each channel, which then is the label
    )
    partials: bool = True
    words: bool = False
    vocabulary: tuple[Annotated[str, Field(max_length=100)], ...] = Field(default=(), max_length=1_000)
    token: str | None = None
    resume: Resume | None = None


class MarkerRequest(Record):
    """Echo this once every sample sent before it has been decided."""

    type: Literal["marker"] = "marker"
    id: str = Field(max_length=200)


class FinalizeRequest(Record):
    """Close the open utterance now; the stream goes on."""

    type: Literal["finalize"] = "finalize"
    id: str | None = Field(default=None, max_length=200)


class SkipRequest(Record):
    """The producer no longer has the next samples: time moves on, a `gap` stands for them."""

    type: Literal["skip"] = "skip"
    samples: int = Field(gt=0)  # at the declared rate


class Stop(Record):
    """No more audio."""

    type: Literal["stop"] = "stop"


ClientMessage = Annotated[
    Start | MarkerRequest | FinalizeRequest | SkipRequest | Stop, Field(discriminator="type")
]

_CLIENT: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)


def parse_client_message(text: str | bytes) -> ClientMessage:
    """Reads one text frame of a producer; BadMessage names the field that is wrong."""
    try:
        return _CLIENT.validate_json(text)
    except ValidationError as error:
        raise BadMessage(explain(error)) from error


def explain(error: ValidationError) -> str:
    """The first thing wrong with a message, in a sentence."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "message"
    return f"{where}: {first['msg']}"
