"""Memory of a very long recording: what the process holds above what it holds once the models have worked for a minute.

The recording is made for it: speech of the package's own clips, sparse, in noise. A FLAC of 12 hours needs 400 MB of disk;
with --diarize the samples lie in the temporary folder as well, 230 MB an hour.

python benchmarks/long_file.py [--hours 1] [--share 0.2] [--diarize] [--whisper] [--threads 2] [--output FILE]

--whisper takes random weights of whisper-base's shape instead of Moonshine, windows of up to 30 s and batches of 8.

Anonymous memory is the process's own; file pages are those of the temporary file and of libraries, which the system
takes back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from batched import BATCH, FixedTranscriber
from clips import SAMPLE_RATE, packaged

from daemon.media import Recording
from npu.diarizer import load_embedded
from npu.loading import load_judge, load_transcriber
from npu.transcripts import Progress, SpeakersWanted, Transcript, Wanted, transcripts
from npu.untrained import BASE, write_untrained

BLOCK_S = 60
TOKENS = 60  # of each of Whisper's windows


def write_recording(target: Path, hours: float, share: float) -> None:
    """share: of the time in which somebody speaks."""
    chance = np.random.default_rng(0)
    clips = [clip.samples for clip in packaged()]
    with av.open(str(target), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE)
        stream.layout = "mono"
        owed = 0.0  # seconds of speech
        for minute in range(round(hours * 60)):
            block = chance.standard_normal(BLOCK_S * SAMPLE_RATE).astype(np.float32) * np.float32(1e-4)
            owed += share * BLOCK_S
            clip = clips[minute % len(clips)]
            if owed > len(clip) / SAMPLE_RATE:
                block[: len(clip)] += clip
                owed -= len(clip) / SAMPLE_RATE
            samples = (np.clip(block, -1, 1) * 32_767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class Meter:
    """Looks at the process's memory ten times a second."""

    def __init__(self) -> None:
        self.most = self.look()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @staticmethod
    def look() -> dict[str, float]:
        """MB now."""
        lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return {name: int(lines[name].split()[0]) / 1000 for name in ("RssAnon", "RssFile")}

    def close(self) -> dict[str, float]:
        """The most there was of each, MB."""
        self._stop.set()
        self._thread.join()
        return self.most

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            now = self.look()
            self.most = {name: max(self.most[name], now[name]) for name in now}


def benchmark(hours: float, share: float, diarize: bool, threads: int, whisper: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        if whisper:
            transcriber = FixedTranscriber(write_untrained(Path(folder) / "whisper-base", BASE), TOKENS, 1)
            return measured(transcriber, hours, share, diarize, threads, BATCH)
        return measured(load_transcriber(), hours, share, diarize, threads, None)


def measured(
    transcriber: Any, hours: float, share: float, diarize: bool, threads: int, batch: int | None
) -> dict[str, Any]:
    judges = load_judge()
    speakers = SpeakersWanted(load_embedded(None, lambda _line: None)) if diarize else None

    def transcribe(path: Path) -> Transcript:
        recording = Recording(path.name, path)
        made = transcripts(
            [(path.name, recording.reading())],
            transcriber,
            judges,
            Wanted(speakers=speakers),
            Progress(),
            threads,
            batch=batch,
        )
        (outcome,) = made
        assert isinstance(outcome, Transcript), outcome
        return outcome

    with tempfile.TemporaryDirectory() as place:
        short, long = Path(place) / "short.flac", Path(place) / "long.flac"
        write_recording(short, 1 / 60, 1.0)
        write_recording(long, hours, share)
        transcribe(short)
        before = Meter.look()
        meter, begun = Meter(), time.perf_counter()
        outcome = transcribe(long)
        elapsed = time.perf_counter() - begun
        most = meter.close()
    return {
        "hours": hours,
        "speech_s": round(outcome.speech_s),
        "words": len(outcome.text.split()),
        "speakers": len(outcome.speakers),
        "took_s": round(elapsed, 1),
        "before_mb": before,
        "most_mb": most,
        "above_mb": {name: round(most[name] - before[name], 1) for name in most},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=1.0, help="12 is the whole figure")
    parser.add_argument("--share", type=float, default=0.2, help="of it in which somebody speaks")
    parser.add_argument("--diarize", action="store_true")
    parser.add_argument("--whisper", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    result = json.dumps(
        benchmark(arguments.hours, arguments.share, arguments.diarize, arguments.threads, arguments.whisper),
        indent=2,
    )
    print(result)
    if arguments.output:
        arguments.output.write_text(result + "\n")


if __name__ == "__main__":
    main()
