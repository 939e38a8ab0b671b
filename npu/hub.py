"""The Hugging Face hub, over huggingface_hub: what a repository holds, and its files.

It honours HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN (or what `hf auth login` has stored). Of its two ways to a file
this uses the HTTP one with ranges, which goes on where it was interrupted; the other begins anew.
https://huggingface.co/docs/huggingface_hub
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from streaming.errors import ModelError

PATIENCE_S = 20.0  # for the hub to say what a repository holds
BLOCK = 1 << 20  # bytes that come at a time: what an interruption costs, and how smooth progress is
_UNASKED = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # it would report, and draw


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    name: str  # within the repository, with slashes
    size: int  # bytes
    hash: str  # 64 hex digits: SHA-256 of its content; 40: what git calls it (see `manifest.git_sha1_of`)


@dataclass(frozen=True)
class Listing:
    """A repository as it was at one commit."""

    repository: str
    commit: str  # 40 hex digits
    files: tuple[HubFile, ...]


def describe(repository: str, revision: str | None = None) -> Listing:
    """What a repository holds at a branch, tag or commit (None: its main branch); ModelError says what to do."""
    library = _library()
    with _translated(repository, revision):
        info = library.HfApi().model_info(
            repository, revision=revision, files_metadata=True, timeout=PATIENCE_S
        )
    return Listing(repository, info.sha, tuple(_file(each) for each in info.siblings or ()))


def fetch(listing: Listing, file: HubFile, target: Path, advance: Callable[[int], None]) -> None:
    """Fetches the rest of a file: what `target` holds is taken for its beginning.

    advance: gets the bytes as they come, negative ones where the hub begins anew. What has come stays in `target`
    whatever happens. ModelError where the hub fails; OSError where the disk does.
    """
    library = _library()
    url = library.hf_hub_url(listing.repository, file.name, revision=listing.commit)
    headers = {**library.utils.build_hf_headers(), "Accept-Encoding": "identity"}  # ranges of the file itself
    with target.open("ab") as stream, _translated(listing.repository, listing.commit):
        here = stream.tell()
        library.file_download.http_get(
            url, _Watched(stream, advance), resume_size=here, headers=headers, expected_size=file.size
        )


def endpoint() -> str:
    """Where the hub is looked for."""
    return str(_library().constants.ENDPOINT)


class _Watched:
    """A file that tells of what is written to it."""

    def __init__(self, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        self._stream = stream
        self._advance = advance

    def write(self, data: bytes) -> int:
        written = self._stream.write(data)
        self._advance(written)
        return written

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, position: int) -> int:
        return self._stream.seek(position)

    def truncate(self) -> int:
        kept = self._stream.tell()
        self._advance(kept - self._stream.seek(0, os.SEEK_END))
        self._stream.seek(kept)
        return self._stream.truncate()


@contextmanager
def _translated(repository: str, revision: str | None) -> Iterator[None]:
    """Turns what huggingface_hub and its HTTP client raise into a sentence. The disk's errors pass."""
    from huggingface_hub import errors

    transport: type[Exception] = errors.HfHubHTTPError.__mro__[1]  # of whichever HTTP client it uses
    try:
        yield
    except (OSError, ValueError, errors.EntryNotFoundError, transport) as error:
        if type(error) is OSError and error.errno is not None:  # those of the network are subclasses
            raise
        raise ModelError(_sentence(error, repository, revision)) from error


def _sentence(error: Exception, repository: str, revision: str | None) -> str:
    from huggingface_hub import errors

    hub = endpoint()
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            "HF_HUB_OFFLINE is set, so nothing is fetched. Unset it, or name the folder of a checkpoint that was copied"
            " here; models that are installed go on working."
        )
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return (
            f"{repository} asks for its conditions to be accepted: do so at {hub}/{repository}, make a token at"
            f" {hub}/settings/tokens and set HF_TOKEN to it."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}; {hub}/{repository}/commits/main lists them."
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return (
            f"The hub at {hub} has no {repository} for everybody; check the name. If it is private, set HF_TOKEN to a"
            " token of an account that may read it."
        )
    if status == 429:
        return f"The hub at {hub} takes no more requests for now; try again in some minutes, or set HF_TOKEN."
    if status is not None:
        return f"The hub at {hub} answered with status {status}; try again later."
    return (
        f"{repository} could not be had from the hub at {hub} ({_first_line(error)}). Try again with a network; without"
        " one, name the folder of a checkpoint that was copied here. Models that are installed go on working."
    )


def _file(sibling: Any) -> HubFile:
    lfs = sibling.lfs  # large files are known by the hash of their content, others by git's
    return HubFile(
        sibling.rfilename, int((lfs or sibling).size or 0), str(lfs.sha256 if lfs else sibling.blob_id or "")
    )


def _library() -> Any:
    """huggingface_hub, without what it would say and show by itself."""
    os.environ.update(
        {name: os.environ.get(name, value) for name, value in _UNASKED.items()}
    )  # read at import
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.file_download
    import huggingface_hub.utils

    huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = BLOCK
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each attempt
    return huggingface_hub


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
