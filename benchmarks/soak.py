"""Memory of the daemon over an hour of audio, sped up: resident size after a warm-up and at the end.

python benchmarks/soak.py [--hours 1] [--speed 20] [--speakers] [--output FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
from clips import SAMPLE_RATE, Clip, packaged
from daemon_process import Daemon, running
from streamer import stream

WARM_UP_S = 300.0  # audio seconds, in a session of their own and again at the head of the measured one


async def soak(daemon: Daemon, hours: float, speed: float, speakers: bool) -> dict[str, Any]:
    samples = np.concatenate([clip.samples for clip in packaged()])
    warm_up = Clip("warm-up", tiled(samples, WARM_UP_S), ())
    await stream(daemon.websocket, warm_up, speed=speed, diarize=speakers)
    sizes = []
    session = asyncio.ensure_future(
        stream(
            daemon.websocket,
            Clip("soak", tiled(samples, hours * 3600), ()),
            speed=speed,
            diarize=speakers,
        )
    )
    while not session.done():
        await asyncio.wait([session], timeout=5)
        sizes.append(daemon.rss_mb())
    heard = session.result()
    settled = sizes[max(1, round(len(sizes) * WARM_UP_S / (hours * 3600))) :]
    return {
        "audio_s": hours * 3600,
        "speed": speed,
        "finals": len(heard.of("final")),
        "rss_mb": {"after_warm_up": settled[0], "end": settled[-1], "highest": max(settled)},
        "growth_mb": settled[-1] - settled[0],
    }


def tiled(samples: np.ndarray, seconds: float) -> np.ndarray:
    length = int(seconds * SAMPLE_RATE)
    return np.tile(samples, length // len(samples) + 1)[:length]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--speed", type=float, default=20.0)
    parser.add_argument("--speakers", action="store_true", help="label them")
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    with running() as daemon:
        result = json.dumps(
            asyncio.run(soak(daemon, arguments.hours, arguments.speed, arguments.speakers)), indent=2
        )
    print(result)
    if arguments.output:
        arguments.output.write_text(result + "\n")


if __name__ == "__main__":
    main()
