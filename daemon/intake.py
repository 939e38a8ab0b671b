"""The way of a producer's bytes into its session: raw PCM at once, containers through a decoding thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Protocol

from daemon.driver import SessionDriver
from daemon.producer import Producer
from streaming.audio import RAW_ENCODINGS, ChannelMeter
from streaming.containers import decode_container
from streaming.errors import AmanuensisError, AudioError
from streaming.protocol import AudioFormat
from streaming.window import SAMPLE_RATE

PIPE_BYTES = 1 << 18  # encoded bytes waiting for the decoder; beyond that the socket is not read


class Intake(Protocol):
    """Bytes in the declared encoding, in order, cut anywhere."""

    async def feed(self, data: bytes) -> None:
        """Takes bytes in; waits while the session is full. AudioError where they are not what was declared."""

    async def settle(self) -> None:
        """Returns when every sample that the bytes so far make complete is with the session."""

    async def end(self) -> None:
        """No more bytes: returns when the last sample is with the session."""

    def close(self) -> None:
        """The producer has gone; nothing more is taken in."""


def open_intake(driver: SessionDriver, producer: Producer, audio: AudioFormat) -> Intake:
    """The way for an encoding."""
    if audio.encoding in RAW_ENCODINGS:
        return RawIntake(driver, producer)
    return ContainerIntake(driver, producer, audio.channels)


class RawIntake:
    """Raw PCM needs no way of its own."""

    def __init__(self, driver: SessionDriver, producer: Producer) -> None:
        self._driver, self._producer = driver, producer

    async def feed(self, data: bytes) -> None:
        """See Intake."""
        await self._driver.feed_raw(self._producer, data)

    async def settle(self) -> None:
        """Everything is with the session already."""

    async def end(self) -> None:
        """The session flushes its resampler when it finishes."""

    def close(self) -> None:
        """Nothing is held here."""


class ContainerIntake:
    """A pipe, and a thread that decodes what is in it.

    The thread hands each block to the session and waits until it was taken, so a session that is full stops
    the thread, the pipe fills, and `feed` waits: the socket is no longer read.
    """

    def __init__(self, driver: SessionDriver, producer: Producer, channels: int) -> None:
        self._driver, self._producer = driver, producer
        self._meter = ChannelMeter(channels, SAMPLE_RATE)
        self._loop = asyncio.get_running_loop()
        self._pipe = _Pipe(self._loop)
        self._thread: threading.Thread | None = None
        self._ended = asyncio.Event()
        self._failure: AmanuensisError | None = None

    async def feed(self, data: bytes) -> None:
        """See Intake."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._decode, name="container", daemon=True)
            self._thread.start()
        for at in range(0, len(data), PIPE_BYTES):
            await self._pipe.write(data[at : at + PIPE_BYTES])
            self._check()

    async def settle(self) -> None:
        """See Intake. What the demuxer holds back of a packet not yet complete is not there to be waited for."""
        if self._thread is not None:
            await self._pipe.drained()
        self._check()

    async def end(self) -> None:
        """See Intake."""
        self._pipe.close()
        if self._thread is not None:
            await self._ended.wait()
        self._check()

    def close(self) -> None:
        """See Intake."""
        self._pipe.close()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _decode(self) -> None:
        """The thread."""
        failure: AmanuensisError | None = None
        try:
            for block in decode_container(self._pipe, meter=self._meter):
                feed = self._driver.feed(self._producer, block, self._meter.take())
                taken = asyncio.run_coroutine_threadsafe(feed, self._loop)
                taken.result()
        except AmanuensisError as error:
            failure = error
        except (CancelledError, RuntimeError):
            failure = AudioError("The daemon stopped while the audio was being decoded.")
        self._pipe.close()
        try:
            self._loop.call_soon_threadsafe(self._end, failure)
        except RuntimeError:
            return  # the loop has gone, and everyone who could wait for us

    def _end(self, failure: AmanuensisError | None) -> None:
        self._failure = failure
        self._ended.set()


class _Pipe:
    """Bytes from the event loop to one reading thread, at most about PIPE_BYTES at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._changed = threading.Condition()
        self._held = bytearray()
        self._closed = False
        self._starving = False  # the reader waits for more
        self._moved = asyncio.Event()  # the reader took something, or wants more

    def read(self, n: int, /) -> bytes:
        """At most n bytes, at least one; empty once the pipe is closed and empty."""
        with self._changed:
            while not self._held and not self._closed:
                self._starving = True
                self._tell()
                self._changed.wait()
            self._starving = False
            data = bytes(self._held[:n])
            del self._held[:n]
            self._tell()
            return data

    async def write(self, data: bytes) -> None:
        """Puts bytes in, once there is room for them; after `close` they are dropped."""
        await self._until(lambda: len(self._held) < PIPE_BYTES)
        with self._changed:
            if not self._closed:
                self._held += data
                self._starving = False
                self._changed.notify()

    async def drained(self) -> None:
        """Returns when the reader has taken everything and asks for more."""
        await self._until(lambda: self._starving and not self._held)

    def close(self) -> None:
        """No more bytes come, or nobody reads them any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._tell()

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._moved.set)
        except RuntimeError:
            self._closed = True  # the loop has gone

    async def _until(self, true: Callable[[], bool]) -> None:
        while True:
            self._moved.clear()  # before looking: what moves after the look wakes us
            with self._changed:
                if true() or self._closed:
                    return
            await self._moved.wait()
