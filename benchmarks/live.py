"""One live stream: CPU of the whole daemon against the library's own streaming, word errors, and latency.

The daemon runs on core 0, this client on the other. The library runs on core 0 too, before each round of ours.

    python benchmarks/live.py [--rounds 5] [--clips packaged|evalset] [--output FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
from pathlib import Path
from typing import Any

import library
from clips import Clip, evaluation_set, normalise, packaged
from daemon_process import Daemon, running
from streamer import Heard, percentile, stream

from npu.word_errors import word_errors


def measure(daemon: Daemon, clips: list[Clip]) -> tuple[float, list[Heard]]:
    """CPU seconds and what was heard of all clips, one after the other."""
    before = daemon.cpu_s()
    heard = [asyncio.run(stream(daemon.websocket, clip)) for clip in clips]
    return daemon.cpu_s() - before, heard


def errors(clips: list[Clip], texts: list[str]) -> dict[str, Any] | None:
    """Word error rate over the clips that have reference words."""
    scored = [(clip.words, normalise(text)) for clip, text in zip(clips, texts, strict=True) if clip.words]
    if not scored:
        return None
    wrong = sum(word_errors(words, heard) for words, heard in scored)
    total = sum(len(words) for words, _ in scored)
    return {"errors": wrong, "words": total, "rate": wrong / total}


def benchmark(clips: list[Clip], rounds: int) -> dict[str, Any]:
    seconds = sum(clip.seconds for clip in clips)
    theirs: list[float] = []
    ours: list[float] = []
    finals: list[float] = []
    firsts: list[float] = []
    with running(core=0) as daemon:
        measure(daemon, clips[:1])
        for number in range(rounds):
            library_run = library.measure("stream", {clip.name: clip.samples for clip in clips})
            theirs.append(sum(result["cpu_s"] for result in library_run.values()) / seconds)
            cpu_s, heard = measure(daemon, clips)
            ours.append(cpu_s / seconds)
            for one in heard:
                finals += one.final_latencies()
                firsts += one.first_partial_latencies()
            print(
                f"round {number + 1}: library {theirs[-1]:.4f}, ours {ours[-1]:.4f} CPU s per audio s",
                flush=True,
            )
    return {
        "audio_s": seconds,
        "rounds": rounds,
        "cpu_per_audio_s": {"library": statistics.median(theirs), "ours": statistics.median(ours)},
        "ratio": statistics.median(a / b for a, b in zip(theirs, ours, strict=True)),
        "final_latency_ms": {p: round(1000 * percentile(finals, int(p[1:]))) for p in ("p50", "p90", "p95")},
        "first_partial_ms": {p: round(1000 * percentile(firsts, int(p[1:]))) for p in ("p50", "p90", "p95")},
        "finals": len(finals),
        "word_errors": {
            "library": errors(clips, [library_run[clip.name]["text"] for clip in clips]),
            "ours": errors(clips, [one.text for one in heard]),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", choices=["packaged", "evalset"], default="packaged")
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {1} if (os.cpu_count() or 1) > 1 else {0})
    clips = packaged() if arguments.clips == "packaged" else evaluation_set()
    result = json.dumps(benchmark(clips, arguments.rounds), indent=2)
    print(result)
    if arguments.output:
        arguments.output.write_text(result + "\n")


if __name__ == "__main__":
    main()
