"""Microphones of the daemon's own machine: each [[capture]] is a session that lives as long as the daemon.

A supervisor keeps a process at the microphone (daemon/capture_process.py) and feeds what it hears to the session.
When the device vanishes the session waits; when it is back, the hole becomes a `gap source_lost`, measured by clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from daemon.capture_process import EXIT_NO_PORTAUDIO, HEADER, Kind
from daemon.config import Capture
from daemon.driver import SessionDriver
from streaming.audio import PcmDecoder
from streaming.errors import AmanuensisError, ProtocolError, SessionBusy
from streaming.events import Event
from streaming.protocol import AudioFormat, Start
from streaming.window import SAMPLE_RATE

if TYPE_CHECKING:
    from daemon.service import Service

logger = logging.getLogger("amanuensis.capture")

SILENT_S = 5.0  # a process that gives no sign of life for so long hangs, and is started again
RETRY_S = 1.0  # before a process that ended is started again
RETRY_SESSION_S = 5.0  # before a session that could not be had is tried again
RETRY_PORTAUDIO_S = 60.0  # someone may install it
LEAST_HOLE_S = 0.05  # a reopened device is late by this much anyway


async def run_captures(service: Service, stop: asyncio.Event) -> None:
    """All [[capture]] blocks of the configuration, until `stop`."""
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(Microphone(service, section).run(), name=f"capture {section.session}")
            for section in service.config.capture
        ]
        await stop.wait()
        for task in running:
            task.cancel()


class Microphone:
    """The supervisor of one microphone; the producer of its session."""

    def __init__(self, service: Service, section: Capture) -> None:
        self._service = service
        self._section = section
        self._driver: SessionDriver | None = None
        self._dismissed = asyncio.Event()
        self._decoder: PcmDecoder | None = None
        self._rate = 0
        self._heard_until: float | None = None  # time.monotonic() of the last sample the session has
        self._told = ""  # the last complaint, said once

    def deliver(self, event: Event) -> None:
        """A microphone does not read."""

    def dismiss(self, error: ProtocolError | None) -> None:
        """The session is over, or failed."""
        if error is not None and not self._service.stopping:
            logger.warning("microphone %r: %s", self._section.device or "default", error)
        self._dismissed.set()

    async def run(self) -> None:
        """Listens until cancelled; the session then waits in the journal for the next start."""
        while True:
            try:
                driver = await self._open_session()
            except AmanuensisError as error:
                logger.warning("capture %s: %s", self._section.session, error)
                await asyncio.sleep(RETRY_SESSION_S)
                continue
            self._dismissed.clear()
            driver.attach(self)
            self._driver = driver
            try:
                while not self._dismissed.is_set():
                    await self._pause(await self._listen())
            finally:
                driver.detach(self)
            await asyncio.sleep(RETRY_SESSION_S)

    async def _pause(self, seconds: float) -> None:
        """Waits, but not for a session that is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._dismissed.wait()

    async def _open_session(self) -> SessionDriver:
        """The session of that name, from the journal if it is there; another name where that one is over."""
        section, service = self._section, self._service
        number, name = 1, section.session
        while await service.journal.session(name) is not None:
            if (driver := await service.revive(name)) is not None:
                return driver
            number += 1
            name = f"{section.session}-{number}"
        self._heard_until = None
        audio = AudioFormat(encoding="pcm_f32le", sample_rate=SAMPLE_RATE)
        start = Start(audio=audio, session=name, title=section.device or None, language=section.language)
        driver = (await service.open_session(start)).driver
        if driver is None:
            raise SessionBusy(f"The session {name!r} is over already.")
        return driver

    async def _listen(self) -> float:
        """One life of the process -> seconds to wait before the next."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "daemon.capture_process", self._section.device),
            stdin=asyncio.subprocess.PIPE,  # its end is the process's
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # ALSA and PulseAudio talk there
        )
        assert process.stdout is not None
        try:
            while not self._dismissed.is_set():
                async with asyncio.timeout(SILENT_S):
                    header = await process.stdout.readexactly(HEADER.size)
                    kind, at, rate, size = HEADER.unpack(header)
                    body = await process.stdout.readexactly(size)
                self._receive(Kind(kind), at, rate, body)
        except asyncio.IncompleteReadError:
            logger.debug("the process of microphone %r ended", self._section.device)
        except TimeoutError:
            logger.warning("microphone %r hangs, its process is started again", self._section.device)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            status = await process.wait()
        return RETRY_PORTAUDIO_S if status == EXIT_NO_PORTAUDIO else RETRY_S

    def _receive(self, kind: Kind, at: float, rate: int, body: bytes) -> None:
        driver = self._driver
        assert driver is not None
        if kind is Kind.LOST:
            self._complain(body.decode(errors="replace"))
        elif kind is Kind.OPENED:
            logger.info("capture %s listens to %s", self._section.session, body.decode(errors="replace"))
            self._told, self._decoder, self._rate = "", None, rate
        else:
            frames = len(body) // 4
            if self._decoder is None:
                self._decoder = PcmDecoder(AudioFormat(encoding="pcm_f32le", sample_rate=self._rate))
                self._fill_hole(driver, at - frames / self._rate)
            driver.feed_live(self._decoder.decode(body))
            self._heard_until = at

    def _fill_hole(self, driver: SessionDriver, begins: float) -> None:
        """The device was opened, again perhaps: what was said meanwhile is lost."""
        if self._heard_until is None:
            return
        hole_s = begins - self._heard_until
        if hole_s > LEAST_HOLE_S:
            driver.skip(round(hole_s * SAMPLE_RATE), "source_lost")

    def _complain(self, reason: str) -> None:
        if reason == self._told:
            return
        self._told = reason
        note = f"Microphone {self._section.device or 'default'}: {reason}"
        logger.warning(note)
        if note not in self._service.notes and self._heard_until is None:
            self._service.notes.append(note)
