"""Niceness: threads whose work can wait, so that live sessions go on as if there were none of it."""

from __future__ import annotations

import os
import sys
import threading

# A lower priority would starve a thread that holds the interpreter's lock, and with it everybody.
NICENESS = 10


def step_back() -> None:
    """This thread gets what the others leave. Elsewhere than on Linux priorities belong to whole processes."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
