"""The section of the configuration about recordings that are sent over HTTP."""

from __future__ import annotations

from pydantic import Field

from daemon.section import Positive, Section


class UploadLimits(Section):
    """Recordings sent over HTTP. Live sessions go first: these are transcribed with what they leave."""

    max_bytes: int = Field(default=1 << 30, ge=1_024)
    """Largest upload; a larger one is refused with 413. It lies in the temporary folder ($TMPDIR) meanwhile."""

    max_duration_s: Positive = 7_200.0
    """Longest recording; a longer one is refused with 413. With speaker labels an hour takes 230 MB of memory."""

    at_once: int = Field(default=1, ge=1, le=64)
    """Recordings transcribed at the same time, each on a thread of its own with low priority."""

    waiting: int = Field(default=4, ge=0, le=1_000)
    """Uploads, jobs among them, that may wait for their turn; the next one is refused with 429."""

    keep_jobs: int = Field(default=100, ge=1, le=10_000)
    """Jobs that are over and whose results can still be fetched; beyond that the oldest is forgotten."""

    keep_jobs_s: Positive = 3_600.0
    """How long a result can be fetched, unless the daemon is restarted: it is kept in memory only."""

    keep_jobs_bytes: int = Field(default=64 << 20, ge=1 << 20)
    """Memory for all results together; beyond that the oldest is forgotten."""
