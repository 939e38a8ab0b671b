"""Whole files through detector, session and model in one process, decoded in batches, no partials: CPU and word errors
against the library, which takes one file after the other.

python benchmarks/offline.py [--rounds 5] [--clips evalset|packaged] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import library
from clips import SAMPLE_RATE, Clip, evaluation_set, normalise, packaged

from npu import recordings
from npu.batches import Batches
from npu.loading import load_judge, load_transcriber
from npu.transcriber import Transcriber
from npu.word_errors import word_errors
from streaming.events import Final
from streaming.vad import FrameJudge

BLOCK = 10 * SAMPLE_RATE


def transcribe(clips: list[Clip], transcriber: Transcriber, judges: Callable[[], FrameJudge]) -> list[str]:
    """The recordings' texts."""
    sources = (
        (clip.name, [clip.samples[at : at + BLOCK] for at in range(0, len(clip.samples), BLOCK)])
        for clip in clips
    )
    texts: dict[str, list[str]] = {clip.name: [] for clip in clips}
    for name, event in recordings.transcribe(sources, Batches(transcriber), judges):
        if isinstance(event, Final):
            texts[name].append(event.text)
    return [" ".join(lines) for lines in texts.values()]


def errors(clips: list[Clip], texts: list[str]) -> float | None:
    words = sum(len(clip.words) for clip in clips)
    if not words:
        return None
    return (
        sum(word_errors(c.words, normalise(t)) for c, t in zip(clips, texts, strict=True) if c.words) / words
    )


def benchmark(clips: list[Clip], rounds: int) -> dict[str, Any]:
    seconds = sum(clip.seconds for clip in clips)
    transcriber, judges = load_transcriber(), load_judge()
    ours, theirs = [], []
    transcribe(clips[:2], transcriber, judges)
    for number in range(rounds):
        peer = library.measure("offline", {clip.name: clip.samples for clip in clips})
        theirs.append(sum(result["cpu_s"] for result in peer.values()) / seconds)
        before = time.process_time()
        texts = transcribe(clips, transcriber, judges)
        ours.append((time.process_time() - before) / seconds)
        print(
            f"round {number + 1}: library {theirs[-1]:.4f}, ours {ours[-1]:.4f} CPU s per audio s", flush=True
        )
    return {
        "audio_s": seconds,
        "rounds": rounds,
        "cpu_per_audio_s": {"library": statistics.median(theirs), "ours": statistics.median(ours)},
        "ratio": statistics.median(a / b for a, b in zip(theirs, ours, strict=True)),
        "word_error_rate": {
            "library": errors(clips, [peer[clip.name]["text"] for clip in clips]),
            "ours": errors(clips, texts),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", choices=["packaged", "evalset"], default="evalset")
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {0})
    clips = packaged() if arguments.clips == "packaged" else evaluation_set()
    result = json.dumps(benchmark(clips, arguments.rounds), indent=2)
    print(result)
    if arguments.output:
        arguments.output.write_text(result + "\n")


if __name__ == "__main__":
    main()
