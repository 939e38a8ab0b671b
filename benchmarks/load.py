"""Many live streams at once: the latency of their finals on this machine, the load generator included.

python benchmarks/load.py [--streams 32] [--seconds 60] [--speakers] [--output FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
from clips import SAMPLE_RATE, Clip, packaged
from daemon_process import Daemon, running
from streamer import percentile, stream


def cut(clips: list[Clip], seconds: float, dice: random.Random) -> Clip:
    """A stretch of the recordings, from a place of its own."""
    samples = np.concatenate([clip.samples for clip in clips])
    samples = np.roll(samples, -dice.randrange(len(samples)))
    return Clip(
        "mixed",
        np.tile(samples, int(seconds * SAMPLE_RATE / len(samples)) + 1)[: int(seconds * SAMPLE_RATE)],
        (),
    )


async def run(daemon: Daemon, streams: int, seconds: float, speakers: bool) -> dict[str, Any]:
    dice = random.Random(1)
    clips = [cut(packaged(), seconds, dice) for _ in range(streams)]
    epoch = time.monotonic() + 1.0
    before = daemon.cpu_s()
    async with asyncio.TaskGroup() as tasks:
        running_streams = [
            tasks.create_task(stream(daemon.websocket, clip, epoch + dice.random() * 5, diarize=speakers))
            for clip in clips
        ]
    heard = [task.result() for task in running_streams]
    finals = [latency for one in heard for latency in one.final_latencies()]
    firsts = [latency for one in heard for latency in one.first_partial_latencies()]
    gaps = [
        event["reason"] for one in heard for _, event in one.of("gap") if "suppressed" not in event["reason"]
    ]
    return {
        "streams": streams,
        "seconds": seconds,
        "cores": os.cpu_count(),
        "daemon_cores_used": (daemon.cpu_s() - before) / (time.monotonic() - epoch),
        "finals": len(finals),
        "partials": sum(len(one.of("partial")) for one in heard),
        "final_latency_ms": {
            p: round(1000 * percentile(finals, int(p[1:]))) for p in ("p50", "p90", "p95", "p99")
        },
        "first_partial_ms": {p: round(1000 * percentile(firsts, int(p[1:]))) for p in ("p50", "p90", "p95")},
        "finals_labelled": sum("speaker" in final for one in heard for _, final in one.of("final")),
        "gaps": len(gaps),
        "stopped": sum(bool(one.of("stopped")) for one in heard),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--speakers", action="store_true", help="label them, as far as there is time")
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    with running(config=f"[engine]\ncapacity = {arguments.streams}\n") as daemon:
        result = json.dumps(
            asyncio.run(run(daemon, arguments.streams, arguments.seconds, arguments.speakers)), indent=2
        )
    print(result)
    if arguments.output:
        arguments.output.write_text(result + "\n")


if __name__ == "__main__":
    main()
