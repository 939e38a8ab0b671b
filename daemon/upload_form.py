"""A form with a recording in it, as it arrives: fields in memory, the recording in a temporary file."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from streaming.errors import BadMessage, ProtocolError, TimedOut, TooLarge
from streaming.events import Record
from streaming.protocol import explain

logger = logging.getLogger("amanuensis.uploads")

MAX_FIELDS = 1_100  # a vocabulary, a word a field
MAX_FIELD_BYTES = 3 << 20  # ten seconds of a voice as a data URL, uncompressed, in stereo
MAX_FIELDS_BYTES = 48 << 20  # of all of them: they are held in memory
IDLE_S = 30.0  # a client that sends nothing for so long holds a place that others wait for

T = TypeVar("T", bound=Record)


class NoRoom(ProtocolError):
    """The temporary folder is full."""

    code = "no_room"
    http_status = 507


@dataclass(frozen=True)
class Form:
    """What a client has sent."""

    file: BinaryIO
    name: str  # of the file, as the client calls it
    fields: dict[str, list[str]]  # names without a trailing []; empty values are left out

    def read(self, kind: type[T], lists: frozenset[str] = frozenset()) -> T:
        """The fields as a message of that kind; BadMessage names the field that is wrong."""
        values = {name: texts if name in lists else texts[-1] for name, texts in self.fields.items()}
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise BadMessage(explain(error), str(first["loc"][0]) if first["loc"] else None) from error


class _Parser(MultiPartParser):
    """Starlette's, which writes files to disk, with a bound on what it holds in memory."""

    def on_part_begin(self) -> None:
        self._held = getattr(self, "_held", 0) + len(self._current_part.data)
        super().on_part_begin()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        super().on_part_data(data, start, end)
        if self._held + len(self._current_part.data) > MAX_FIELDS_BYTES:
            raise MultiPartException(f"Its fields are larger than {MAX_FIELDS_BYTES >> 20} MB together.")


@asynccontextmanager
async def received(request: Request, max_bytes: int) -> AsyncIterator[Form]:
    """The form of a request, for the length of a block; nothing of it is left then.

    TooLarge as soon as that is known, BadMessage where it is no form or holds no `file`, NoRoom.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadMessage("Send the recording as multipart/form-data, in a field named file.", "file")
    parser = _Parser(
        request.headers,
        _counted(request, max_bytes),
        max_files=1,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadMessage(f"The form cannot be read: {error.message}", None) from error
    except ClientDisconnect as error:
        raise BadMessage("The client left before its recording was here.") from error
    except OSError as error:
        if is_full(error):
            raise no_room() from error
        raise
    try:
        yield _sorted(list(form.multi_items()))
    finally:
        for _, value in form.multi_items():
            if isinstance(value, UploadFile):
                value.file.close()  # by itself: a task that is cancelled would not wait for its turn


def _sorted(items: list[tuple[str, UploadFile | str]]) -> Form:
    fields: dict[str, list[str]] = {}
    upload: UploadFile | None = None
    for name, value in items:
        if isinstance(value, UploadFile):
            if name != "file":
                raise BadMessage(f"{name}: the recording belongs in the field named file.", name)
            upload = value
        elif value != "":
            fields.setdefault(name.removesuffix("[]"), []).append(value)
    if upload is None:
        raise BadMessage("file: there is no recording in the request.", "file")
    return Form(upload.file, upload.filename or "recording", fields)


async def _counted(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    received_bytes = 0
    chunks = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise TimedOut(f"Nothing came for {IDLE_S:.0f} s; send the recording again.") from error
        received_bytes += len(chunk)
        if received_bytes > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


def is_full(error: BaseException | None) -> bool:
    """It says that a disk is."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def no_room() -> NoRoom:
    """The refusal, which is in the log as well: somebody has to make room."""
    logger.error("the temporary folder is full: uploads are refused")
    return NoRoom("The daemon has no room for this recording now; try again later.")


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(
        f"This daemon takes recordings of up to {max_bytes / 1e6:.0f} MB; compress it, or send it in parts."
    )
