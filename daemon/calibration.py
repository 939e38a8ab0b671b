"""Calibration: a second or two of measuring the model on this machine, and what follows: workers, and sessions."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npu.transcriber import Transcriber
from streaming.audio import Samples
from streaming.containers import decode_container
from streaming.errors import AmanuensisError
from streaming.window import SAMPLE_RATE, Purpose, Window

logger = logging.getLogger("amanuensis.calibration")

WINDOW_S = 4.0  # a partial of middling length

# What a session costs, with someone speaking all the time and steps stretched to `max_step_s`. An utterance of
# six seconds is then decoded at 1.5, 3, 4.5 and 6 s and once more for its final; cost grows with length, which
# makes 21 s of windows for 6 s of audio: 0.875 windows of 4 s for each second. Detection, events and sockets
# come on top. A fifth of the machine stays free for whoever watches, and for finals to find a worker at once.
WINDOWS_PER_S = 0.875  # at a step of 1.5 s; other steps change it in proportion to the number of partials
REFERENCE_STEP_S = 1.5
FINAL_SHARE = 0.25  # of WINDOWS_PER_S: the final's part, which no step changes
OVERHEAD_S = 0.008  # CPU seconds a second of audio besides the model
HEADROOM = 0.8
MOST = 1_000  # sessions; nobody has measured more


WORTH = 1.15  # a further step in workers must raise the throughput by this factor: cores may be shared, or shares of one


@dataclass(frozen=True)
class Calibration:
    """What was measured."""

    workers: int  # threads that run the model
    window_s: float  # a worker's time for a window of WINDOW_S, all workers being busy
    capacity: int  # sessions that fit; one at least
    keeps_up: bool = True  # that one does fit


def calibrate(
    transcriber: Transcriber, choices: Sequence[int], max_step_s: float, duration_s: float = 1.5
) -> Calibration:
    """Runs the model with each of these numbers of workers, ascending, for about `duration_s` together; blocks.

    The first after which more workers bring nothing is chosen.
    """
    window = _window(_speech())
    first = transcriber.transcribe(window)  # warms up, too
    window = _window(window.audio, draft=first.tokens)
    workers, window_s = choices[0], math.inf
    for count in choices:
        measured_s = _measure(transcriber, window, count, duration_s / len(choices))
        if count / measured_s < WORTH * workers / window_s:
            break
        workers, window_s = count, measured_s
    keeps_up = cost_of(window_s, max_step_s) <= HEADROOM * workers
    return Calibration(workers, window_s, capacity_of(window_s, workers, max_step_s), keeps_up)


def choices(cores: int) -> tuple[int, ...]:
    """Numbers of workers worth trying: powers of two, and one for each core."""
    return tuple(sorted({*(1 << i for i in range(cores.bit_length()) if 1 << i <= cores), cores}))


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _measure(transcriber: Transcriber, window: Window, workers: int, duration_s: float) -> float:
    """Seconds that one of so many workers needs for the window."""
    counts = [0] * workers
    began = time.monotonic()

    def run(index: int) -> None:
        while time.monotonic() < began + duration_s or not counts[index]:
            transcriber.transcribe(window)
            counts[index] += 1

    threads = [
        threading.Thread(target=run, args=(index,), name=f"calibrate-{index}") for index in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.monotonic() - began) * workers / sum(counts)


def measure(transcriber: Transcriber, duration_s: float) -> float:
    """Seconds that a worker needs for a window of WINDOW_S, the rest of the machine going on; blocks.

    The least of what was seen within about `duration_s`, and the first time only where that took all of it.
    """
    begun = time.monotonic()
    window = _window(_speech())
    found = [_timed(transcriber, window)]
    while time.monotonic() - begun < duration_s:
        found.append(_timed(transcriber, window))
    return min(found)


def _timed(transcriber: Transcriber, window: Window) -> float:
    begun = time.monotonic()
    transcriber.transcribe(window)
    return time.monotonic() - begun


def cost_of(window_s: float, max_step_s: float) -> float:
    """Seconds of a core for a second of audio of a session, with someone speaking all the time."""
    partials = WINDOWS_PER_S * (1 - FINAL_SHARE) * REFERENCE_STEP_S / max_step_s
    return (partials + WINDOWS_PER_S * FINAL_SHARE) * window_s + OVERHEAD_S


def capacity_of(window_s: float, workers: int, max_step_s: float) -> int:
    """Sessions that `workers` cores can follow; at least one."""
    return max(1, min(MOST, int(HEADROOM * workers / cost_of(window_s, max_step_s))))


def _window(audio: Samples, draft: tuple[int, ...] = ()) -> Window:
    return Window(utterance=1, start=0, audio=audio, forced=(), draft=draft, purpose=Purpose.PARTIAL)


def _speech() -> Samples:
    """[WINDOW_S * 16000]: a clip that comes with the model's wheel, else something that is loud like speech."""
    size = round(WINDOW_S * SAMPLE_RATE)
    spec = importlib.util.find_spec("moonshine_voice")
    if spec is not None and spec.origin is not None:
        clip = Path(spec.origin).parent / "assets" / "beckett.wav"
        try:
            with clip.open("rb") as file:
                audio = np.concatenate(list(decode_container(file)))
            return audio[SAMPLE_RATE : SAMPLE_RATE + size]
        except (OSError, ValueError, AmanuensisError) as error:
            logger.info("no packaged speech to measure with (%s), taking noise", error)
    generator = np.random.default_rng(1)
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(size) / SAMPLE_RATE)  # four a second
    noise: Samples = (0.1 * generator.standard_normal(size) * syllables).astype(np.float32)
    return noise
