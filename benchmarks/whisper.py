"""Whisper's encoder and decoder against CTranslate2 (which faster-whisper runs) and whisper.cpp: whisper-base in 8 bits,
with random weights of its true shape, every engine with the same tokens counted, one thread and two, rounds interleaved.
Then a live window of 5 s in a short context against the same padded to 30 s.

python benchmarks/whisper.py [--rounds 7] [--threads 1 2] [--folder KEPT] [--output FILE]

Needs ctranslate2, torch and transformers (to convert) and pywhispercpp; an engine that is missing is left out. A
pywhispercpp of the machine's own instruction set: GGML_NATIVE=ON pip install --no-binary pywhispercpp pywhispercpp.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers import END, START, to_ctranslate2, to_ggml

from npu.mel import log_mel
from npu.untrained import BASE, write_untrained
from npu.whisper import load_backend

SECONDS = 30
LIVE_SECONDS = 5
OPENING = (START, 50_259, 50_359, 50_363)
TOKENS = 40  # counted, after the opening and the first ones
WARM = 8
DRAFT, SINGLE = 16, 4  # tokens of an update of a live window: verified in one pass, and one by one
REST_S = 0.3  # between measurements: OpenMP lets the threads of the last one spin for 0.2 s


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    time.sleep(REST_S)
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class Ours:
    """This project's graphs."""

    def __init__(self, folder: Path, threads: int, audio: np.ndarray) -> None:
        self._backend, self._architecture = load_backend(
            folder, "cpu", folder / "cache", "int8", threads, lambda _line: None
        )
        self._audio = audio
        self._features = log_mel(audio, BASE.bins)
        self._encoded = self._backend.encode_features(self._features)

    def encoder(self) -> float:
        """Keys and values of the cross-attention included."""
        return timed(lambda: self._backend.encode_features(self._features))

    def token(self) -> float:
        cache = self._encoded.start()
        self._backend.extend(cache, OPENING)
        token = self._greedy(cache, START, WARM)
        return timed(lambda: self._greedy(cache, token, TOKENS)) / TOKENS

    def update(self, short: bool) -> tuple[float, float]:
        """An update of a live window, encoder and all: (seconds, those of features and encoder)."""
        audio, draft = self._audio[: LIVE_SECONDS * 16_000], tuple(range(1000, 1000 + DRAFT))
        encoder = timed(lambda: self._backend.encode(audio, short))
        cache = self._backend.encode(audio, short).start()

        def decode() -> None:
            self._backend.extend(cache, (*OPENING, *draft))
            self._greedy(cache, START, SINGLE)

        return encoder + timed(decode), encoder

    def _greedy(self, cache: Any, token: int, count: int) -> int:
        for _ in range(count):
            token = int(self._backend.extend(cache, (token,))[0].argmax())
        return token


class CTranslate2:
    """The engine of faster-whisper, in 8 bits."""

    def __init__(self, folder: Path, threads: int, audio: np.ndarray) -> None:
        import ctranslate2

        model = to_ctranslate2(folder, folder / "ctranslate2")
        self._model = ctranslate2.models.Whisper(
            str(model), device="cpu", compute_type="int8", intra_threads=threads, inter_threads=1
        )
        features = np.ascontiguousarray(log_mel(audio, BASE.bins).T[None])
        self._features = ctranslate2.StorageView.from_array(features)
        self._encoded = self._model.encode(self._features)

    def encoder(self) -> float:
        return timed(lambda: self._model.encode(self._features))

    def token(self) -> float:
        """What so many tokens more take, so that what is done once does not count."""
        return (self._generate(WARM + TOKENS) - self._generate(WARM)) / TOKENS

    def _generate(self, count: int) -> float:
        found: list[Any] = []

        def work() -> None:
            found.extend(
                self._model.generate(
                    self._encoded,
                    [list(OPENING)],
                    beam_size=1,
                    max_length=2 * count,  # half of it is the prompt's
                    suppress_blank=False,
                    suppress_tokens=[END],
                )
            )

        seconds = timed(work)
        assert len(found[0].sequences_ids[0]) == count
        return seconds


class WhisperCpp:
    """whisper.cpp, q8_0."""

    def __init__(self, folder: Path, threads: int, audio: np.ndarray) -> None:
        import _pywhispercpp as theirs

        self._theirs, self._threads = theirs, threads
        theirs.whisper_log_set(lambda *_: None)
        model = to_ggml(folder, folder / "q8_0.bin")
        self._context = theirs.whisper_init_from_file_with_params(
            str(model), theirs.whisper_context_default_params()
        )
        assert theirs.whisper_pcm_to_mel(self._context, audio, len(audio), 1) == 0
        self.encoder()

    def encoder(self) -> float:
        return timed(lambda: self._theirs.whisper_encode(self._context, 0, self._threads))

    def token(self) -> float:
        for position in range(len(OPENING) + WARM):
            self._decode(position)
        places = range(len(OPENING) + WARM, len(OPENING) + WARM + TOKENS)
        return timed(lambda: [self._decode(position) for position in places]) / TOKENS

    def _decode(self, position: int) -> None:
        assert self._theirs.whisper_decode(self._context, 1000 + position, 1, position, self._threads) == 0


def peers(folder: Path, threads: int, audio: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in (("ctranslate2", CTranslate2), ("whisper.cpp", WhisperCpp)):
        try:
            found[name] = kind(folder, threads, audio)
        except ImportError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return found


def milliseconds(values: list[float]) -> float:
    return round(statistics.median(values) * 1000, 3)


def benchmark(folder: Path, threads: int, rounds: int) -> dict[str, Any]:
    os.sched_setaffinity(0, range(threads))
    audio = np.random.default_rng(0).standard_normal(SECONDS * 16_000).astype(np.float32) * np.float32(0.1)
    ours = Ours(folder, threads, audio)
    live: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for _ in range(rounds):  # alone in the process: the others' threads spin between their calls
        for short, found in live.items():
            found.append(ours.update(short))
    running = {"ours": ours, **peers(folder, threads, audio)}
    encoder: dict[str, list[float]] = {name: [] for name in running}
    token: dict[str, list[float]] = {name: [] for name in running}
    for number in range(rounds):
        for name, engine in running.items():
            encoder[name].append(engine.encoder())
            token[name].append(engine.token())
        line = (f"{name} {encoder[name][-1] * 1e3:.0f} / {token[name][-1] * 1e3:.2f} ms" for name in running)
        print(f"{threads} threads, round {number + 1}: {', '.join(line)}", flush=True)

    def ratio(values: dict[str, list[float]], others: tuple[str, ...]) -> float | None:
        """The better peer of each round against ours; the median."""
        there = [values[name] for name in others if name in values]
        if not there:
            return None
        best = min(there, key=statistics.median)
        return round(statistics.median(b / a for a, b in zip(values["ours"], best, strict=True)), 3)

    updates = zip(live[False], live[True], strict=True)
    return {
        "encoder_ms": {name: milliseconds(values) for name, values in encoder.items()},
        "token_ms": {name: milliseconds(values) for name, values in token.items()},
        "encoder_ratio": ratio(encoder, ("ctranslate2",)),
        "token_ratio": ratio(token, ("ctranslate2", "whisper.cpp")),
        "live_update_ms": {
            "padded": milliseconds([a for a, _ in live[False]]),
            "short": milliseconds([a for a, _ in live[True]]),
        },
        "live_encoder_ms": {
            "padded": milliseconds([b for _, b in live[False]]),
            "short": milliseconds([b for _, b in live[True]]),
        },
        "live_ratio": round(statistics.median(a[0] / b[0] for a, b in updates), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help="keeps the checkpoint and what it is converted to here")
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)) / "whisper-base-untrained"
        if not (folder / "model.safetensors").is_file():
            write_untrained(folder, BASE)
        found = {
            f"{threads} threads": benchmark(folder, threads, arguments.rounds)
            for threads in arguments.threads
        }
    result = json.dumps(found, indent=2)
    print(result)
    if arguments.output:
        arguments.output.write_text(result + "\n")


if __name__ == "__main__":
    main()
