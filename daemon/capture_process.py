"""One microphone in a process of its own: `python -m daemon.capture_process DEVICE` writes records to stdout.

PortAudio finds devices that come back only when it is initialised again, which closes all streams of a process,
and a device pulled out can leave it hanging. Alone in a process, it harms no other microphone and no session.
Ends when its stdin does, so it never outlives the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys
import threading
import time
from enum import IntEnum

import numpy as np

from clients.microphone import PORTAUDIO_MISSING, MicrophoneStream, rescan
from streaming.errors import CaptureError

RETRY_S = 0.4  # between two looks for a device that is not there; it must be found within a second
HEADER = struct.Struct("<BdII")  # kind, time.monotonic() at the end of what it tells, rate, bytes that follow
EXIT_NO_PORTAUDIO = 3
EXIT_STUCK = 4  # PortAudio holds on to a device that has gone


class Kind(IntEnum):
    """What a record tells."""

    OPENED = 1  # the device delivers from now on; its name follows
    AUDIO = 2  # float32 mono samples at `rate` follow
    LOST = 3  # the device cannot be used; why follows. Repeated for as long as it is so: a sign of life


def record(kind: Kind, rate: int = 0, body: bytes = b"") -> bytes:
    """One record, as of now."""
    return HEADER.pack(kind, time.monotonic(), rate, len(body)) + body


async def listen(device: str | None) -> int:
    """Listens for ever -> exit status where that makes no sense."""
    while True:
        try:
            async with MicrophoneStream(device) as microphone:
                _write(record(Kind.OPENED, microphone.rate, microphone.name.encode()))
                async for block in microphone:
                    _write(record(Kind.AUDIO, microphone.rate, block.astype(np.float32).tobytes()))
        except CaptureError as error:
            _write(record(Kind.LOST, 0, str(error).encode()))
            if str(error) == PORTAUDIO_MISSING:
                return EXIT_NO_PORTAUDIO
        await asyncio.sleep(RETRY_S)
        with contextlib.suppress(CaptureError):  # the next attempt to open says it
            if not await asyncio.to_thread(rescan):
                return EXIT_STUCK  # a device that would not close: only a new process sees others again


def _write(data: bytes) -> None:
    """Blocks while the daemon is behind; the microphone's queue counts what is lost then."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _end_with_daemon() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(0)  # PortAudio may hang; there is nothing here that needs a clean end


def main() -> None:
    """The process."""
    threading.Thread(target=_end_with_daemon, daemon=True).start()
    try:
        status = asyncio.run(listen(sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] else None))
    except (BrokenPipeError, KeyboardInterrupt):
        status = 0
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
