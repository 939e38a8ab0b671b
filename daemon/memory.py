"""Memory: what was freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Has the C library return the pages nobody uses. glibc keeps them for itself otherwise, hundreds of megabytes of a
    model that is gone; elsewhere this does nothing. https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none, and keeps less
        if trim is not None:
            trim(ctypes.c_size_t(0))
