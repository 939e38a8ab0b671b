"""Recordings with known turns of speakers, and the scores of turns that were found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from clips import SAMPLE_RATE, SHARED, read
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate

COLLARS = {"der": 0.0, "der_collar_0.25": 0.5}  # pyannote.metrics counts both sides of a border


@dataclass(frozen=True, eq=False)
class Meeting:
    """A recording whose turns are known."""

    name: str
    group: str  # scored together
    samples: NDArray[np.float32]  # [n] at 16 kHz
    truth: Annotation
    word_ends: tuple[float, ...]  # seconds; estimated within an utterance by its letters, empty where unknown

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @property
    def starts(self) -> list[float]:
        """Where turns start, seconds."""
        return sorted(segment.start for segment, _ in self.truth.itertracks())


@dataclass(frozen=True)
class Stretch:
    """A turn that was found, seconds."""

    start: float
    end: float
    speaker: int


def meetings() -> list[Meeting]:
    """The meeting, and the excerpts of the evaluation set with turns, where they lie beside the project."""
    found = []
    for rttm in [*sorted(SHARED.glob("meetings/*.rttm")), *sorted(SHARED.glob("evalset/rttm/*.rttm"))]:
        name = rttm.stem
        audio = next(
            (
                path
                for path in (rttm.with_suffix(".flac"), rttm.parents[1] / f"{name}.flac")
                if path.is_file()
            ),
            None,
        )
        if audio is not None:
            group = "ami" if name.startswith("ami_") else name
            found.append(
                Meeting(name, group, read(audio), _turns(rttm), _word_ends(rttm.with_suffix(".json")))
            )
    if not found:
        raise SystemExit(
            f"No recordings with turns in {SHARED.name}: set AMANUENSIS_SHARED to the folder that has them."
        )
    return found


def _turns(rttm: Path) -> Annotation:
    truth = Annotation()
    for line in rttm.read_text().splitlines():
        _, _, _, start, length, _, _, speaker, *_ = line.split()
        truth[Segment(float(start), float(start) + float(length)), len(truth)] = speaker
    return truth


def _word_ends(path: Path) -> tuple[float, ...]:
    if not path.is_file():
        return ()
    ends = []
    for utterance in json.loads(path.read_text()):
        words = utterance["words"].split()
        letters = np.cumsum([len(word) + 1 for word in words])
        start, length = utterance["start_time"], utterance["end_time"] - utterance["start_time"]
        ends += (start + length * letters / letters[-1]).tolist()
    return tuple(ends)


def score(pairs: Sequence[tuple[Meeting, Sequence[Stretch]]]) -> dict[str, Any]:
    """Error rates of several recordings together, overlapping speech scored; counts of speakers one by one."""
    jaccard = JaccardErrorRate(collar=0.0)
    rates = {name: DiarizationErrorRate(collar=collar) for name, collar in COLLARS.items()}
    parts: dict[str, dict[str, float]] = {name: {} for name in COLLARS}
    counts = {}
    for meeting, turns in pairs:
        found, whole = Annotation(), Timeline([Segment(0.0, meeting.seconds)])
        for turn in turns:
            found[Segment(turn.start, turn.end), len(found)] = f"speaker {turn.speaker}"
        for name, rate in rates.items():
            for part, value in rate(meeting.truth, found, uem=whole, detailed=True).items():
                parts[name][part] = parts[name].get(part, 0.0) + float(value)
        jaccard(meeting.truth, found, uem=whole)
        counts[meeting.name] = {"true": len(meeting.truth.labels()), "found": len(found.labels())}
    result: dict[str, Any] = {name: abs(rate) for name, rate in rates.items()}
    collared = parts["der_collar_0.25"]
    for part in ("missed detection", "false alarm", "confusion"):
        result[f"{part.replace(' ', '_')}_collar_0.25"] = collared[part] / collared["total"]
    return {**result, "jer": abs(jaccard), "speakers": counts}


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Median and 90th percentile."""
    return {f"p{p}": float(np.percentile(values, p)) for p in (50, 90)} if len(values) else None
