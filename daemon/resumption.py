"""How a run over recordings goes on where another one ended: what it leaves out, and where it begins in the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon.media import Reading, Recording, printable
from daemon.outputs import Outputs
from daemon.sidecar import Facts, Marks, Sidecar, facts_of
from npu.recordings import Source, reading_from
from npu.transcripts import Landmark, Landmarks
from streaming.window import SAMPLE_RATE


class Resumption(Landmarks):
    """What is known of each recording from runs before, and is noted for runs to come."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        outputs: Outputs | None,
        options: dict[str, Any],
        whole: bool,
        overwrite: bool,
    ) -> None:
        """outputs: None where the transcript is printed, and nothing is noted. whole: all of the audio is needed,
        wherever the text goes on. overwrite: nothing of other runs counts.
        """
        self._outputs = outputs
        self._options = options
        self._whole = whole
        self._overwrite = overwrite
        self._marks = Marks()
        self._facts = {each.name: facts for each in recordings if (facts := _identity(each)) is not None}
        self._sidecars: dict[str, Sidecar] = {}
        if outputs is not None:
            for each in recordings:
                if each.name in self._facts:
                    place = outputs.place(each)
                    self._sidecars[each.name] = Sidecar(place, self._facts[each.name], options)
        self._begun: dict[str, Landmark] = {}
        self._readings: dict[str, Reading] = {}

    def left_out(self, recording: Recording) -> str | None:
        """Why it need not be transcribed, or None. Transcripts that are not ours, or were changed since, are kept."""
        if self._outputs is None or self._overwrite:
            return None
        targets = self._outputs.of(recording)
        there = [target for target in targets if target.exists()]
        if not there:
            return None
        marks = [self._marks.ours(target) for target in there]
        if None in marks:
            begun = self._sidecars.get(recording.name)  # its transcripts were being written
            if begun is not None and begun.read() is not None:
                return None
            return f"left out, {together(there)} exists; --overwrite replaces it."
        same = {"recording": self._facts.get(recording.name), "options": self._options}
        if len(there) < len(targets) or any(mark != same for mark in marks):
            return None  # other formats, other options or another recording: what is there was made by this program
        return f"left out, {together(there)} is up to date; --overwrite makes it again."

    def source(self, recording: Recording) -> tuple[Source, float]:
        """Its audio from where it is needed, and the seconds of it that are transcribed."""
        sidecar = self._sidecars.get(recording.name)
        landmark = None
        if sidecar is not None and self._overwrite:
            sidecar.remove()
        elif sidecar is not None:
            landmark = sidecar.read()
        first, seek = 0, True
        if landmark is not None and sidecar is not None:
            self._begun[recording.name] = landmark
            first = 0 if self._whole else reading_from(landmark.resume)
            seek = sidecar.steady
        reading = self._readings[recording.name] = recording.reading(first, seek)
        done_s = landmark.resume.sample / SAMPLE_RATE if landmark else 0.0
        return Source(recording.name, reading, None, first), done_s

    def begun(self, name: str) -> Landmark | None:
        return self._begun.get(name)

    def reached(self, name: str, landmark: Landmark) -> None:
        if (sidecar := self._sidecars.get(name)) is not None:
            sidecar.keep(landmark, self._readings[name].steady)

    def done(self, recording: Recording, written: Sequence[Path]) -> None:
        """Its transcripts lie there now."""
        if (sidecar := self._sidecars.get(recording.name)) is not None:
            self._marks.add(written, self._facts[recording.name], self._options)
            sidecar.remove()


def _identity(recording: Recording) -> Facts | None:
    """None where it can be read once only."""
    if recording.path is None or not recording.path.is_file():
        return None
    return facts_of(recording.path)


def together(files: Sequence[Path]) -> str:
    """Files that differ in their suffixes alone, as a shell would take them: talk.{txt,srt}."""
    if len(files) < 2:
        return "".join(printable(str(file)) for file in files)
    stem = printable(str(files[0].with_suffix("")))
    return f"{stem}.{{{','.join(file.suffix.removeprefix('.') for file in files)}}}"
