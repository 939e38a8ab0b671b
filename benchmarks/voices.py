"""Who is recognised, when, and who wrongly: people are enrolled from recordings, others are heard as if they were live.

    python benchmarks/voices.py --enrol Nell=nell.wav --enrol Nagg=nagg.wav RECORDING...

One line of JSON a recording: its speakers, and each name that was given or taken, with the second it happened at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from npu.embedded import default_cache_dir
from npu.enrolment import joined, listen, sole
from npu.voiceprint import Voices, load_voices, perform
from streaming.containers import decode_container
from streaming.recognition import KnownVoice, Recognition
from streaming.speakers import Diarizer
from streaming.vad import SpeechDetector
from streaming.window import SAMPLE_RATE

STEP_S = 0.5  # audio that arrives at a time


def blocks(path: Path, seconds: float) -> Iterator[np.ndarray]:
    """A recording's audio [n]."""
    with path.open("rb") as file:
        yield from decode_container(file, seconds)


def heard(path: Path, voices: Voices, known: list[KnownVoice]) -> dict[str, Any]:
    """What becomes of a recording's speakers."""
    diarizer, detector, recognition = Diarizer(), SpeechDetector(None), Recognition(known)
    events: list[dict[str, Any]] = []
    now = 0

    def look(last: bool) -> None:
        while diarizer.demand() is not None:
            job = diarizer.next_job()
            diarizer.receive_heard(job, perform(voices, job))
            for speaker in recognition.review(diarizer.speakers, now, last):
                match = recognition.match(speaker)
                events.append({"at_s": now / SAMPLE_RATE, "speaker": speaker, "is": match})

    for block in blocks(path, STEP_S):
        now += len(block)
        diarizer.receive_audio(block)
        diarizer.receive_verdicts(detector.receive(block))
        look(last=False)
    diarizer.finish()
    look(last=True)
    speakers = {speaker: recognition.match(speaker) for speaker in diarizer.speakers}
    return {"recording": path.name, "speakers": speakers, "events": events}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--enrol", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("recordings", nargs="+", type=Path)
    arguments = parser.parse_args()
    voices = load_voices(default_cache_dir(print))
    known = []
    for each in arguments.enrol:
        name, _, file = each.partition("=")
        known.append((name, joined([sole(listen(voices, blocks(Path(file), 4.0)))]).voiceprint))
    for path in arguments.recordings:
        print(json.dumps(heard(path, voices, known)), flush=True)


if __name__ == "__main__":
    main()
