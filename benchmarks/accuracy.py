"""Word errors of the live path over the evaluation set, sooner than in real time: a virtual clock, and real parts.

Audio arrives in 100 ms blocks; the detector, the session and the model are the daemon's; what they take counts on the
clock, so partials come as they would. The library streams the same clips, unpaced.

    python benchmarks/accuracy.py [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import library
import numpy as np
from clips import SAMPLE_RATE, Clip, evaluation_set, normalise

from npu.loading import load_judge, load_transcriber
from npu.transcriber import Transcriber
from npu.word_errors import word_errors
from streaming.events import Event, Final
from streaming.session import Session
from streaming.vad import FrameJudge, SpeechDetector

BLOCK = SAMPLE_RATE // 10


def live(samples: np.ndarray, transcriber: Transcriber, judge: FrameJudge) -> str:
    """A recording's finals, joined. A window is taken only once the clock has caught up with the audio."""
    session, finals, clock = Session(SpeechDetector(judge)), [], 0.0

    def keep(events: list[Event]) -> None:
        finals.extend(event.text for event in events if isinstance(event, Final))

    def decode(until: float) -> None:
        nonlocal clock
        while session.demand() is not None and clock <= until:
            began = time.perf_counter()
            window = session.next_window()
            keep(session.receive_hypothesis(window, transcriber.transcribe(window)))
            clock += time.perf_counter() - began

    for at in range(0, len(samples), BLOCK):
        keep(session.receive_audio(samples[at : at + BLOCK]))
        now = min(at + BLOCK, len(samples)) / SAMPLE_RATE
        clock = max(clock, now)
        decode(now + BLOCK / SAMPLE_RATE)
    keep(session.finish())
    decode(float("inf"))
    return " ".join(finals)


def score(clips: list[Clip], texts: list[str]) -> dict[str, Any]:
    """Errors and reference words, all clips together."""
    wrong = sum(word_errors(c.words, normalise(text)) for c, text in zip(clips, texts, strict=True))
    words = sum(len(clip.words) for clip in clips)
    return {"errors": wrong, "words": words, "rate": wrong / words}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    clips = evaluation_set()
    transcriber, judges = load_transcriber(), load_judge()
    peer = library.measure("stream-unpaced", {clip.name: clip.samples for clip in clips})
    scores = {
        "clips": len(clips),
        "library": score(clips, [peer[clip.name]["text"] for clip in clips]),
        "ours": score(clips, [live(clip.samples, transcriber, judges()) for clip in clips]),
    }
    result = json.dumps(scores, indent=2)
    print(result)
    if arguments.output:
        arguments.output.write_text(result + "\n")


if __name__ == "__main__":
    main()
