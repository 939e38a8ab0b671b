"""The one exception tree of the project.

AmanuensisError
├── ProtocolError        the peer broke the contract; carries the close code of PROTOCOL section 4
│   ├── BadMessage       4400 bad_message
│   │   └── UnknownModel 404  model_not_found
│   ├── UnknownJob       404  unknown_job
│   ├── JobCancelled     409  cancelled
│   ├── UnknownVoice     404  unknown_voice
│   ├── VoiceExists      409  voice_exists
│   ├── VoicesBroken     503  voices_broken
│   ├── Unauthorized     4401 unauthorized
│   ├── ForbiddenOrigin  4403 forbidden_origin
│   ├── UnknownSession   4404 unknown_session
│   ├── TimedOut         4408 timeout
│   ├── SessionBusy      4409 session_busy
│   ├── TooLarge         1009 too_large
│   ├── Overloaded       1013 overloaded
│   │   ├── UploadsFull  429  too_many_uploads
│   │   └── ModelsFull   1013 too_many_models
│   └── Restarting       1012 restarting
├── AudioError           bytes that are not the audio they were declared to be
├── ModelError           a model file is missing, corrupt or refused
├── ConfigError          config.toml cannot be used as it is
├── JournalError         the journal cannot be opened or written
├── CaptureError         a microphone cannot be opened
└── StateError           a method was called in a state that does not allow it
"""

from typing import ClassVar


class AmanuensisError(Exception):
    """Base of every error raised on purpose; its message says what happened and what to do about it."""


class ProtocolError(AmanuensisError):
    """A peer broke the contract, or cannot be served; the connection is closed with `close_code`."""

    close_code: ClassVar[int] = 4400  # WebSocket close code
    code: ClassVar[str] = "bad_message"  # `error.code` on the wire
    http_status: ClassVar[int] = 400


class BadMessage(ProtocolError):
    """Not JSON, an unknown type or field value, audio before `start`, a bad encoding."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param  # the field of a request that is wrong


class UnknownModel(BadMessage):
    """A model is asked for that is not installed."""

    code = "model_not_found"
    http_status = 404


class UnknownJob(ProtocolError):
    """There is no job of this name, or not any more. HTTP only."""

    code = "unknown_job"
    http_status = 404


class JobCancelled(ProtocolError):
    """Somebody does not want its result any more. HTTP only."""

    code = "cancelled"
    http_status = 409


class UnknownVoice(ProtocolError):
    """Nobody of this name is enrolled, or a speaker's voice is not in memory. HTTP only."""

    code = "unknown_voice"
    http_status = 404


class VoiceExists(ProtocolError):
    """Somebody of this name is enrolled, and replacing the voice was not asked for. HTTP only."""

    code = "voice_exists"
    http_status = 409


class VoicesBroken(ProtocolError):
    """The file of enrolled voices cannot be used as it is. HTTP only."""

    code = "voices_broken"
    http_status = 503


class Unauthorized(ProtocolError):
    """The token or ticket is missing or wrong."""

    close_code = 4401
    code = "unauthorized"
    http_status = 401


class ForbiddenOrigin(ProtocolError):
    """A browser page from an origin that is not allowed."""

    close_code = 4403
    code = "forbidden_origin"
    http_status = 403


class UnknownSession(ProtocolError):
    """No session has this name, or the resume token does not fit it."""

    close_code = 4404
    code = "unknown_session"
    http_status = 404


class TimedOut(ProtocolError):
    """No `start`, or no audio, in time."""

    close_code = 4408
    code = "timeout"
    http_status = 408


class SessionBusy(ProtocolError):
    """The session exists and has a producer."""

    close_code = 4409
    code = "session_busy"
    http_status = 409


class TooLarge(ProtocolError):
    """A frame over `max_frame_bytes`."""

    close_code = 1009
    code = "too_large"
    http_status = 413


class Overloaded(ProtocolError):
    """The measured capacity is taken."""

    close_code = 1013
    code = "overloaded"
    http_status = 503

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s  # seconds after which trying again makes sense


class UploadsFull(Overloaded):
    """As many recordings as are allowed are being transcribed, or wait for it. HTTP only."""

    code = "too_many_uploads"
    http_status = 429


class ModelsFull(Overloaded):
    """As many models as are kept at once are in use, and another one is asked for."""

    code = "too_many_models"


class Restarting(ProtocolError):
    """The daemon is shutting down; resume after it."""

    close_code = 1012
    code = "restarting"
    http_status = 503


class SessionFailed(ProtocolError):
    """The session cannot go on for a reason on the server's side, such as a full disk."""

    close_code = 1011
    code = "session_failed"
    http_status = 500


class AudioError(AmanuensisError):
    """Bytes that are not the audio they were declared to be."""


class ModelError(AmanuensisError):
    """A model file is missing, corrupt or refused."""


class ConfigError(AmanuensisError):
    """config.toml cannot be used as it is."""


class JournalError(AmanuensisError):
    """The journal cannot be opened or written."""


class Unreachable(AmanuensisError):
    """No daemon answers at the address, or the connection to it was lost and could not be had again."""


class CaptureError(AmanuensisError):
    """A microphone cannot be opened."""


class StateError(AmanuensisError):
    """A method was called in a state that does not allow it."""


def internal(error: Exception) -> AmanuensisError:
    """A fault of ours, as a sentence; the traceback is in the log."""
    return AmanuensisError(
        f"An internal error ({type(error).__name__}) stopped this session; the log has it."
    )
