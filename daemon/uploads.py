"""Uploads: recordings that clients send to be transcribed, one after the other, behind the live sessions.

An upload has a place from when its form begins to arrive until its work has ended, whoever waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from starlette.requests import Request

from daemon.asked import Asked
from daemon.models import Lease
from daemon.niceness import step_back
from daemon.upload_form import Form, received
from daemon.work import Work
from npu.diarizer import EmbeddedDiarizer, load_embedded, recogniser
from npu.transcripts import SpeakersWanted, Transcript
from streaming.errors import AmanuensisError, BadMessage, Restarting, UploadsFull

if TYPE_CHECKING:
    from daemon.service import Service

logger = logging.getLogger("amanuensis.uploads")

RETRY_AFTER_S = 15.0


class Uploads:
    """All uploads of a daemon. Belongs to the event loop."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.limits = service.config.uploads
        self._places = self.limits.at_once + self.limits.waiting
        self._taken = 0
        self._line: list[Work] = []  # submitted, in the order of their turns
        self._executor = ThreadPoolExecutor(self.limits.at_once, "upload", initializer=step_back)
        self._loading = threading.Lock()
        self._diarizer: EmbeddedDiarizer | None = None

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[Form]:
        """A client's form, which has a place in the queue for the length of the block. UploadsFull, and as `received`."""
        if self.service.stopping:
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

    @asynccontextmanager
    async def submitted(self, request: Request, form: Form, asked: Asked) -> AsyncIterator[Work]:
        """The work on a received form, in the queue; leaving the block ends it, and waits for the batch in hand.

        Everything that can be known beforehand is refused here: BadMessage, UnknownModel, ModelsFull; ModelError. The
        client may leave while its model is loaded: BadMessage.
        """
        with ExitStack() as held:
            lease = await self._lease(request, asked.model, held)
            work = Work(self.service, form, asked, lease, self._speakers)
            self._line.append(work)
            try:
                work.submit(self._executor)
                yield work
            finally:
                work.stop(_restarting())
                if (
                    not self.service.stopping
                ):  # then nobody needs its place, and the process ends with its threads
                    await work.ended()
                self._line.remove(work)
                self.moved()

    async def transcribe(self, request: Request, form: Form, asked: Asked) -> Transcript:
        """The transcript of a received form, once it is its turn; the work ends when the client leaves.

        As `submitted`, and BadMessage where the file is no audio; TooLarge.
        """
        async with self.submitted(request, form, asked) as work:
            async with asyncio.TaskGroup() as tasks:
                leaving = tasks.create_task(_until_left(request, work), name="upload's client")
                await work.ended()
                leaving.cancel()
            return work.result()

    async def _lease(self, request: Request, model: str | None, held: ExitStack) -> Lease:
        """The model, for as long as it is `held`."""

        async def ask() -> Lease | AmanuensisError:
            try:
                return held.enter_context(await self.service.models.lease(model))
            except AmanuensisError as error:  # as it is, and not in a group
                return error

        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(ask(), name="upload's model")
            leaving = tasks.create_task(_left(request), name="upload's client")
            await asyncio.wait((asking, leaving), return_when=asyncio.FIRST_COMPLETED)
            gone = not asking.done()
            asking.cancel()
            leaving.cancel()
        if gone:
            raise _gone()
        outcome = asking.result()
        if isinstance(outcome, AmanuensisError):
            raise outcome
        return outcome

    def position(self, work: Work) -> int | None:
        """1: next; None where its turn has come."""
        waiting = [each for each in self._line if each.waiting]
        return waiting.index(work) + 1 if work in waiting else None

    def moved(self) -> None:
        """Places in the queue have changed."""
        for each in self._line:
            if each.waiting:
                each.on_news()

    def _speakers(self, asked: Asked) -> SpeakersWanted:
        """In a thread of the executor."""
        diarizer = self._embedded()
        enrolled = () if asked.known else self.service.speakers.known  # who names people means just them
        recognise = recogniser(diarizer, asked.known, enrolled)
        return SpeakersWanted(diarizer, asked.min_speakers, asked.max_speakers, recognise)

    def _embedded(self) -> EmbeddedDiarizer:
        """Over the networks that live sessions use; loaded when first asked for where there are none."""
        with self._loading:
            if self._diarizer is None:
                engine, cache = self.service.engine, self.service.config.model.cache_path
                self._diarizer = (
                    EmbeddedDiarizer(engine.voices, engine.judges)
                    if engine.voices
                    else load_embedded(cache, logger.info)
                )
            return self._diarizer


async def _until_left(request: Request, work: Work) -> None:
    """Ends the work when the client does not wait for it any more."""
    await _left(request)
    work.stop(_gone())


async def _left(request: Request) -> None:
    """Returns when the client of a request, all of which is here, has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    logger.info("a client left before its recording was transcribed")


def _gone() -> BadMessage:
    return BadMessage("The client left before its recording was transcribed.")


def _restarting() -> Restarting:
    return Restarting("The daemon is shutting down; send the recording again in a few seconds.")
