"""The peer of every ratio: `moonshine_voice`'s own Transcriber on the same weights, one thread.

    python benchmarks/library.py stream|stream-unpaced|offline CLIPS.npz     prints one JSON object

`stream` feeds audio as it would come from a microphone, in 100 ms blocks at real-time speed: caches are then as cold
between blocks as they are for the daemon.

CLIPS.npz holds arrays of float32 samples at 16 kHz by name. Run it as a process of its own, pinned with taskset:
its CPU time is read from the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_RATE = 16_000
BLOCK = SAMPLE_RATE // 10


def run(mode: str, clips: dict[str, np.ndarray]) -> dict[str, Any]:
    """CPU seconds and text of each clip."""
    import moonshine_voice
    from moonshine_voice import ModelArch
    from moonshine_voice.transcriber import Transcriber, TranscriptEventListener

    model = Path(moonshine_voice.__file__).parent / "assets" / "tiny-en"
    transcriber = Transcriber(str(model), ModelArch.TINY, options={"return_audio_data": "false"})

    class Lines(TranscriptEventListener):
        def __init__(self) -> None:
            self.done: list[str] = []

        def on_line_completed(self, event: Any) -> None:
            self.done.append(event.line.text)

    def stream(samples: np.ndarray) -> list[str]:
        lines = Lines()
        live = transcriber.create_stream(update_interval=0.5)
        live.add_listener(lines)
        live.start()
        epoch = time.monotonic()
        for index, at in enumerate(range(0, len(samples), BLOCK), 1):
            if mode == "stream":
                time.sleep(max(0.0, epoch + index * BLOCK / SAMPLE_RATE - time.monotonic()))
            live.add_audio(samples[at : at + BLOCK].tolist(), SAMPLE_RATE)
        live.stop()
        live.close()
        return lines.done

    def offline(samples: np.ndarray) -> list[str]:
        return [
            line.text
            for line in transcriber.transcribe_without_streaming(samples.tolist(), SAMPLE_RATE).lines
        ]

    transcribe = offline if mode == "offline" else stream
    transcribe(np.zeros(SAMPLE_RATE, np.float32))
    result: dict[str, Any] = {}
    for name, samples in clips.items():
        before = time.process_time()
        text = " ".join(transcribe(samples))
        result[name] = {
            "cpu_s": time.process_time() - before,
            "seconds": len(samples) / SAMPLE_RATE,
            "text": text,
        }
    return result


def measure(mode: str, clips: dict[str, np.ndarray], core: int = 0) -> dict[str, Any]:
    """Runs it in a process of its own on one core."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clips.npz"
        np.savez(path, **clips)
        command = ["taskset", "-c", str(core), sys.executable, __file__, mode, str(path)]
        environment = {**os.environ, "MOONSHINE_ORT_SINGLE_THREAD": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("stream", "stream-unpaced", "offline"):
        raise SystemExit(__doc__)
    print(json.dumps(run(sys.argv[1], dict(np.load(sys.argv[2])))))
