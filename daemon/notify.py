"""Telling systemd how the daemon is (sd_notify), where systemd started it."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Sends READY=1, STOPPING=1, WATCHDOG=1 or STATUS=...; False where nobody listens. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto(state.encode(), address)
    except OSError:
        return False  # a supervisor that does not listen must not stop the daemon
    return True


def watchdog_period() -> float | None:
    """Seconds between two WATCHDOG=1 that keep the supervisor content; None where it does not watch."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    meant_for = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or int(microseconds) == 0 or meant_for != str(os.getpid()):
        return None
    return int(microseconds) / 2e6  # half of what is allowed
