"""A long recording with whisper-base in batches of 8: this project against faster-whisper's BatchedInferencePipeline.

Both read the same file, find its speech with their own detectors, put it into windows of up to 30 s, and decode greedily
in 8 bits. Weights are random and of whisper-base's true shape, so a decoding would never end by itself: both are made
to take the same number of tokens for each window. Ours also finds when each word was said, wherever a window holds more
than one utterance. Each runs in a process of its own, in turns.

python benchmarks/batched.py [--minutes 6 | --hour] [--rounds 1] [--tokens 60] [--threads 2] [--folder KEPT] [--output FILE]

Needs faster-whisper, ctranslate2, torch and transformers (to convert).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from clips import EVALSET, SAMPLE_RATE, read
from peers import END, START, to_ctranslate2, tokens

OPENING = (START, 50_259, 50_359, 50_363)
BATCH = 8


def speech(minutes: float, target: Path) -> Path:
    """Writes recordings of the evaluation set, one after the other and again, as long as is asked for."""
    if target.is_file():
        return target
    paths = sorted(EVALSET.glob("*.flac"))
    if not paths:
        raise SystemExit(
            f"The evaluation set is not at {EVALSET.parent.name}/{EVALSET.name}: nothing to measure on."
        )
    left = round(minutes * 60 * SAMPLE_RATE)
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        while left > 0:
            for path in paths:
                samples = read(path)[:left]
                file.writeframes((samples * 32_767).astype("<i2").tobytes())
                left -= len(samples)
    return target


def prepared(folder: Path) -> None:
    """The checkpoint, and what faster-whisper makes of it."""
    from npu.untrained import BASE, write_untrained

    if not (folder / "model.safetensors").is_file():
        write_untrained(folder, BASE)
    theirs = to_ctranslate2(folder, folder / "ct2")
    if not (theirs / "tokenizer.json").is_file():
        from tokenizers import AddedToken, Tokenizer, models

        words = tokens(BASE.vocabulary)
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="t0"))
        tokenizer.add_special_tokens([AddedToken(word, special=True) for word in words if word[0] == "<"])
        tokenizer.save(str(theirs / "tokenizer.json"))


def run_theirs(folder: Path, audio: Path, count: int, threads: int) -> dict[str, Any]:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(str(folder / "ct2"), device="cpu", compute_type="int8", cpu_threads=threads)
    pipeline = BatchedInferencePipeline(model)

    def transcribe(path: Path) -> int:
        segments, _ = pipeline.transcribe(
            str(path),
            language="en",
            batch_size=BATCH,
            beam_size=1,
            temperature=0.0,
            suppress_tokens=[END],
            suppress_blank=False,
            max_new_tokens=count,
            without_timestamps=True,
            compression_ratio_threshold=None,
            log_prob_threshold=None,
            no_speech_threshold=None,
        )
        made = list(segments)
        lengths = {len(segment.tokens) for segment in made}
        assert max(lengths) <= count + 1, lengths
        return len(made)

    return timed(transcribe, audio)


class FixedTranscriber:
    """Every window has the same number of tokens, and each token is a word."""

    name, device, languages, translates, context_s = "untrained", "cpu", ("en",), False, 30.0

    def __init__(self, folder: Path, count: int, threads: int) -> None:
        from npu.whisper import load_backend

        self._backend, _ = load_backend(folder, "cpu", folder / "cache", "int8", threads, lambda _line: None)
        self._count = count
        self.windows = 0

    def transcribe(self, window: Any) -> Any:
        return self.transcribe_all([window])[0]

    def transcribe_all(self, windows: Sequence[Any]) -> list[Any]:
        from npu.timing import word_spans
        from streaming.window import Hypothesis, Word

        self.windows += len(windows)
        starts = [self._backend.encode(window.audio).start() for window in windows]
        for cache in starts:
            self._backend.extend(cache, OPENING[:-1])
        timed = any(window.timed for window in windows)
        batch = self._backend.together(starts, timed)
        rows, fed = [], [OPENING[-1]] * len(windows)
        for _ in range(self._count):
            logits = batch.extend(fed)
            logits[:, END] = -np.inf
            fed = logits.argmax(axis=1).tolist()
            rows.append(fed)
        made = []
        for row, window in enumerate(windows):
            said = [each[row] for each in rows]
            offset = window.start / SAMPLE_RATE
            spans = [(0.0, 0.1)] * len(said)
            if timed:
                spans = word_spans(batch.attention(row), [1] * len(said), window.audio)
            made.append(
                Hypothesis(
                    tuple(
                        Word("w", (t,), offset + a, offset + b) for t, (a, b) in zip(said, spans, strict=True)
                    )
                )
            )
        return made


def run_ours(folder: Path, audio: Path, count: int, threads: int) -> dict[str, Any]:
    from npu.loading import load_judge
    from npu.transcripts import Progress, Transcript, Wanted, transcripts
    from streaming.recorded import decode_recording

    transcriber, judges = FixedTranscriber(folder, count, 1), load_judge()

    def transcribe(path: Path) -> int:
        transcriber.windows = 0
        with path.open("rb") as file:
            source = [(path.name, decode_recording(file, 5.0))]
            made = list(transcripts(source, transcriber, judges, Wanted(), Progress(), threads, batch=BATCH))
        assert isinstance(made[0], Transcript)
        return transcriber.windows

    return timed(transcribe, audio)


def timed(transcribe: Any, audio: Path) -> dict[str, Any]:
    """After a warm-up on the first minute."""
    with tempfile.TemporaryDirectory() as place:
        short = Path(place) / "short.wav"
        with wave.open(str(audio)) as whole, wave.open(str(short), "wb") as file:
            file.setparams(whole.getparams())
            file.writeframes(whole.readframes(60 * SAMPLE_RATE))
        transcribe(short)
    wall, cpu = time.perf_counter(), time.process_time()
    windows = transcribe(audio)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "windows": windows}


def measured(who: str, arguments: argparse.Namespace, folder: Path, audio: Path) -> dict[str, Any]:
    """In a process of its own."""
    words = [who, str(folder), str(audio), str(arguments.tokens), str(arguments.threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    done = subprocess.run(
        [sys.executable, __file__, "--part", *words],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def benchmark(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    prepared(folder)
    minutes = 60.0 if arguments.hour else arguments.minutes
    audio = speech(minutes, folder / f"speech-{minutes:g}.wav")
    rounds = []
    for number in range(arguments.rounds):
        found = {who: measured(who, arguments, folder, audio) for who in ("theirs", "ours")}
        rounds.append(found)
        print(f"round {number + 1}: {found}", flush=True)

    def ratio(what: str, each: str | None = None) -> float:
        def value(of: dict[str, Any]) -> float:
            return of[what] / (of[each] if each else 1)

        return statistics.median(value(found["theirs"]) / value(found["ours"]) for found in rounds)

    return {
        "minutes": minutes,
        "tokens_a_window": arguments.tokens,
        "threads": arguments.threads,
        "rounds": rounds,
        "times_faster": {"wall": ratio("wall_s"), "cpu": ratio("cpu_s")},
        "times_faster_a_window": {"wall": ratio("wall_s", "windows"), "cpu": ratio("cpu_s", "windows")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--hour", action="store_true", help="the whole figure")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=60, help="of each window")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep the checkpoint and the audio here")
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    parser.add_argument("--part", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        who, folder, audio, count, threads = arguments.part
        run = run_ours if who == "ours" else run_theirs
        print(json.dumps(run(Path(folder), Path(audio), int(count), int(threads))))
        return
    with tempfile.TemporaryDirectory() as place:
        result = json.dumps(
            benchmark(arguments, arguments.folder or Path(place) / "untrained-base"), indent=2
        )
    print(result)
    if arguments.output:
        arguments.output.write_text(result + "\n")


if __name__ == "__main__":
    main()
