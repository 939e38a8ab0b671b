"""A demonstration: a daemon of its own, a recording of two people at the speed of life, captions in the terminal."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from clients.connection import connect
from clients.file import FORMAT, Recording, play
from clients.terminal import Captions
from daemon import log
from daemon.captioning import Tally, caption
from daemon.config import Config
from daemon.server import running
from npu.embedded import package_folder

RECORDING = "assets/endgame_nagg_nell.wav"  # of the moonshine-voice package


async def run() -> None:
    """Plays the recording through a daemon on a free port, with a journal that is thrown away."""
    console, remarks = Console(highlight=False), Console(stderr=True, highlight=False)
    recording = Recording(package_folder() / RECORDING)
    log.configure("error")
    with tempfile.TemporaryDirectory(prefix="amanuensis-demo-") as folder:
        config = Config.load(
            server={"host": "127.0.0.1", "port": 0},
            journal={"path": str(Path(folder) / "journal.db")},
            auth={"tokens": []},
            capture=[],
            socket=[],
        )
        remarks.out(
            "Starting the daemon: the model is made ready, and the machine measured.", highlight=False
        )
        async with running(config) as url:
            remarks.out(f"It listens on {url}. Two people speak; the text follows.\n", highlight=False)
            busy = time.process_time()
            with Captions(console) as captions:
                tally = await _play(recording, url, captions)
            busy = time.process_time() - busy
    remarks.print(
        f"\n{tally.finals} finals, latency p50 {tally.latency}, "
        f"{busy / tally.audio_s:.3f} CPU seconds per second of audio (daemon, client and terminal together).",
        soft_wrap=not remarks.is_terminal,
    )


async def _play(recording: Recording, url: str, captions: Captions) -> Tally:
    async with connect(url, FORMAT, title="Demonstration", live=False, notice=captions.note) as stream:
        return await caption(
            stream,
            captions,
            lambda sink: play(
                recording, sink, progress=lambda sent_s: captions.clock(sent_s, recording.duration_s)
            ),
        )


if __name__ == "__main__":
    sys.argv[1:] = ["demo"]
    from daemon.__main__ import main

    sys.exit(main())
