"""The demonstration, with and without a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SUMMARY = r"(\d+) finals, latency p50 (\d+) ms, (\d\.\d+) CPU seconds per second of audio"


def _check(summary: str) -> None:
    found = re.search(SUMMARY, summary)
    assert found, summary
    assert int(found[1]) >= 8


def test_both_ways() -> None:
    """It ends by itself with 0 and a summary; plain lines in a pipe, captions that move in a terminal.

    Both at once, since each takes the half minute that the recording does.
    """
    command = [sys.executable, "-m", "daemon.demo"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    piped = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    terminal, inner = pty.openpty()
    shown = subprocess.Popen(command, env=env, stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    screen: list[bytes] = []
    reader = threading.Thread(target=_read, args=(terminal, screen))
    reader.start()
    with piped, shown:
        out, err = piped.communicate(timeout=90)
        assert shown.wait(60) == 0
    reader.join(10)
    os.close(terminal)
    assert piped.returncode == 0, err
    assert "\x1b" not in out and "Do you hear me" in out
    _check(err)
    text = b"".join(screen).decode()
    assert "\x1b[2;3m" in text, "text that may still change is dim"
    assert "00:28" in text, "the length of the recording"
    _check(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]+", "", text).replace("  ", " "))


def _read(terminal: int, screen: list[bytes]) -> None:
    while True:
        try:
            data = os.read(terminal, 65_536)
        except OSError:  # nobody writes to it any more
            return
        if not data:
            return
        screen.append(data)
