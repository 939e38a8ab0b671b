"""Where the transcripts of recordings go: which files, in which formats, written completely or not at all."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from daemon.media import Recording
from npu.transcripts import Transcript
from streaming.errors import ConfigError
from streaming.transcript import to_md, to_srt, to_txt, to_vtt

Export = Callable[[str, Transcript, bool], str]  # title, transcript, with word times?

EXPORTS: dict[str, Export] = {
    "txt": lambda title, transcript, _: to_txt(title, transcript.utterances, live=False),
    "srt": lambda title, transcript, _: to_srt(title, transcript.utterances, live=False),
    "vtt": lambda title, transcript, _: to_vtt(title, transcript.utterances, live=False),
    "json": lambda _, transcript, words: (
        json.dumps(transcript.summary(words), ensure_ascii=False, indent=1) + "\n"
    ),
    "md": lambda title, transcript, _: to_md(title, transcript.utterances, live=False),
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

    def __init__(
        self, recordings: Sequence[Recording], kinds: Sequence[str], folder: Path | None, words: bool
    ) -> None:
        """folder: None writes beside each recording."""
        self._kinds = kinds
        self._words = words
        places = [self._place(recording, folder) for recording in recordings]
        stems = Counter(place.with_suffix("") for place in places)
        self._places = {
            recording: place if stems[place.with_suffix("")] > 1 else place.with_suffix("")
            for recording, place in zip(recordings, places, strict=True)
        }

    @staticmethod
    def _place(recording: Recording, folder: Path | None) -> Path:
        """The recording's own name in the folder where its transcripts go."""
        if folder is not None:
            return folder / recording.below / recording.file_name
        return Path(recording.file_name) if recording.path is None else recording.path

    def of(self, recording: Recording) -> list[Path]:
        """Where its transcripts go; two recordings that differ only in their suffixes keep these in the names."""
        place = self._places[recording]
        return [place.with_name(f"{place.name}.{kind}") for kind in self._kinds]

    def write(self, recording: Recording, transcript: Transcript) -> list[Path]:
        """Writes them all -> where. ConfigError when one cannot be written."""
        targets = self.of(recording)
        for kind, target in zip(self._kinds, targets, strict=True):
            write_text(target, EXPORTS[kind](recording.file_name, transcript, self._words))
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
            f"{target} cannot be written ({error.strerror}); name another folder with --output-dir."
        ) from error
