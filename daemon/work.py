"""The work on one recording: what a thread does for it, how far that is, and how it is ended.

A thread of low priority transcribes batch by batch. Between batches it lets sessions that wait for a worker go first,
and looks whether anybody still wants the result.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from daemon.asked import Asked
from daemon.models import Lease
from daemon.upload_form import Form, is_full, no_room
from npu.transcriber import Transcriber
from npu.transcripts import Progress, SpeakersWanted, Transcript, Unreadable, Wanted, transcripts
from streaming.errors import AmanuensisError, AudioError, BadMessage, Restarting, TooLarge, internal
from streaming.events import Final
from streaming.recorded import decode_recording, seconds_of_recording

if TYPE_CHECKING:
    from daemon.service import Service

logger = logging.getLogger("amanuensis.uploads")

BLOCK_S = 1.0  # audio decoded at a time: between two blocks others can have the interpreter
PATIENCE_S = 2.0  # live sessions go first for so long; then a batch is due, or an upload might never end
GLANCE_S = 0.01  # between looks whether they still wait
NEWS_S = 0.25  # between two reports of progress
DECODING = 0.1  # of the work where speakers are told apart, roughly
SETTLED_S = 0.5  # before that a speed means nothing


class Phase(StrEnum):
    """Where the work stands."""

    WAITING = "waiting"  # others go first
    TRANSCRIBING = "transcribing"
    DIARIZING = "diarizing"
    OVER = "over"


@dataclass(frozen=True)
class Standing:
    """How far the work is."""

    phase: Phase
    share: float | None  # 0..1 of all work; None where the recording does not say how long it is
    duration_s: float | None  # of the recording, as far as it says
    read_s: float  # audio decoded from the file
    transcribed_s: float  # of it, text
    diarized: float | None  # 0..1 of telling speakers apart; None where nobody asked for it
    elapsed_s: float  # since it was begun
    speed: float | None  # seconds of audio transcribed in a second
    remaining_s: float | None  # at the speed so far


class Work(Progress):
    """One recording. Its thread and the event loop share it: each number is written by one of them only."""

    def __init__(
        self,
        service: Service,
        form: Form,
        asked: Asked,
        lease: Lease,
        speakers: Callable[[Asked], SpeakersWanted],
    ) -> None:
        """speakers: loads, where need be, what tells speakers apart; called in the thread. BadMessage as `manner`."""
        self.asked = asked
        self.file_name = form.name
        self._lease = lease
        self.output_tokens = 0  # of the text so far
        self.on_news: Callable[[], None] = lambda: (
            None
        )  # called on the event loop when there is some progress
        self.on_said: Callable[[Final], None] = lambda _: None  # with each utterance that has its text
        self.on_end: Callable[[], None] = lambda: None  # and once there is a result
        self._manner = asked.manner(lease.transcriber)
        self._service = service
        self._form = form
        self._speakers = speakers
        self._loop = asyncio.get_running_loop()
        self._max_duration_s = service.config.uploads.max_duration_s
        self._future: Future[Transcript] | None = None
        self._over = asyncio.Event()
        self._done = False  # it is over, and there is a transcript
        self._phase = Phase.WAITING
        self._duration_s: float | None = None
        self._read_s = self._transcribed_s = self._told = 0.0
        self._begun = self._diarizing_since = 0.0  # monotonic
        self._told_at = 0.0  # when news were last given
        self._reason: AmanuensisError | None = None  # to end; set by the event loop, once

    # the event loop's side

    def submit(self, executor: Executor) -> None:
        """It is done when its turn comes."""
        self._future = executor.submit(self._run)
        self._future.add_done_callback(lambda _: self._report(self._end))

    @property
    def transcriber(self) -> Transcriber:
        """The model that does it."""
        return self._lease.transcriber

    @property
    def waiting(self) -> bool:
        """Its turn has not come yet."""
        return self._phase is Phase.WAITING

    async def ended(self) -> None:
        """Returns when there is a result, whatever it is. If this is cancelled, the thread ends by itself."""
        await self._over.wait()

    def result(self) -> Transcript:
        """Of work that has ended. BadMessage where the file is no audio, TooLarge, or what it was ended with."""
        assert self._future is not None
        if self._future.cancelled():
            raise self._reason or _restarting()
        try:
            return self._future.result(0)
        except AmanuensisError:
            raise
        except Exception as error:
            logger.exception("a recording could not be transcribed")
            raise internal(error) from error

    def stop(self, reason: AmanuensisError) -> None:
        """It is to end with this error, without effect on what is over."""
        self._reason = self._reason or reason
        if self._future is not None:
            self._future.cancel()  # where it has not begun

    @property
    def standing(self) -> Standing:
        """As of now."""
        wanted = self.asked.speakers
        elapsed_s = time.monotonic() - self._begun if self._begun else 0.0
        share = None
        if self._done:
            share = 1.0
        elif self._duration_s:
            text = min(1.0, self._transcribed_s / self._duration_s)
            share = DECODING * text + (1 - DECODING) * self._told if wanted else text
        fast = elapsed_s > SETTLED_S and self._transcribed_s > 0
        return Standing(
            phase=self._phase,
            share=share,
            duration_s=self._duration_s,
            read_s=self._read_s,
            transcribed_s=self._transcribed_s,
            diarized=self._told if wanted else None,
            elapsed_s=elapsed_s,
            speed=self._transcribed_s / (self._text_s() or elapsed_s) if fast else None,
            remaining_s=self._remaining_s(share, elapsed_s),
        )

    def _text_s(self) -> float:
        """How long the text took, once it is there."""
        return self._diarizing_since - self._begun if self._diarizing_since else 0.0

    def _remaining_s(self, share: float | None, elapsed_s: float) -> float | None:
        if self._phase is Phase.OVER:
            return 0.0
        if self._phase is Phase.DIARIZING:
            share, elapsed_s = self._told, time.monotonic() - self._diarizing_since
        return elapsed_s * (1 - share) / share if share and elapsed_s > SETTLED_S else None

    # the thread's side

    def _run(self) -> Transcript:
        self.check()
        self._begun = time.monotonic()
        self._phase = Phase.TRANSCRIBING
        self._report(self._tell)
        try:
            self._measure()
            outcome = self._transcribed()
            if isinstance(outcome, Unreadable):
                raise outcome.error
        except AudioError as error:
            if is_full(error.__cause__):
                raise no_room() from error
            raise BadMessage(f"file: {error}", "file") from error
        elapsed = time.monotonic() - self._begun
        logger.info("a recording of %.0f s was transcribed in %.1f s", outcome.duration_s, elapsed)
        return outcome

    def _measure(self) -> None:
        """What the header tells is refused before anything is decoded."""
        file = self._form.file
        self._duration_s = seconds_of_recording(file)
        file.seek(0)
        if self._duration_s is not None and self._duration_s > self._max_duration_s:
            raise too_long(self._max_duration_s)

    def _transcribed(self) -> Transcript | Unreadable:
        config, asked = self._service.config, self.asked
        wanted = Wanted(
            self._manner,
            words=asked.words,
            evidence=asked.evidence,
            speakers=self._speakers(asked) if asked.speakers else None,
            speech=config.speech.session(),
            vad=config.speech.vad(),
        )
        source = (self._form.name, decode_recording(self._form.file, BLOCK_S))
        judges = self._service.engine.judges
        made = transcripts([source], self.transcriber, judges, wanted, self, pool_s=asked.pool_s)
        with closing(cast(Generator[Transcript | Unreadable], made)):  # its threads and files end here
            return next(made)

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
        self._progress()

    def said(self, name: str, final: Final) -> None:
        if final.evidence is not None:
            self.output_tokens += len(final.evidence.tokens)
        self._report(lambda: self.on_said(final))

    def decoded(self, seconds: float) -> None:
        self._transcribed_s = seconds
        self._progress()

    def telling_apart(self, name: str, share: float) -> None:
        if self._phase is not Phase.DIARIZING:
            self._transcribed_s = self._read_s
            self._phase, self._diarizing_since = Phase.DIARIZING, time.monotonic()
        self._told = share
        self._progress()

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= NEWS_S:
            self._told_at = now
            self._report(self._tell)
        self._give_way()

    def _give_way(self) -> None:
        patience = time.monotonic() + PATIENCE_S
        self.check()
        while self._service.scheduler.pressed and time.monotonic() < patience:
            time.sleep(GLANCE_S)
            self.check()

    def _tell(self) -> None:
        self.on_news()

    def _end(self) -> None:
        self._phase = Phase.OVER
        if self._future is not None and not self._future.cancelled() and self._future.exception() is None:
            self._done, self._told, self._transcribed_s = True, 1.0, self._read_s
        self._over.set()
        self.on_end()

    def _report(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            logger.debug("news of a recording came after the event loop had closed")


def too_long(max_duration_s: float) -> TooLarge:
    """The refusal of a recording."""
    return TooLarge(
        f"This daemon takes recordings of up to {max_duration_s / 60:g} minutes; send it in parts, "
        "or stream it to /v1/stream."
    )


def _restarting() -> Restarting:
    return Restarting("The daemon is shutting down; send the recording again in a few seconds.")
