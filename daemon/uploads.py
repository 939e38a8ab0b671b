"""Uploads: recordings that clients send to be transcribed, one after the other, behind the live sessions.

An upload is decoded by a thread of low priority, batch by batch. Between batches it lets sessions that wait for a
worker go first, and looks whether anybody still wants the result.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from daemon.upload_form import Form, received
from npu.diarizer import EmbeddedDiarizer, load_embedded, recogniser
from npu.transcripts import Progress, SpeakersWanted, Transcript, Unreadable, Wanted, transcripts, understood
from streaming.audio import Samples
from streaming.errors import (
    AmanuensisError,
    AudioError,
    BadMessage,
    ModelError,
    Restarting,
    TooLarge,
    UploadsFull,
)
from streaming.recorded import decode_recording, seconds_of_recording
from streaming.window import Manner

if TYPE_CHECKING:
    from daemon.service import Service

logger = logging.getLogger("amanuensis.uploads")

BLOCK_S = 1.0  # audio decoded at a time: between two blocks others can have the interpreter
PATIENCE_S = 2.0  # live sessions go first for so long; then a batch is due, or an upload might never end
GLANCE_S = 0.01  # between looks whether they still wait
NICENESS = (
    10  # a lower priority would starve a thread that holds the interpreter's lock, and with it everybody
)
RETRY_AFTER_S = 15.0


@dataclass(frozen=True)
class Asked:
    """What a client wants to know of its recording."""

    language: str | None = None
    words: bool = False
    speakers: bool = False
    min_speakers: int | None = None
    max_speakers: int | None = None
    known: tuple[tuple[str, Samples], ...] = ()  # names, and how they sound, 16 kHz


class Uploads:
    """All uploads of a daemon. Belongs to the event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.limits = service.config.uploads
        self._places = self.limits.at_once + self.limits.waiting
        self._taken = 0
        self._executor = ThreadPoolExecutor(self.limits.at_once, "upload", initializer=_step_back)
        self._loading = threading.Lock()
        self._diarizer: EmbeddedDiarizer | None = None

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[Form]:
        """A client's form, which has a place in the queue for the length of the block. UploadsFull, and as `received`."""
        if self._service.stopping:
            raise _restarting()
        if self._taken >= self._places:
            raise UploadsFull(
                f"{self._places} recordings are being transcribed or wait for it, more are not taken; "
                f"try again in {RETRY_AFTER_S:.0f} s.",
                RETRY_AFTER_S,
            )
        self._taken += 1
        try:
            async with received(request, self.limits.max_bytes) as form:
                yield form
        finally:
            self._taken -= 1

    async def transcribe(self, request: Request, form: Form, asked: Asked) -> Transcript:
        """The transcript of a received form, once it is its turn; the work ends when the client leaves.

        BadMessage where the file is no audio or something else is asked than the model can do; TooLarge.
        """
        try:
            language = understood(asked.language, self._service.transcriber)
        except ModelError as error:
            raise BadMessage(f"language: {error}", "language") from error
        watch = _Watch(self._service, self.limits.max_duration_s)
        work = self._executor.submit(self._work, form, asked, language, watch)
        outcome = asyncio.wrap_future(work)
        outcome.add_done_callback(_looked_at)
        try:
            async with asyncio.TaskGroup() as tasks:
                leaving = tasks.create_task(_until_left(request, watch, work), name="upload's client")
                await asyncio.wait([outcome])  # if this is cancelled, the thread ends by itself
                leaving.cancel()
        finally:
            watch.stop(_restarting())  # without effect on what is over
        if outcome.cancelled():
            raise _left()
        return outcome.result()

    def _work(self, form: Form, asked: Asked, language: str | None, watch: _Watch) -> Transcript:
        """In a thread of the executor."""
        watch.check()
        begun = time.monotonic()
        try:
            self._measure(form)
            wanted = self._wanted(asked, language)
            blocks = decode_recording(form.file, BLOCK_S)
            service = self._service
            made = transcripts(
                [(form.name, blocks)], service.transcriber, service.engine.judges, wanted, watch
            )
            outcome = next(iter(made))
        except AudioError as error:
            raise BadMessage(f"file: {error}", "file") from error
        if isinstance(outcome, Unreadable):
            if not isinstance(outcome.error, AudioError):
                raise outcome.error
            raise BadMessage(f"file: {outcome.error}", "file") from outcome.error
        elapsed = time.monotonic() - begun
        logger.info("a recording of %.0f s was transcribed in %.1f s", outcome.duration_s, elapsed)
        return outcome

    def _measure(self, form: Form) -> None:
        """What the header tells is refused before anything is decoded."""
        seconds = seconds_of_recording(form.file)
        form.file.seek(0)
        if seconds is not None and seconds > self.limits.max_duration_s:
            raise too_long(self.limits.max_duration_s)

    def _wanted(self, asked: Asked, language: str | None) -> Wanted:
        config = self._service.config
        speakers = None
        if asked.speakers:
            diarizer = self._embedded()
            enrolled = () if asked.known else self._service.speakers.known  # who names people means just them
            recognise = recogniser(diarizer, asked.known, enrolled)
            speakers = SpeakersWanted(diarizer, asked.min_speakers, asked.max_speakers, recognise)
        return Wanted(
            Manner(language),
            words=asked.words,
            speakers=speakers,
            speech=config.speech.session(),
            vad=config.speech.vad(),
        )

    def _embedded(self) -> EmbeddedDiarizer:
        """Over the networks that live sessions use; loaded when first asked for where there are none."""
        with self._loading:
            if self._diarizer is None:
                engine, cache = self._service.engine, self._service.config.model.cache_path
                self._diarizer = (
                    EmbeddedDiarizer(engine.voices, engine.judges)
                    if engine.voices
                    else load_embedded(cache, logger.info)
                )
            return self._diarizer


class _Watch(Progress):
    """What an upload's thread looks at between two steps of its work."""

    def __init__(self, service: Service, max_duration_s: float) -> None:
        self._service = service
        self._max_duration_s = max_duration_s
        self._read_s = 0.0
        self._reason: AmanuensisError | None = None  # set by the event loop, once

    def stop(self, reason: AmanuensisError) -> None:
        """The work is to end with this error."""
        self._reason = self._reason or reason

    def check(self) -> None:
        """Raises the reason to end, where there is one."""
        if self._service.stopping:
            raise _restarting()
        if self._reason is not None:
            raise self._reason

    def read(self, name: str, seconds: float) -> None:
        self._read_s += seconds
        if self._read_s > self._max_duration_s:
            raise too_long(self._max_duration_s)
        self._give_way()

    def decoded(self, seconds: float) -> None:
        self._give_way()

    def telling_apart(self, name: str, share: float) -> None:
        self._give_way()

    def _give_way(self) -> None:
        patience = time.monotonic() + PATIENCE_S
        self.check()
        while self._service.scheduler.pressed and time.monotonic() < patience:
            time.sleep(GLANCE_S)
            self.check()


def _looked_at(outcome: asyncio.Future[Transcript]) -> None:
    """Where nobody waits for it any more, its error is no news."""
    if not outcome.cancelled():
        outcome.exception()


async def _until_left(request: Request, watch: _Watch, work: Future[Transcript]) -> None:
    """Ends the work when the client does not wait for it any more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    logger.info("a client left before its recording was transcribed")
    watch.stop(_left())
    work.cancel()  # where it has not begun


def _step_back() -> None:
    """This thread gets what the others leave. Elsewhere than on Linux priorities belong to whole processes."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def too_long(max_duration_s: float) -> TooLarge:
    """The refusal of a recording."""
    return TooLarge(
        f"This daemon takes recordings of up to {max_duration_s / 60:g} minutes; send it in parts, "
        "or stream it to /v1/stream."
    )


def _left() -> BadMessage:
    return BadMessage("The client left before its recording was transcribed.")


def _restarting() -> Restarting:
    return Restarting("The daemon is shutting down; send the recording again in a few seconds.")
