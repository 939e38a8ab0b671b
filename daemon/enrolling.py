"""What the `voices` commands do: enrol somebody, list who is enrolled, forget somebody."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clients.address import Address
from clients.file import Recording
from clients.inquiry import ask, tell
from daemon.config import Config
from daemon.voice_store import Enrolled, VoiceStore, checked
from npu.embedded import default_cache_dir
from npu.enrolment import Sample, joined, listen, sole
from npu.voiceprint import Voices, load_voices
from streaming.containers import decode_container
from streaming.errors import AudioError, ConfigError, VoiceExists

BLOCK_S = 4.0  # audio decoded at a time


@dataclass(frozen=True)
class Person:
    """Who is to be enrolled, and what need not be asked."""

    name: str
    consented: bool
    replace: bool


def enrol_recordings(person: Person, files: Sequence[Path], config_path: Path | None) -> None:
    """Out of recordings, here. AudioError, ConfigError, BadMessage or VoicesBroken where it cannot be."""
    config = Config.load(config_path)
    store, name = VoiceStore.of(config), checked(person.name)
    recordings = [Recording(file) for file in files]  # all of them first: the last one may be misspelled
    replace = store.find(name) is not None
    if replace:
        _ask_to_replace(person, name)
    consent = _ask_for_consent(person, name)
    remarks = Console(stderr=True, highlight=False)
    with remarks.status("Loading the voice models") as status:
        voices = load_voices(config.model.cache_path or default_cache_dir(remarks.out))
        heard = []
        for recording in recordings:
            status.update(Text(f"Listening to {recording.path}"))
            heard.append(_listen(recording, voices))
        sample = joined(heard)
    store.add(Enrolled.of(name, sample.voiceprint, sample.seconds, time.time(), consent), replace)
    _say(
        f"“{name}” is enrolled with {sample.seconds:.1f} s of speech, in {store.path}. "
        "A daemon that keeps its journal there recognises the voice from now on."
    )


def enrol_speaker(person: Person, session: str, speaker: str, url: str, token: str | None) -> None:
    """Out of a session in the memory of a daemon. Unreachable, or what the daemon refuses with."""
    address, name = Address.parse(url), checked(person.name)
    _ask_for_consent(person, name)
    wanted = {"name": name, "session": session, "speaker": speaker, "consent": True}
    try:
        answer = _enrol_there(address, {**wanted, "replace": person.replace}, token)
    except VoiceExists:
        _ask_to_replace(person, name)
        answer = _enrol_there(address, {**wanted, "replace": True}, token)
    _say(
        f"“{name}” is enrolled with {answer['seconds']:.1f} s of speech by {speaker} in the session {session}. "
        f"The daemon at {address.http} recognises the voice from now on."
    )


def show(url: str | None, token: str | None, config_path: Path | None) -> None:
    """The people enrolled here, or with a daemon, as a table."""
    if url is None:
        store = VoiceStore.of(Config.load(config_path))
        where = str(store.path)
        voices = [{**voice.model_dump(), "usable": voice.usable} for voice in store.voices()]
    else:
        address = Address.parse(url)
        where = address.http
        voices = json.loads(ask(address, f"{where}/v1/voices", token))["voices"]
    if not voices:
        _say(f"Nobody is enrolled ({where}). Enrol somebody: amanuensis voices enroll NAME FILE")
        return
    table = Table("Name", "Speech", "Enrolled", "Consent", box=None, pad_edge=False)
    for voice in voices:
        table.add_row(
            Text(voice["name"]),
            f"{voice['seconds']:.1f} s",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(voice["enrolled"])),
            Text(
                voice["consent"]
                if voice["usable"]
                else f"not used: made by {voice['model']}; enrol this voice again"
            ),
        )
    Console(highlight=False).print(table)


def forget(name: str, url: str | None, token: str | None, config_path: Path | None) -> None:
    """Nobody is recognised by this name any more, here or with a daemon; UnknownVoice where nobody was."""
    name = checked(name)
    if url is None:
        store = VoiceStore.of(Config.load(config_path))
        store.remove(name)
        where = str(store.path)
    else:
        address = Address.parse(url)
        tell(address, f"{address.http}/v1/voices/{quote(name, safe='')}", "DELETE", token=token)
        where = address.http
    _say(
        f"The voice of “{name}” is removed from {where}. Transcripts keep the name where it was written; "
        "to change those, edit or delete the sessions."
    )


def _listen(recording: Recording, voices: Voices) -> Sample:
    try:
        with recording.path.open("rb") as file:
            return sole(listen(voices, decode_container(file, BLOCK_S)))
    except AudioError as error:
        raise AudioError(f"{recording.path}: {error}") from error


def _enrol_there(address: Address, wanted: Mapping[str, object], token: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(tell(address, f"{address.http}/v1/voices", "POST", wanted, token))
    return answer


def _ask_for_consent(person: Person, name: str) -> str:
    """How the consent is noted; ConfigError where there is none, or nobody to ask."""
    if person.consented:
        return "stated with --consent"
    question = f"A voiceprint says who somebody is. Does {name} agree that it is stored and used for that?"
    _confirm(
        question,
        nobody=f"There is no terminal to ask in whether {name} agrees. If so, say it with --consent",
        no="Nobody is enrolled without their consent; nothing was stored.",
    )
    return "confirmed at a terminal"


def _ask_to_replace(person: Person, name: str) -> None:
    if not person.replace:
        _confirm(
            f"“{name}” is enrolled already. Replace that voice?",
            nobody=f"“{name}” is enrolled already. To replace that voice, say --yes",
            no=f"The voice of “{name}” stays as it was.",
        )


def _confirm(question: str, nobody: str, no: str) -> None:
    """Returns on yes; ConfigError says `nobody` without a terminal, `no` on no."""
    if not sys.stdin.isatty():
        raise ConfigError(nobody)
    if not typer.confirm(question, err=True):
        raise ConfigError(no)


def _say(sentence: str) -> None:
    Console(highlight=False, soft_wrap=True).print(Text(sentence))
