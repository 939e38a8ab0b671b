"""The file of known voices: what is in it, who may read it, and what happens when it is no good."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from daemon.config import Config
from daemon.voice_store import Enrolled, VoiceStore, checked
from streaming.errors import BadMessage, UnknownVoice, VoiceExists, VoicesBroken
from streaming.listening import VOICEPRINT


def person(name: str, axis: int = 0) -> Enrolled:
    """With a voiceprint of their own."""
    return Enrolled.of(name, np.eye(VOICEPRINT, dtype=np.float32)[axis], 7.25, 1_000.0, "stated")


@pytest.fixture
def store(tmp_path: Path) -> VoiceStore:
    """Its file is not there yet, nor the folder."""
    return VoiceStore(tmp_path / "state" / "voices.json")


def test_it_lies_beside_the_journal(tmp_path: Path) -> None:
    """Wherever that is."""
    config = Config.model_validate({"journal": {"path": str(tmp_path / "j.db")}})
    assert VoiceStore.of(config).path == tmp_path / "voices.json"


def test_what_was_enrolled_is_there_again(store: VoiceStore) -> None:
    """For whoever opens the file: the voiceprint to the bit, and how consent was noted."""
    assert store.voices() == () and store.known() == ()
    voiceprint = np.random.default_rng(1).standard_normal(VOICEPRINT).astype(np.float32)
    store.add(Enrolled.of("Anna", voiceprint, 7.25, 1_000.0, "confirmed"))
    (anna,) = VoiceStore(store.path).voices()
    assert (anna.name, anna.seconds, anna.enrolled, anna.consent) == ("Anna", 7.2, 1_000.0, "confirmed")
    assert anna.model == "pyannote community-1" and anna.usable
    ((name, vector),) = store.known()
    assert name == "Anna" and vector.dtype == np.float32 and (vector == voiceprint).all()


def test_only_its_owner_may_read_it(store: VoiceStore) -> None:
    """After every change."""
    for name in ("Anna", "Bert"):
        store.add(person(name))
        assert store.path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_left_beside_it(store: VoiceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that fails half-way leaves the file as it was."""
    store.add(person("Anna"))
    before = store.path.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VoicesBroken, match="No space left"):
        store.add(person("Bert"))
    assert store.path.read_bytes() == before and list(store.path.parent.iterdir()) == [store.path]


def test_a_name_that_is_taken(store: VoiceStore) -> None:
    """Is refused, or replaced where that is asked for."""
    store.add(person("Anna", 0))
    with pytest.raises(VoiceExists, match="Anna"):
        store.add(person("Anna", 1))
    store.add(person("Anna", 1), replace=True)
    ((_, vector),) = store.known()
    assert vector[1] == 1.0


def test_removal(store: VoiceStore) -> None:
    """Leaves nothing of the person in the file; somebody who is not there cannot be removed."""
    store.add(person("Anna"))
    store.add(person("Bert"))
    store.remove("Anna")
    assert [voice.name for voice in store.voices()] == ["Bert"]
    assert "Anna" not in store.path.read_text()
    with pytest.raises(UnknownVoice, match="Anna"):
        store.remove("Anna")


def test_another_process_changes_it(store: VoiceStore) -> None:
    """The next look sees it; between changes the file is not read again."""
    store.add(person("Anna"))
    seen = store.voices()
    assert store.voices() is seen
    VoiceStore(store.path).add(person("Bert"))
    assert [voice.name for voice in store.voices()] == ["Anna", "Bert"]
    store.path.unlink()
    assert store.voices() == ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"voices": [{"name": "Anna"}]}',
        b'{"amanuensis_voices": 2, "voices": []}',
        json.dumps(
            {"voices": [{**person("Anna").model_dump(), "voiceprint": "AAAA"}], "amanuensis_voices": 1}
        ).encode(),
    ],
)
def test_a_file_that_is_no_good(store: VoiceStore, content: bytes) -> None:
    """Is one sentence with its path and the remedy, quotes nothing, and is never overwritten."""
    store.path.parent.mkdir()
    store.path.write_bytes(content)
    for attempt in (store.voices, lambda: store.add(person("Bert")), lambda: store.remove("Anna")):
        with pytest.raises(VoicesBroken) as caught:
            attempt()
        assert str(store.path) in str(caught.value) and "remove it" in str(caught.value)
        assert "Anna" not in str(caught.value) and "\n" not in str(caught.value)
    assert store.path.read_bytes() == content


def test_a_voice_of_another_model(store: VoiceStore) -> None:
    """Is listed, and not compared with."""
    store.add(person("Anna").model_copy(update={"model": "another"}))
    assert not store.voices()[0].usable and store.known() == ()


def test_names() -> None:
    """Are kept without what cannot be seen of them."""
    assert checked("  Anna \n Bell ") == "Anna Bell"
    assert checked("e\u0301") == "é" and checked("x" * 100) == "x" * 100
    for bad in ("", "  ", "x" * 101, "a\x00b", "a\u202eb"):
        with pytest.raises(BadMessage, match="1 to 100"):
            checked(bad)
