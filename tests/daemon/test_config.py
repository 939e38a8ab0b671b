"""Configuration: refusals that name the key, and a config.toml that says what the code does."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from daemon.config import Capture, Config, RawSocket
from daemon.config_file import render
from streaming.errors import ConfigError
from streaming.settings import SessionSettings
from streaming.vad import VadSettings

ROOT = Path(__file__).parent.parent.parent


def test_the_file_in_the_repository() -> None:
    """Is what the docstrings and defaults give; write it anew with `Path("config.toml").write_text(render())`."""
    assert (ROOT / "config.toml").read_text() == render()
    assert Config.load(ROOT / "config.toml") == Config()


def test_every_key_has_its_documentation() -> None:
    """Each field of each section has a docstring."""
    sections = [type(section) for section in vars(Config()).values() if isinstance(section, BaseModel)]
    for section in (*sections, Capture, RawSocket):
        assert section.__doc__
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


def test_blocks_that_stand_as_comments() -> None:
    """Are good once the comment signs are taken away."""
    text = render()
    start = text.index("# [[capture]]")
    lines = [line.removeprefix("# ") for line in text[start:].splitlines()]
    values = tomllib.loads("\n".join(line for line in lines if line.startswith("[[") or " = " in line))
    config = Config.model_validate(values)
    assert config.capture == (Capture(),) and config.socket == (RawSocket(),)


def test_speech_without_changes() -> None:
    """Is the core's own defaults: they are written down once."""
    assert Config().speech.session() == SessionSettings()
    assert Config().speech.vad() == VadSettings()


def test_every_setting_of_the_core() -> None:
    """Can be configured, under its own name."""
    settings = SessionSettings()
    parts = (settings, settings.endpoint, settings.cuts, VadSettings())
    names = {field.name for part in parts for field in dataclasses.fields(part)} - {"endpoint", "cuts"}
    assert names <= set(type(Config().speech).model_fields)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\nprot = 1", "server.prot. Did you mean port?"),
        ("[sever]\nport = 1", "sever. Did you mean server?"),
        ("[[capture]]\ndevise = 'x'", "Did you mean device?"),
        ("[server]\nport = 'x'", "server.port = 'x'"),
        ("[server]\nport = 70000", "server.port = 70000"),
        ("[[capture]]\nsession = 'a/b'", "capture.0.session"),
        (
            "[server]\nmax_backlog_s = 16",
            "server.max_backlog_s must be at least 5 s above speech.max_window_s",
        ),
        ("[engine]\nstep_s = 2.0", "max_step_s must not be below step_s"),
        ("[model]\nnpu_precision = 'fp8'", "model.npu_precision = 'fp8'"),
        ("[server\nport = 1", "is not TOML"),
        ("\xff\xfe", "TOML"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    """Is a ConfigError that names the file, the key, and what to do."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        Config.load(path)
    assert says in str(error.value) and str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Is a ConfigError when it was named, and nothing when it was not."""
    with pytest.raises(ConfigError, match="does not exist"):
        Config.load(tmp_path / "none.toml")
    assert Config.load() is not None


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """Are a ConfigError too."""
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load(tmp_path / "c.toml")


def test_overrides(tmp_path: Path) -> None:
    """Stand above the file, section by section; None is no override."""
    path = tmp_path / "config.toml"
    path.write_text("[server]\nhost = '::1'\nport = 1\n")
    config = Config.load(path, host=None, port=2, model="tiny", engine={"workers": 3})
    assert (config.server.host, config.server.port) == ("::1", 2)
    assert (config.model.name, config.engine.workers) == ("tiny", 3)


def test_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file under XDG_CONFIG_HOME is read where none is named; the journal lies under the state directory."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "amanuensis").mkdir()
    (tmp_path / "amanuensis" / "config.toml").write_text("[server]\nport = 77\n")
    config = Config.load()
    assert config.server.port == 77
    assert config.journal.resolved() == tmp_path / "state" / "amanuensis" / "journal.db"
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "service"))
    assert config.journal.resolved() == tmp_path / "service" / "journal.db"
