"""Streams recordings into a daemon at real-time speed and notes when which event came."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from clips import SAMPLE_RATE, Clip
from numpy.typing import NDArray
from websockets.asyncio.client import connect

BLOCK_S = 0.1  # a browser's message
FRAME_S = 0.01
GAP_S = 0.2  # shorter quiet does not end a run of speech


@dataclass
class Heard:
    """What came back for one clip."""

    clip: Clip
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)  # seconds since sample 0 was due

    def of(self, kind: str) -> list[tuple[float, dict[str, Any]]]:
        return [(at, event) for at, event in self.events if event["type"] == kind]

    @property
    def text(self) -> str:
        return " ".join(event["text"] for _, event in self.of("final"))

    def final_latencies(self) -> list[float]:
        """From the end of speech in the audio (by its level, not by our detector) to each final, seconds."""
        ends = speech_runs(self.clip.samples)[:, 1]
        found = []
        for at, final in self.of("final"):
            before = ends[(ends > final["start"]) & (ends <= final["end"] + 0.3)]
            if len(before):
                found.append(at - float(before[-1]))
        return found

    def first_partial_latencies(self) -> list[float]:
        """From the start of speech in the audio to the first text of each utterance, seconds."""
        starts = speech_runs(self.clip.samples)[:, 0]
        found, seen = [], set()
        for at, partial in self.of("partial"):
            if partial["utterance"] in seen or not partial["text"] + partial["tentative"]:
                continue
            seen.add(partial["utterance"])
            # the run of speech that this utterance began with: its onset is late by what the detector needs
            near = starts[np.abs(starts - partial["start"]) < 0.6]
            if len(near):
                found.append(at - float(near[np.abs(near - partial["start"]).argmin()]))
        return found


def speech_runs(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """[runs, 2] start and end in seconds of what lies within 30 dB of the recording's loud frames."""
    size = int(FRAME_S * SAMPLE_RATE)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
    loud = np.flatnonzero(level > np.percentile(level, 95) - 30)
    if not len(loud):
        return np.zeros((0, 2))
    breaks = np.flatnonzero(np.diff(loud) > GAP_S / FRAME_S)
    starts = loud[np.concatenate([[0], breaks + 1])]
    ends = loud[np.concatenate([breaks, [len(loud) - 1]])] + 1
    return np.stack([starts, ends], axis=1) * FRAME_S


async def stream(
    websocket_url: str, clip: Clip, start_at: float | None = None, speed: float = 1.0, **options: Any
) -> Heard:
    """One session; start_at: time.monotonic() at which its first sample is due; options: more fields of `start`.

    Speakers are not labelled unless the options say so.
    """
    heard = Heard(clip)
    pcm = (clip.samples * 32767).astype("<i2").tobytes()
    block = int(BLOCK_S * SAMPLE_RATE) * 2
    audio = {"encoding": "pcm_s16le", "sample_rate": SAMPLE_RATE, "channels": 1}
    start = {"type": "start", "audio": audio, "diarize": False, **options}
    async with connect(
        f"{websocket_url}/v1/stream", subprotocols=["amanuensis.v1"], compression=None
    ) as socket:
        await socket.send(json.dumps(start))
        opened = json.loads(await socket.recv())
        if opened["type"] != "started":
            raise RuntimeError(f"The session was refused: {opened}")
        epoch = time.monotonic() if start_at is None else start_at

        async def listen() -> None:
            async for message in socket:
                heard.events.append(((time.monotonic() - epoch) * speed, json.loads(message)))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen())
            for index, at in enumerate(range(0, len(pcm), block)):
                due = epoch + (index + 1) * BLOCK_S / speed
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await socket.send(pcm[at : at + block])
            await socket.send('{"type": "stop"}')
    return heard


def percentile(values: list[float], share: float) -> float:
    """NaN where there are none."""
    return float(np.percentile(values, share)) if values else float("nan")
