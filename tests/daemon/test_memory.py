"""Memory that is given back."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import pytest

from daemon.memory import give_back

BLOCK = 64 << 10  # bytes: too small to be a mapping of its own, which is returned anyway
COUNT = 1_600


def _resident() -> int:
    """Bytes of this process in memory."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) << 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")
def test_what_was_freed() -> None:
    """Is not the process's any more, although blocks in between are still in use."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [library.malloc(ctypes.c_size_t(BLOCK)) for _ in range(COUNT)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    kept = blocks.pop()
    for block in blocks:
        library.free(block)
    full = _resident()
    give_back()
    given = full - _resident()
    library.free(kept)
    assert given > BLOCK * COUNT // 2
