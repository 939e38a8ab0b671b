"""What producers should not send, and do: a clear refusal or plain tolerance, and the other sessions untouched."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed


async def _goes_on(p: Any, pcm: Any) -> None:
    """Another producer's session works as if nothing had happened."""
    await p.send(pcm(seconds=3))
    await p.say(type="stop")
    assert (await p.until("stopped"))["audio_end"] == pytest.approx(3.0)


def test_odd_bytes(daemon, producer, pcm) -> None:
    """Half a sample waits for its other half; one at the very end is dropped."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start()
            await p.send(pcm(seconds=2) + b"\x01", step=1_001)
            await p.say(type="stop")
            assert (await p.until("stopped"))["audio_end"] == pytest.approx(2.0)

    asyncio.run(main())


def test_floats_that_are_no_samples(daemon, producer) -> None:
    """NaN is silence, infinity and ten thousand are full scale; nothing crashes, the ledger adds up."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start("pcm_f32le")
            wild = np.array([np.nan, np.inf, -np.inf, 1e4, -1e4, 1e-40] * 4_000, np.float32)
            await p.send(wild.tobytes())
            await p.say(type="stop")
            stopped = await p.until("stopped")
            assert stopped["audio_end"] == pytest.approx(1.5)
            assert sum(stopped["ledger"].values()) == pytest.approx(1.5, abs=0.03)

    asyncio.run(main())


def test_a_sample_rate_that_lies(daemon, producer, pcm) -> None:
    """Is simply that: time runs at the declared rate."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p, producer(d.url) as other:
            await p.start(rate=48_000)
            await other.start()
            await p.send(pcm(seconds=6))
            await p.say(type="stop")
            assert (await p.until("stopped"))["audio_end"] == pytest.approx(2.0, abs=0.01)
            await _goes_on(other, pcm)

    asyncio.run(main())


def test_empty_frames(daemon, producer, pcm) -> None:
    """Are nothing."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start()
            for _ in range(50):
                await p.socket.send(b"")
            await _goes_on(p, pcm)

    asyncio.run(main())


def test_frames_of_a_single_byte(daemon, producer) -> None:
    """Are slow and right."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start()
            await p.send(bytes(2_000), step=1)
            await p.say(type="stop")
            assert (await p.until("stopped"))["audio_end"] == pytest.approx(1_000 / 16_000)

    asyncio.run(main())


def test_a_large_frame(daemon, producer, pcm) -> None:
    """Half a minute in one frame is taken in slices."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start(partials=False)
            await p.send(pcm(seconds=32), step=1 << 20)
            await p.say(type="stop")
            assert (await p.until("stopped"))["audio_end"] == pytest.approx(32.0)

    asyncio.run(main())


@pytest.mark.parametrize("encoding", ["webm", "ogg", "flac", "mp3", "wav"])
def test_a_container_that_is_none(daemon, producer, pcm, encoding: str) -> None:
    """4400 bad_message, whatever it was declared to be."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p, producer(d.url) as other:
            await p.start(encoding)
            await other.start()
            noise = np.random.default_rng(1).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
            try:
                await p.send(noise, step=20_000)
                await p.say(type="stop")
            except ConnectionClosed:
                pass  # it may be refused before all of it is sent
            code = await p.closed(20)
            assert code in (4400, 1000)  # mp3 finds frames in anything
            if code == 4400:
                assert p.events[-1]["code"] == "bad_message"
            else:
                assert encoding == "mp3"
            await _goes_on(other, pcm)

    asyncio.run(main())


def test_a_container_that_breaks_off(daemon, producer, pcm, assets, eventually) -> None:
    """The connection is lost in its middle: what was decoded is kept, the decoding thread ends."""

    async def main() -> None:
        async with daemon() as d:
            async with producer(d.url) as p:
                token = (await p.start("wav"))["resume_token"]
                await p.send((assets / "two_cities.wav").read_bytes()[:1_000_000], step=50_000)
                (driver,) = d.service.drivers.values()
                await eventually(lambda: driver.core.next_sample > 16_000)
                p.socket.transport.abort()
            await eventually(lambda: not driver.attached)
            async with producer(d.url) as again:
                resumed = await again.start(resume={"token": token})
                assert resumed["next_sample"] == driver.core.next_sample > 16_000
                await again.say(type="stop")
                await again.until("stopped")

    asyncio.run(main())


def _handshake(url: str) -> socket.socket:
    """A WebSocket made by hand, to send what no library sends."""
    port = int(url.rpartition(":")[2])
    raw = socket.create_connection(("127.0.0.1", port), 5)
    raw.sendall(
        f"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += raw.recv(4_096)
    assert b" 101 " in answer
    return raw


def _frame(opcode: int, payload: bytes) -> bytes:
    """A masked frame; the mask is zero."""
    return bytes([0x80 | opcode]) + struct.pack(">BH", 0x80 | 126, len(payload)) + bytes(4) + payload


def _rest(raw: socket.socket) -> bytes:
    data = b""
    while part := raw.recv(65_536):
        data += part
    return data


def test_invalid_utf8(daemon, producer, pcm) -> None:
    """Closes with 1007, and nobody else notices."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as other:
            await other.start()
            raw = await asyncio.to_thread(_handshake, d.url)
            raw.sendall(_frame(1, b'{"type": "\xff\xfe"}'))
            assert struct.pack(">H", 1007) in await asyncio.to_thread(_rest, raw)
            raw.close()
            await _goes_on(other, pcm)

    asyncio.run(main())


def test_what_is_no_frame(daemon, producer, pcm) -> None:
    """An unmasked or reserved frame closes with 1002."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as other:
            await other.start()
            raw = await asyncio.to_thread(_handshake, d.url)
            raw.sendall(b"\x8f\x05hello")
            assert struct.pack(">H", 1002) in await asyncio.to_thread(_rest, raw)
            raw.close()
            await _goes_on(other, pcm)

    asyncio.run(main())


def test_half_a_connection(daemon, producer, pcm, eventually) -> None:
    """A peer that closes its sending side without goodbye leaves a session that can be resumed."""

    async def main() -> None:
        async with daemon() as d:
            raw = await asyncio.to_thread(_handshake, d.url)
            audio = {"encoding": "pcm_s16le", "sample_rate": 16_000}
            raw.sendall(_frame(1, json.dumps({"type": "start", "audio": audio, "session": "half"}).encode()))
            raw.sendall(_frame(2, bytes(32_000)))
            await eventually(lambda: d.service.drivers and d.service.drivers["half"].source_next == 16_000)
            raw.shutdown(socket.SHUT_WR)
            await eventually(lambda: not d.service.drivers["half"].attached)
            raw.close()

    asyncio.run(main())


def test_after_stop(daemon, producer, pcm) -> None:
    """Audio and requests that come after `stop` change nothing."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start()
            await p.send(pcm(seconds=3))
            await p.say(type="stop")
            try:
                await p.send(pcm(seconds=1))
                await p.say(type="finalize")
                await p.say(type="stop")
            except ConnectionClosed:
                pass  # it was quicker
            assert (await p.until("stopped"))["audio_end"] == pytest.approx(3.0)
            assert await p.closed() == 1000

    asyncio.run(main())


def test_a_model_that_fails(daemon, producer, pcm) -> None:
    """Its windows become gaps `suppressed:model_failed`, the session and the others go on."""

    class Failing:
        name = device = "failing"
        languages, translates, context_s = ("en",), False, None

        def transcribe(self, window: Any) -> Any:
            raise RuntimeError("the runtime is out of memory")

    async def main() -> None:
        async with daemon(Failing()) as d, producer(d.url) as p:
            await p.start()
            await p.send(pcm(seconds=8))
            await p.say(type="stop")
            stopped = await p.until("stopped")
            assert {gap["reason"] for gap in p.of("gap")} == {"suppressed:model_failed"}
            assert not p.of("final") and stopped["ledger"]["suppressed_s"] > 4

    asyncio.run(main())
