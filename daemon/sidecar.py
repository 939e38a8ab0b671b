"""What is known of work on recordings from one run to the next: how far one has come, and which are done.

Beside the transcripts lies, for a long recording that is under way, `.NAME.amanuensis`, which goes when it is done; and
for all that are done one `.amanuensis.jsonl`. Both are JSON lines that are only added to, so a run that is killed
leaves at most a line that is cut off, which is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from npu.transcripts import Landmark
from streaming.events import Final, Gap, Ledger
from streaming.settings import ResumePoint

DONE = ".amanuensis.jsonl"
_FORMAT = 1  # of both files
_EVENTS: TypeAdapter[tuple[Final | Gap, ...]] = TypeAdapter(tuple[Final | Gap, ...])

Facts = Mapping[str, Any]  # what can be compared: of a file its size and time, of a run its options


def facts_of(path: Path) -> Facts | None:
    """By which a file is known again, {"size", "mtime_ns"}; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return {"size": about.st_size, "mtime_ns": about.st_mtime_ns}


class Sidecar:
    """How far a recording has come."""

    def __init__(self, place: Path, recording: Facts, options: Facts) -> None:
        """place: where its transcripts go, without their suffixes; options: those its text depends on."""
        self.path = place.with_name(f".{place.name}.amanuensis")
        self._header = {"format": _FORMAT, "recording": dict(recording), "options": dict(options)}
        self._going_on = False  # the file is ours, and holds everything so far
        self.steady = True  # the recording may be sought in, by what was seen of it so far

    def read(self) -> Landmark | None:
        """Where an earlier run on the same recording with the same options left off."""
        lines = _lines(self.path)
        header = lines[0] if lines else None
        if header != json.loads(json.dumps(self._header)):
            return None
        events: list[Final | Gap] = []
        resume = None
        try:
            for line in lines[1:]:
                events += _EVENTS.validate_python(line["events"])
                resume = ResumePoint(**{**line["resume"], "ledger": Ledger(**line["resume"]["ledger"])})
                self.steady = bool(line["steady"])
        except (KeyError, TypeError, ValidationError):
            return None
        self._going_on = resume is not None
        return None if resume is None else Landmark(tuple(events), resume)

    def keep(self, landmark: Landmark, steady: bool) -> None:
        """It has come so much further. Where nothing can be written, another run has to begin anew."""
        line = {
            "events": [event.model_dump(mode="json", exclude_none=True) for event in landmark.events],
            "resume": {
                **{name: getattr(landmark.resume, name) for name in ("seq", "utterance", "sample")},
                "ledger": landmark.resume.ledger.model_dump(),
            },
            "steady": steady and self.steady,
        }
        lines = [line] if self._going_on else [self._header, line]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a" if self._going_on else "w", encoding="utf-8") as file:
                file.write("".join(f"\n{json.dumps(each)}\n" for each in lines))
            self._going_on = True
        except OSError:
            return

    def remove(self) -> None:
        """It is done, or is to begin anew."""
        self._going_on = False
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            return  # where it could not be written either


class Marks:
    """Which recordings are done, and what their transcripts were when they were written."""

    def __init__(self) -> None:
        self._known: dict[
            Path, dict[str, dict[str, Any]]
        ] = {}  # by folder: by transcript's name, the last mark

    def ours(self, transcript: Path) -> Facts | None:
        """The mark of a transcript that lies there as it was written: {"recording", "options"}; None: not ours."""
        mark = self._of(transcript.parent).get(transcript.name)
        if mark is None or mark["transcripts"][transcript.name] != facts_of(transcript):
            return None
        return {"recording": mark["recording"], "options": mark["options"]}

    def add(self, transcripts: Sequence[Path], recording: Facts, options: Facts) -> None:
        """They have just been written. Where that cannot be noted, they count as somebody else's from now on."""
        if not transcripts:
            return
        folder = transcripts[0].parent
        mark = {
            "format": _FORMAT,
            "recording": dict(recording),
            "options": dict(options),
            "transcripts": {path.name: facts_of(path) for path in transcripts},
        }
        try:
            with (folder / DONE).open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(mark)}\n")
        except OSError:
            return

    def _of(self, folder: Path) -> dict[str, dict[str, Any]]:
        if folder not in self._known:
            self._known[folder] = known = {}
            for mark in _lines(folder / DONE):
                if isinstance(mark, dict) and mark.get("format") == _FORMAT:
                    known.update(dict.fromkeys(mark["transcripts"], mark))
        return self._known[folder]


def _lines(path: Path) -> list[Any]:
    """What the lines hold. One that was cut off is passed over: whoever wrote the next did not know of it either."""
    found = []
    try:
        for line in path.read_text("utf-8").splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
    except (OSError, ValueError):
        return []
    return found


def comparable(options: Any) -> Any:
    """A dataclass as it comes back from JSON."""
    return json.loads(json.dumps(asdict(options), default=str))
