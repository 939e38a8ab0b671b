"""A daemon whose default model has its encoder on the NPU, which is emulated here: the same text, and when it fails too."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from npu.backends.xdna import moonshine_design
from npu.lean import shipped_weights
from npu.loading import load_transcriber
from npu.xdna.emulator import Fault

CLIP_S = 5.0  # of two_cities.wav, sent faster than it was spoken


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("npu")


async def talk(d: Any, producer: Any, audio: bytes) -> list[dict[str, Any]]:
    """Everything a producer is told about one session."""
    async with producer(d.url) as p:
        await p.start()
        await p.send(audio, step=16_000, pause_s=0.02)
        await p.say(type="stop")
        await p.until("stopped", 60)
        return list(p.events)


def text_of(events: list[dict[str, Any]]) -> str:
    return " ".join(event["text"] for event in events if event["type"] == "final")


async def npu_of(d: Any) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=d.url) as client:
        return dict((await client.get("/status")).json()["npu"])


def test_a_session_on_the_npu(
    daemon: Any,
    producer: Any,
    pcm: Any,
    stand_in: Any,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Reads as on the CPU; when the NPU fails for good, the next one does too, nothing is lost, and /status says why."""
    stand_in.install(moonshine_design(shipped_weights()).design(stand_in.kernels.stacks), cache)
    on_cpu, on_npu = (load_transcriber(device=device, cache_dir=cache) for device in ("cpu", "npu"))
    audio = pcm(seconds=CLIP_S)

    async def main() -> None:
        async with daemon(transcriber=on_cpu) as d:
            expected = text_of(await talk(d, producer, audio))
            assert (await npu_of(d))["state"] == "unavailable"
        assert len(expected.split()) >= 8
        async with daemon(transcriber=on_npu) as d:
            assert text_of(await talk(d, producer, audio)) == expected
            found = await npu_of(d)
            assert (found["state"], found["evidence"]) == ("in use", "emulated")
            assert found["device"] == "RyzenAI-npu1 (emulated)" and found["reason"] is None
            assert (found["decoder"], found["precision"]) == ("cpu", "bf16")
            assert found["dispatches"] >= 3 and found["recoveries"] == 0
            stand_in.faults.left[Fault.TIMEOUT] = None
            events = await talk(d, producer, audio)
            assert text_of(events) == expected
            assert events[-1]["ledger"]["gap_s"] == 0
            failed = await npu_of(d)
            assert failed["state"] == "failed" and "did not end within 2000 ms" in failed["reason"]
            assert "modprobe" in " ".join(failed["remedies"]) and failed["recoveries"] == 1
            assert failed["dispatches"] == found["dispatches"]
            assert on_npu.device.startswith("cpu (onnxruntime ")

    with caplog.at_level(logging.WARNING, "amanuensis.npu"):
        asyncio.run(main())
    assert "the encoder of moonshine-tiny goes on on the CPU" in caplog.text
