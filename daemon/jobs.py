"""Jobs: recordings whose transcripts are fetched later. They are in memory only, and end with the daemon."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from contextlib import AsyncExitStack
from enum import StrEnum
from typing import Any

from starlette.requests import Request

from daemon.asked import Asked
from daemon.refusals import refusal
from daemon.upload_form import Form
from daemon.uploads import Uploads
from daemon.work import Standing, Work
from npu.transcripts import Transcript
from streaming.errors import AmanuensisError, BadMessage, JobCancelled, UnknownJob


class State(StrEnum):
    """What has become of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Job:
    """One of them. Belongs to the event loop."""

    def __init__(self, file: str, model: str, words: bool) -> None:
        self.id = secrets.token_hex(12)
        self.file = file  # as the client calls it
        self.model = model
        self.created = time.time()
        self.ended: float | None = None  # unix seconds, as `created`
        self.state = State.QUEUED
        self.revision = 1  # grows with every change
        self.result: bytes | None = None  # JSON, where it is done
        self._words = words
        self._error: dict[str, Any] | None = None  # where it is not
        self._position: int | None = None
        self._standing: Standing | None = None
        self._changed = asyncio.Event()

    @property
    def over(self) -> bool:
        """Nothing will change any more."""
        return self.state in (State.DONE, State.FAILED, State.CANCELLED)

    async def news(self, after: int) -> bool:
        """True once its revision is higher than that."""
        while self.revision <= after:
            await self._changed.wait()
        return True

    def receive_standing(self, standing: Standing, position: int | None) -> None:
        """How far its work is; position: in the queue, None where its turn has come."""
        if not self.over:
            self._standing, self._position = standing, position
            self.state = State.RUNNING if position is None else State.QUEUED

    def tell(self) -> None:
        """Whoever follows it is to know."""
        self.revision += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def receive_transcript(self, standing: Standing, transcript: Transcript) -> None:
        """It is done."""
        if not self.over:
            self.result = json.dumps(transcript.summary(self._words), ensure_ascii=False).encode()
            self._end(State.DONE, standing)

    def receive_failure(self, standing: Standing, error: AmanuensisError) -> None:
        """It will not be done."""
        if not self.over:
            answer = refusal(error, error.param if isinstance(error, BadMessage) else None)
            self._error = json.loads(bytes(answer.body))["error"]
            self._end(State.CANCELLED if isinstance(error, JobCancelled) else State.FAILED, standing)

    def summary(self) -> dict[str, Any]:
        """Without its result."""
        return {
            "id": self.id,
            "state": self.state,
            "position": self._position,
            "file": self.file,
            "model": self.model,
            "created": round(self.created, 3),
            "ended": None if self.ended is None else round(self.ended, 3),
            "progress": None if self._standing is None else _rounded(self._standing),
            "error": self._error,
        }

    def to_json(self) -> str:
        """All of it; the result last."""
        summary = json.dumps(self.summary(), ensure_ascii=False)
        return f'{summary[:-1]}, "result": {"null" if self.result is None else self.result.decode()}}}'

    def _end(self, state: State, standing: Standing) -> None:
        self.state, self.ended = state, time.time()
        self._standing, self._position = standing, None
        self.tell()


class Jobs:
    """All jobs of a daemon. Belongs to the event loop."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._limits = uploads.limits
        self._jobs: dict[str, Job] = {}  # the oldest first
        self._works: dict[str, Work] = {}  # of those that are not over

    async def begin(self, request: Request, form: Form, asked: Asked, held: AsyncExitStack) -> Job:
        """A job for a received form, which `held` keeps; the job has it from then on. Errors as `Uploads.submitted`."""
        work = await held.enter_async_context(self._uploads.submitted(request, form, asked))
        job = Job(form.name, work.transcriber.name, asked.words)
        self._jobs[job.id], self._works[job.id] = job, work
        work.on_news = lambda: self._receive_news(job)
        self._look(job)
        self._uploads.service.begin(self._run(job, work, held.pop_all()), name=f"job {job.id}")
        return job

    def all(self) -> list[Job]:
        """The newest first, as they stand now."""
        for job in self._jobs.values():
            self._look(job)
        return list(reversed(self._jobs.values()))

    def get(self, name: str) -> Job:
        """As it stands now; UnknownJob where there is none."""
        if (job := self._jobs.get(name)) is None:
            raise UnknownJob(
                "There is no such job: it was cancelled, its result has expired, or the daemon was restarted."
            )
        self._look(job)
        return job

    def cancel(self, name: str) -> None:
        """Ends its work, if it is not over, and forgets it; UnknownJob."""
        job = self.get(name)
        del self._jobs[name]
        if (work := self._works.get(name)) is not None:
            error = JobCancelled("The job was cancelled.")
            work.stop(error)
            job.receive_failure(work.standing, error)

    async def _run(self, job: Job, work: Work, held: AsyncExitStack) -> None:
        """held: the form, and its place in the queue, until the work has ended."""
        try:
            async with held:
                await work.ended()
                job.receive_transcript(work.standing, work.result())
        except AmanuensisError as error:
            job.receive_failure(work.standing, error)
        finally:
            del self._works[job.id]
            self._tidy()
            asyncio.get_running_loop().call_later(self._limits.keep_jobs_s, self._jobs.pop, job.id, None)

    def _receive_news(self, job: Job) -> None:
        self._look(job)
        if not job.over:
            job.tell()

    def _look(self, job: Job) -> None:
        if (work := self._works.get(job.id)) is not None:
            job.receive_standing(work.standing, self._uploads.position(work))

    def _tidy(self) -> None:
        """Forgets the oldest that are over while they are too many, or too large together."""
        over = [job for job in self._jobs.values() if job.over]
        size = sum(len(job.result or b"") for job in over)
        count = len(over)
        for job in over:
            if count <= self._limits.keep_jobs and size <= self._limits.keep_jobs_bytes:
                return
            del self._jobs[job.id]
            size, count = size - len(job.result or b""), count - 1


def _rounded(standing: Standing) -> dict[str, Any]:
    found: dict[str, Any] = {"phase": standing.phase}
    for name in (
        "share",
        "duration_s",
        "read_s",
        "transcribed_s",
        "diarized",
        "elapsed_s",
        "speed",
        "remaining_s",
    ):
        value = getattr(standing, name)
        found[name] = None if value is None else round(value, 3)
    return found
