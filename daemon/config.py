"""Configuration: frozen sections that refuse unknown keys. The docstrings here are the comments of config.toml."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from daemon.journal_file import Durability
from daemon.log import Level
from daemon.model_section import Model
from daemon.section import Positive, Section
from daemon.upload_limits import UploadLimits
from streaming.endpoint import EndpointSettings
from streaming.errors import ConfigError
from streaming.pauses import CutSettings
from streaming.protocol import SESSION_NAME, AudioFormat
from streaming.settings import SessionSettings
from streaming.vad import VadSettings

BACKLOG_MARGIN_S = 5.0
RawEncoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]


class Server(Section):
    """Where the daemon listens, and what it takes from those who send audio."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but a loopback address should come with [auth] tokens."""

    port: int = Field(default=9004, ge=0, le=65_535)
    """TCP port of HTTP and WebSocket; 0 takes a free one and logs which."""

    allowed_origins: tuple[str, ...] = ()
    """Origins of browser pages, besides the daemon's own, that may use it ("https://captions.example")."""

    max_frame_bytes: int = Field(default=1 << 20, ge=1_024)
    """Largest WebSocket frame taken; a larger one closes the connection with 1009."""

    start_timeout_s: Positive = 10.0
    """A producer that says no `start` for this long is closed with 4408."""

    idle_timeout_s: Positive = 60.0
    """A producer that sends no audio for this long is closed with 4408; its session can be resumed."""

    resume_window_s: Positive = 60.0
    """How long a session waits for its producer to come back before it is finished."""

    max_backlog_s: Positive = 30.0
    """Undecided speech beyond which a socket is no longer read, and a microphone loses audio to a gap."""

    shutdown_s: Positive = 5.0
    """How long a shutdown waits for speech in progress to be decided."""


class Auth(Section):
    """Who may use the daemon."""

    tokens: tuple[str, ...] = ()
    """Secrets, any of which admits; with none, everyone who reaches the port is admitted."""


class Engine(Section):
    """How the work is spread over the machine."""

    workers: int = Field(default=0, ge=0, le=256)
    """Threads that run the model, one core each; 0 means as many as start-up finds useful, one a core at most."""

    capacity: int = Field(default=0, ge=0)
    """Sessions at once; the next one is refused as overloaded. 0 means as many as start-up measured."""

    step_s: Positive = 0.25
    """Shortest distance of two partials of an utterance while the machine is idle."""

    max_step_s: Positive = 1.5
    """What load may stretch that distance to."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_step_s < self.step_s:
            raise ValueError("max_step_s must not be below step_s")
        return self


class SpeechSection(Section):
    """What counts as speech, and where utterances begin and end."""

    silero: bool = True
    """Ask Silero about frames that the WebRTC gate lets through. Without it more noise becomes speech."""

    gate_mode: int = Field(default=VadSettings.gate_mode, ge=0, le=3)
    """WebRTC aggressiveness: 0 lets most through, 3 least."""

    floor_dbfs: float = Field(default=VadSettings.floor_dbfs, ge=-120, le=0)
    """Frames below this level are silence, whatever they sound like."""

    on: float = Field(default=VadSettings.on, gt=0, lt=1)
    """Silero's probability from which speech begins."""

    off: float = Field(default=VadSettings.off, gt=0, lt=1)
    """Silero's probability below which speech ends."""

    onset_s: Positive = EndpointSettings.onset_s
    """Speech for this long begins an utterance."""

    pre_roll_s: float = Field(default=EndpointSettings.pre_roll_s, ge=0, le=2)
    """Audio kept from before the onset."""

    hang_over_s: float = Field(default=EndpointSettings.hang_over_s, ge=0.09, le=5)
    """Quiet for this long ends an utterance."""

    tail_s: float = Field(default=EndpointSettings.tail_s, ge=0, le=2)
    """Audio kept after the last frame of speech."""

    min_speech_s: float = Field(default=EndpointSettings.min_speech_s, ge=0, le=2)
    """An utterance with less speech than this is none."""

    first_partial_s: Positive = SessionSettings.first_partial_s
    """Speech before the first partial is asked for."""

    step_growth: float = Field(default=SessionSettings.step_growth, ge=0, le=2)
    """Partials of an utterance of length L come at least this times L apart ..."""

    longest_step_s: Positive = SessionSettings.longest_step_s
    """... but no more than this, unless the machine is busy."""

    early_s: float = Field(default=SessionSettings.early_s, ge=0.03, le=2)
    """Quiet after which the final is computed; it is shown when the hang-over is over."""

    pause_s: float = Field(default=SessionSettings.pause_s, ge=0, le=2)
    """Quiet from which no partial is asked for: a final will come, or more speech."""

    agreement_s: Positive = SessionSettings.agreement_s
    """Words are committed on which all hypotheses over this much more audio agree."""

    max_failures: int = Field(default=SessionSettings.max_failures, ge=1, le=10)
    """Decodings that may fail before their audio becomes a gap."""

    soft_window_s: float = Field(default=CutSettings.soft_window_s, ge=2, le=30)
    """From this length on, a clear pause cuts an utterance."""

    max_window_s: float = Field(default=CutSettings.max_window_s, ge=3, le=30)
    """At this length an utterance is cut at the best place there is."""

    overlap_s: float = Field(default=CutSettings.overlap_s, ge=0.2, le=3)
    """Audio that both sides of a cut hear."""

    pause_db: Positive = CutSettings.pause_db
    """How far under the utterance's usual level a clear pause lies."""

    def vad(self) -> VadSettings:
        """As the detector takes it."""
        return VadSettings(**self._named(VadSettings))

    def session(self) -> SessionSettings:
        """As the core takes it."""
        return SessionSettings(
            **self._named(SessionSettings),
            endpoint=EndpointSettings(**self._named(EndpointSettings)),
            cuts=CutSettings(**self._named(CutSettings)),
        )

    def _named(self, settings: type[Any]) -> dict[str, Any]:
        """Those of our values that a dataclass has a field for."""
        names = (field.name for field in dataclasses.fields(settings))
        return {name: getattr(self, name) for name in names if name in type(self).model_fields}


class Speakers(Section):
    """Who said what."""

    label: bool = True
    """Label speakers in sessions that do not say whether they want it."""

    settle_after_s: float = Field(default=30.0, ge=5, le=600)
    """A label is not revised once this much more audio has been heard."""

    recognise: bool = True
    """Label voices that were enrolled (`amanuensis voices enroll`) by name."""


class JournalSection(Section):
    """Where finished text is kept."""

    path: str = ""
    """The journal's file; empty means journal.db in the state directory of the service or user."""

    durability: Durability = "normal"
    """"normal" survives a killed daemon; "full" also survives loss of power, at an fsync for each final."""

    def resolved(self) -> Path:
        """The file."""
        if self.path:
            return Path(self.path).expanduser()
        state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]  # set by systemd
        if state:
            return Path(state) / "journal.db"
        base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return Path(base).expanduser() / "amanuensis" / "journal.db"


class Viewers(Section):
    """Those who watch."""

    queue_size: int = Field(default=256, ge=8)
    """Events kept for a viewer that reads slowly; when full, partials go first, then the viewer."""


class Log(Section):
    """What the daemon says about itself."""

    level: Level = "info"
    """"debug", "info", "warning" or "error". Text and audio of sessions never appear."""


class Capture(Section):
    """A microphone of this machine, transcribed for as long as the daemon runs. One block for each."""

    device: str = ""
    """Name of the device or a part of it; empty means the system's default."""

    session: str = Field(default="microphone", pattern=SESSION_NAME)
    """Name of its session; the same one goes on after a restart."""

    language: str | None = Field(default=None, max_length=16)
    """Language spoken, as a code ("en"); the model's own when absent."""


class RawSocket(Section):
    """A socket that takes raw PCM without any protocol. Each connection is a session. One block for each."""

    listen: str = Field(default="127.0.0.1:9005", min_length=1)
    """"host:port", or the path of a Unix socket."""

    encoding: RawEncoding = "pcm_s16le"
    """Encoding of the samples."""

    sample_rate: int = Field(default=16_000, ge=8_000, le=192_000)
    """Samples a second."""

    channels: int = Field(default=1, ge=1, le=8)
    """Interleaved channels; they are mixed."""

    session: str = Field(default="socket", pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    """First part of the sessions' names; date, time and a number follow."""

    @property
    def audio(self) -> AudioFormat:
        """How its bytes are to be read."""
        return AudioFormat(encoding=self.encoding, sample_rate=self.sample_rate, channels=self.channels)


class Config(Section):
    """Amanuensis reads this file from ~/.config/amanuensis/config.toml, or from where --config says.

    Every key is optional and stands here with its default.
    """

    server: Server = Server()
    auth: Auth = Auth()
    model: Model = Model()
    engine: Engine = Engine()
    speech: SpeechSection = SpeechSection()
    speakers: Speakers = Speakers()
    journal: JournalSection = JournalSection()
    viewers: Viewers = Viewers()
    uploads: UploadLimits = UploadLimits()
    log: Log = Log()
    capture: tuple[Capture, ...] = ()
    socket: tuple[RawSocket, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        # An open utterance is undecided: a session that may hold no more than it would never be read again.
        if self.server.max_backlog_s < self.speech.max_window_s + BACKLOG_MARGIN_S:
            raise ValueError(
                f"server.max_backlog_s must be at least {BACKLOG_MARGIN_S:g} s above speech.max_window_s"
            )
        if self.speech.off > self.speech.on:
            raise ValueError("speech.off must not be above speech.on")
        return self

    @classmethod
    def load(cls, path: Path | None = None, **overrides: Any) -> Config:
        """The file, or the user's own if there is one, with overrides on top; ConfigError names the key.

        An override is a section (`server={"port": 0}`) or one of `host`, `port`, `model`, `device`; None is
        no override.
        """
        values = _read(path)
        for name, value in overrides.items():
            if value is None:
                continue
            section, change = (name, value) if isinstance(value, Mapping) else _short(name, value)
            values[section] = {**values.get(section, {}), **change} if isinstance(change, Mapping) else change
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_explain(error, path or default_path())) from error


_SHORT = {
    "host": ("server", "host"),
    "port": ("server", "port"),
    "model": ("model", "name"),
    "device": ("model", "device"),
}


def default_path() -> Path:
    """Where a user's configuration lies."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "amanuensis" / "config.toml"


def _short(name: str, value: object) -> tuple[str, object]:
    if name in _SHORT:
        section, key = _SHORT[name]
        return section, {key: value}
    return name, value


def _read(path: Path | None) -> dict[str, Any]:
    chosen = path or default_path()
    try:
        return tomllib.loads(chosen.read_text("utf-8"))
    except FileNotFoundError as error:
        if path is None:
            return {}
        raise ConfigError(f"{path} does not exist; name a file that does, or leave --config out.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{chosen} cannot be read ({error}); check the file and its permissions."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{chosen} is not TOML: {error}. Correct the line or remove it.") from error


def _explain(error: ValidationError, path: Path) -> str:
    """The first thing wrong with a configuration, and what to do about it."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if not where:
        return f"{path}: {first['msg'].removeprefix('Value error, ')}."
    if first["type"] == "value_error":
        return f"{path}: [{where}] {first['msg'].removeprefix('Value error, ')}."
    if first["type"] != "extra_forbidden":
        return f"{path}: {where} = {first['input']!r}: {first['msg']}. Correct or remove the key."
    known = _known(first["loc"][:-1])
    near = difflib.get_close_matches(str(first["loc"][-1]), known, 1)
    hint = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}."
    return f"{path}: there is no key {where}. {hint}"


def _known(loc: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for part in loc:
        if isinstance(part, str):
            section = LISTS.get(part) or type(getattr(Config(), part))
    return list(section.model_fields)


LISTS: dict[str, type[Section]] = {"capture": Capture, "socket": RawSocket}
