"""Many viewers of one session: from an event to its arrival at the last of them, the load generator included.

python benchmarks/viewers.py [--viewers 500] [--seconds 20] [--rate 4] [--sse] [--output FILE]

One process is a real daemon in which a session speaks: partials `rate` times a second, and a final, through
the journal, every two seconds. Another holds the viewers, on sockets of their own. Each event carries the time at
which it was said (the clock is the machine's, the same for both processes).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from daemon.config import Config
from daemon.engine import Engine
from daemon.journal import SessionRecord
from daemon.server import listening
from daemon.service import Service
from npu.scripted import ScriptedTranscriber
from streaming.events import Event, Final, Latency, Ledger, Partial, Stopped

SESSION = "talk"
SENTENCE = "and so the words of the one who speaks go out to all who came to read them, "  # 76 characters
STAMP = re.compile(rb"@(\d+)@")
FINAL_EVERY_S = 2.0


# The daemon's side


async def speak(service: Service, viewers: int, seconds: float, rate: float) -> None:
    """Waits for the viewers and then says things to them."""
    while service.hub.viewers_of(SESSION) < viewers:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)
    seq, utterance = 0, 1
    partials_per_final = max(1, round(FINAL_EVERY_S * rate))
    began = time.monotonic()
    for index in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, began + index / rate - time.monotonic()))
        stamp, at = f"@{time.monotonic_ns()}@", index / rate
        event: Event
        if (index + 1) % partials_per_final:
            text = SENTENCE * (1 + index % partials_per_final // 3)
            event = Partial(utterance=utterance, start=at, end=at + 1, text=text, tentative=stamp)
        else:
            seq += 1
            latency = Latency(audio_to_final_ms=1.0, decode_ms=1.0, queue_ms=1.0)
            event = final = Final(
                seq=seq,
                utterance=utterance,
                start=at,
                end=at + 1,
                text=SENTENCE + stamp,
                language="en",
                latency=latency,
            )
            await service.journal.append(SESSION, [final], 0, Ledger())
            utterance += 1
        service.hub.publish(SESSION, event)
    await asyncio.sleep(0.5)
    stopped = Stopped(seq=seq + 1, audio_end=seconds, ledger=Ledger())
    await service.journal.append(SESSION, [stopped], 0, Ledger())
    service.hub.publish(SESSION, stopped)
    service.hub.end(SESSION)


async def serve(viewers: int, seconds: float, rate: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = Config.load(
            Path(os.devnull),
            port=0,
            journal={"path": f"{folder}/journal.db"},
            engine={"workers": 1, "capacity": 1},
        )
        async with Service.run(config, Engine(ScriptedTranscriber([]))) as service, listening(service) as url:
            await service.journal.create(
                SessionRecord(SESSION, None, time.time(), "", "en", "", 16_000, "{}")
            )
            print(url, flush=True)
            before = time.process_time()
            await speak(service, viewers, seconds, rate)
            cpu_s = time.process_time() - before
            await asyncio.sleep(1.5)
            print(json.dumps({"daemon_cpu_s": round(cpu_s, 2)}), flush=True)


# The viewers' side


@dataclass
class Tally:
    """What arrived, over all viewers."""

    joined: int = 0
    ended: int = 0
    bytes: int = 0
    arrivals: dict[int, list[int]] = field(default_factory=dict)  # said at (ns) -> arrived at (ns)
    kinds: dict[int, str] = field(default_factory=dict)

    def note(self, payload: bytes, now: int) -> None:
        match = STAMP.search(payload)
        if match is None:
            return
        said = int(match[1])
        if said not in self.arrivals:
            self.arrivals[said] = []
            self.kinds[said] = "final" if b'"type":"final"' in payload else "partial"
        self.arrivals[said].append(now)


class Viewer(asyncio.Protocol):
    """A viewer that does as little as one can, so that what is measured is the daemon."""

    def __init__(self, tally: Tally, request: bytes, sse: bool, done: asyncio.Semaphore) -> None:
        self._tally, self._request, self._sse, self._done = tally, request, sse, done
        self._greeted = False
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of no common base
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._tally.bytes += len(data)
        self._buffer += data
        if not self._greeted:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            assert head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")), head
            self._greeted, self._buffer = True, rest
            self._tally.joined += 1
        for payload in self._events() if self._sse else self._frames():
            self._tally.note(payload, now)

    def _events(self) -> list[bytes]:
        *events, self._buffer = self._buffer.split(b"\n\n")
        return events

    def _frames(self) -> list[bytes]:
        """RFC 6455: the server's frames are not masked."""
        frames, at, data = [], 0, self._buffer
        while len(data) - at >= 2:
            size, head = data[at + 1], 2
            if size >= 126:
                head = 4 if size == 126 else 10
                size = int.from_bytes(data[at + 2 : at + head])
            if len(data) - at < head + size:
                break
            if data[at] & 0x0F == 8:
                self._transport.close()
            frames.append(data[at + head : at + head + size])
            at += head + size
        self._buffer = data[at:]
        return frames

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.ended += 1
        self._done.release()


async def watch(url: str, viewers: int, sse: bool) -> Tally:
    place = urlsplit(url)
    upgrade = (
        "Accept: text/event-stream\r\n"
        if sse
        else "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    )
    request = f"GET /v1/sessions/{SESSION}/events HTTP/1.1\r\nHost: {place.netloc}\r\n{upgrade}\r\n".encode()
    tally, done = Tally(), asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    for _ in range(viewers):
        await loop.create_connection(lambda: Viewer(tally, request, sse, done), place.hostname, place.port)
    for _ in range(viewers):
        await done.acquire()
    return tally


def percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        f"p{p}": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 1) for p in (50, 90, 95, 99)
    } | {"max": round(ordered[-1], 1)}


def report(tally: Tally, viewers: int) -> dict[str, Any]:
    def last(kind: str | None) -> list[float]:
        return [
            (max(arrived) - said) / 1e6
            for said, arrived in tally.arrivals.items()
            if kind in (None, tally.kinds[said])
        ]

    complete = [arrived for arrived in tally.arrivals.values() if len(arrived) == viewers]
    each = [(at - said) / 1e6 for said, arrived in tally.arrivals.items() for at in arrived]
    return {
        "viewers": viewers,
        "events": len(tally.arrivals),
        "events_that_reached_all": len(complete),
        "to_last_viewer_ms": percentiles(last(None)),
        "final_to_last_viewer_ms": percentiles(last("final")),  # the journal's commit included
        "to_each_viewer_ms": percentiles(each),
        "megabytes": round(tally.bytes / 1e6, 1),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def measure(process: subprocess.Popen[str], viewers: int, sse: bool) -> dict[str, Any]:
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    if not url:
        raise SystemExit("The daemon did not start; its message stands above.")
    before = time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(watch(url, viewers, sse))
    used = {"load_generator_cpu_s": round(time.process_time() - before, 2)}
    transport = {"transport": "sse" if sse else "websocket"}
    return transport | report(tally, viewers) | json.loads(process.stdout.readline()) | used


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--viewers", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=4.0, help="events a second")
    parser.add_argument("--sse", action="store_true", help="Server-Sent Events instead of WebSockets")
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(arguments.viewers, arguments.seconds, arguments.rate))
        return
    command = [sys.executable, __file__, "--serve", "--viewers", str(arguments.viewers)]
    command += ["--seconds", str(arguments.seconds), "--rate", str(arguments.rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            result = measure(process, arguments.viewers, arguments.sse)
        finally:
            process.terminate()
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
