"""The voices of people who agreed to be recognised: one file beside the journal, for its owner's eyes only."""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from daemon.config import Config
from npu.enrolment import MODEL
from streaming.errors import BadMessage, UnknownVoice, VoiceExists, VoicesBroken
from streaming.listening import VOICEPRINT
from streaming.recognition import KnownVoice
from streaming.voices import Voiceprint

try:
    import fcntl
except ImportError:  # Windows: of two changes at the same moment the later one stays
    fcntl = None  # type: ignore[assignment]

FILE_NAME = "voices.json"
LONGEST_NAME = 100  # characters
_FLOAT = np.dtype("<f4")


class Enrolled(BaseModel):
    """A person who can be recognised."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    model: str  # that made the voiceprint; others cannot be compared with it
    voiceprint: Annotated[str, Field(repr=False)]  # base64 of VOICEPRINT float32, little-endian
    seconds: float  # of speech behind it
    enrolled: float  # unix seconds
    consent: str  # how it was noted

    @field_validator("voiceprint")
    @classmethod
    def _whole(cls, text: str) -> str:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), _FLOAT)
        if len(numbers) != VOICEPRINT or not np.isfinite(numbers).all() or not numbers.any():
            raise ValueError("is no voiceprint")
        return text

    @classmethod
    def of(cls, name: str, voiceprint: Voiceprint, seconds: float, enrolled: float, consent: str) -> Enrolled:
        """voiceprint: [VOICEPRINT], made by this version's model."""
        text = base64.b64encode(voiceprint.astype(_FLOAT).tobytes()).decode()
        return cls(
            name=name,
            model=MODEL,
            voiceprint=text,
            seconds=round(seconds, 1),
            enrolled=enrolled,
            consent=consent,
        )

    @property
    def vector(self) -> Voiceprint:
        """The voiceprint [VOICEPRINT]."""
        return np.frombuffer(base64.b64decode(self.voiceprint), _FLOAT).astype(np.float32)

    @property
    def usable(self) -> bool:
        """It can be compared with what this version's model makes of voices."""
        return self.model == MODEL


class _Contents(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amanuensis_voices: Literal[1] = 1  # marks the file as ours, and its format
    voices: tuple[Enrolled, ...] = ()


class VoiceStore:
    """The file, read anew when somebody has changed it. VoicesBroken where it cannot be used."""

    def __init__(self, path: Path) -> None:
        """path: of the file, which need not exist."""
        self.path = path
        self._seen: tuple[int, ...] | None = None  # what tells one state of the file from another
        self._voices: tuple[Enrolled, ...] = ()

    @classmethod
    def of(cls, config: Config) -> VoiceStore:
        """The one that belongs to a configuration's journal."""
        return cls(config.journal.resolved().with_name(FILE_NAME))

    def voices(self) -> tuple[Enrolled, ...]:
        """Everybody enrolled, in order of enrolment."""
        state = self._state()
        if state != self._seen:
            self._voices = self._read() if state else ()
            self._seen = state
        return self._voices

    def known(self) -> tuple[KnownVoice, ...]:
        """Names and voiceprints to recognise speakers by."""
        return tuple((voice.name, voice.vector) for voice in self.voices() if voice.usable)

    def find(self, name: str) -> Enrolled | None:
        """Who is enrolled by a name."""
        return next((voice for voice in self.voices() if voice.name == name), None)

    def add(self, voice: Enrolled, replace: bool = False) -> None:
        """Enrols somebody; VoiceExists where the name is taken and is not to be replaced."""

        def change(voices: tuple[Enrolled, ...]) -> tuple[Enrolled, ...]:
            others = tuple(each for each in voices if each.name != voice.name)
            if len(others) < len(voices) and not replace:
                raise VoiceExists(
                    f"“{voice.name}” is enrolled already; say that the voice is to be replaced, or remove it first."
                )
            return (*others, voice)

        self._change(change)

    def remove(self, name: str) -> None:
        """Forgets somebody; UnknownVoice where nobody has that name."""

        def change(voices: tuple[Enrolled, ...]) -> tuple[Enrolled, ...]:
            others = tuple(each for each in voices if each.name != name)
            if len(others) == len(voices):
                raise UnknownVoice(f"Nobody is enrolled as “{name}”. Those who are: amanuensis voices list")
            return others

        self._change(change)

    def _change(self, change: Callable[[tuple[Enrolled, ...]], tuple[Enrolled, ...]]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _alone(self.path.parent):
                self._write(_Contents(voices=change(self.voices())))
        except OSError as error:
            raise VoicesBroken(
                f"The voices cannot be written to {self.path} ({error.strerror}); check the folder's permissions "
                "and the space on its disk."
            ) from error

    def _write(self, contents: _Contents) -> None:
        """All of it or nothing."""
        handle, name = tempfile.mkstemp(prefix=f".{FILE_NAME}.", dir=self.path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(contents.model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _state(self) -> tuple[int, ...] | None:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._broken(error.strerror or "it is out of reach") from error
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> tuple[Enrolled, ...]:
        try:
            return _Contents.model_validate_json(self.path.read_bytes()).voices
        except OSError as error:
            raise self._broken(error.strerror or "it cannot be read") from error
        except ValidationError as error:  # what it says quotes the file, which is nobody's business
            raise self._broken("it is damaged, or another program's") from error

    def _broken(self, why: str) -> VoicesBroken:
        return VoicesBroken(
            f"{self.path} cannot be used ({why}), so nobody is recognised; restore the file, or remove it and "
            "enrol the voices again."
        )


def checked(name: str) -> str:
    """A name as it is kept; BadMessage where it cannot be one."""
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise BadMessage(f"name: it must have 1 to {LONGEST_NAME} characters, all of them printable.")
    return name


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
