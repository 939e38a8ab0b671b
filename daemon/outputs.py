"""Where the transcripts of recordings go: which files, in which formats, written completely or not at all."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.clock import clock
from daemon.media import Recording, printable
from npu.transcripts import Transcript
from streaming.errors import ConfigError
from streaming.transcript import to_md, to_srt, to_txt, to_vtt


@dataclass(frozen=True)
class Sheet:
    """A transcript, and what is to be known of it."""

    title: str  # the recording's name
    transcript: Transcript
    words: bool = False  # with word times, in formats that have a place for them
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    written: str = ""  # when, ISO 8601


def _json(sheet: Sheet) -> str:
    """Everything there is."""
    transcript = sheet.transcript
    summary = transcript.summary(sheet.words)
    segments = zip(summary["segments"], transcript.utterances, strict=True)
    about = {
        "file": sheet.title,
        "model": sheet.model,
        "options": dict(sheet.options),
        "transcribed": sheet.written,
        **summary,
        "speech": round(transcript.speech_s, 3),
        "segments": [{**segment, "language": line.language} for segment, line in segments],
    }
    return json.dumps(about, ensure_ascii=False, indent=1) + "\n"


def _md(sheet: Sheet) -> str:
    """As a page about the recording."""
    transcript = sheet.transcript
    facts = [
        ("File", sheet.title),
        ("Duration", f"{clock(transcript.duration_s)}, {clock(transcript.speech_s)} of it speech"),
        ("Language", transcript.language),
        ("Speakers", ", ".join(each.name or each.id for each in transcript.speakers)),
        ("Model", sheet.model),
        ("Transcribed", sheet.written.replace("T", " ")),
    ]
    return to_md(sheet.title, transcript.utterances, live=False, facts=[each for each in facts if each[1]])


EXPORTS: dict[str, Callable[[Sheet], str]] = {
    "txt": lambda sheet: to_txt(sheet.title, sheet.transcript.utterances, live=False),
    "srt": lambda sheet: to_srt(sheet.title, sheet.transcript.utterances, live=False),
    "vtt": lambda sheet: to_vtt(sheet.title, sheet.transcript.utterances, live=False, words=sheet.words),
    "json": _json,
    "md": _md,
}
TIMED = ("srt", "vtt")  # formats whose cues are better with word times


def parse_formats(text: str) -> tuple[str, ...]:
    """The kinds in a list with commas, each once; ConfigError names one that is none."""
    kinds = tuple(dict.fromkeys(part.strip().lower().removeprefix(".") for part in text.split(",")))
    for kind in kinds:
        if kind not in EXPORTS:
            raise ConfigError(
                f"“{kind}” is no format. --format takes {', '.join(EXPORTS)}, several with commas."
            )
    return kinds


class Outputs:
    """The files of a run."""

    def __init__(self, recordings: Sequence[Recording], kinds: Sequence[str], folder: Path | None) -> None:
        """folder: None writes beside each recording."""
        self._kinds = kinds
        places = [self._place(recording, folder) for recording in recordings]
        stems = Counter(place.with_suffix("") for place in places)
        self._places: dict[Recording, Path] = {}
        taken: set[Path] = set()
        for recording, whole in zip(recordings, places, strict=True):
            place = whole if stems[whole.with_suffix("")] > 1 else whole.with_suffix("")
            number = 1
            while place in taken:  # of the same name, from another folder
                number += 1
                place = whole.with_name(f"{whole.name}.{number}")
            taken.add(place)
            self._places[recording] = place

    @staticmethod
    def _place(recording: Recording, folder: Path | None) -> Path:
        """The recording's own name in the folder where its transcripts go."""
        if folder is not None:
            return folder / recording.below / recording.file_name
        return Path(recording.file_name) if recording.path is None else recording.path

    def place(self, recording: Recording) -> Path:
        """Where its transcripts go, without their suffixes; those that differ only in their own suffixes keep them."""
        return self._places[recording]

    def of(self, recording: Recording) -> list[Path]:
        """Where its transcripts go."""
        place = self._places[recording]
        return [place.with_name(f"{place.name}.{kind}") for kind in self._kinds]

    def write(self, recording: Recording, sheet: Sheet) -> list[Path]:
        """Writes them all -> where. ConfigError when one cannot be written."""
        targets = self.of(recording)
        for kind, target in zip(self._kinds, targets, strict=True):
            write_text(target, EXPORTS[kind](sheet))
        return targets


def write_text(target: Path, text: str) -> None:
    """A file that is there completely or not at all; ConfigError, in a sentence, when it cannot be."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(text, "utf-8")
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{printable(str(target))} cannot be written ({error.strerror}); name another folder with --output-dir."
        ) from error
