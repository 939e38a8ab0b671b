"""The journal alone: how long one append takes, and how many a second many sessions get together.

python benchmarks/journal.py [--seconds 3] [--sessions 32] [--durability normal|full] [--folder DIR] [--output FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from daemon.journal import Journal, SessionRecord, opened
from daemon.journal_file import Durability
from streaming.events import Final, Ledger

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom."


def final(seq: int) -> Final:
    return Final(seq=seq, utterance=seq, start=seq, end=seq + 0.9, text=TEXT, language="en")


async def speak(journal: Journal, session: str, until: float, pause_s: float = 0.0) -> list[float]:
    """Appends one final after the other -> the seconds that each took."""
    await journal.create(SessionRecord(session, None, time.time(), "", "en", "", 16_000, "{}"))
    took = []
    while time.monotonic() < until:
        began = time.perf_counter()
        await journal.append(session, [final(len(took) + 1)], 0, Ledger())
        took.append(time.perf_counter() - began)
        await asyncio.sleep(pause_s)
    return took


def percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        f"p{p}": round(1e3 * ordered[min(len(ordered) - 1, len(ordered) * p // 100)], 3) for p in (50, 95, 99)
    }


async def measure(
    folder: Path, durability: Durability, sessions: int, seconds: float, pause_s: float
) -> dict[str, Any]:
    """`sessions` sessions at once, each with one append after the other."""
    async with opened(folder / f"{sessions}-{pause_s}.db", durability) as journal:
        commits: list[float] = []
        journal.on_commit = commits.append
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(speak(journal, f"s{index}", began + seconds, pause_s))
                for index in range(sessions)
            ]
        elapsed = time.monotonic() - began
    took = [each for task in tasks for each in task.result()]
    return {
        "sessions": sessions,
        "append_ms": percentiles(took),
        "appends_per_s": round(len(took) / elapsed),
        "appends_per_commit": round(len(took) / len(commits), 1),
        "commit_ms": percentiles(commits),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--durability", choices=("normal", "full"), default="normal")
    parser.add_argument(
        "--folder", type=Path, help="where the journal is written; a temporary folder if absent"
    )
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"durability": arguments.durability}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        for what, sessions, pause_s in (
            ("one_session_at_leisure", 1, 0.02),
            ("one_session", 1, 0.0),
            ("many_sessions", arguments.sessions, 0.0),
        ):
            run = measure(Path(name), arguments.durability, sessions, arguments.seconds, pause_s)
            result[what] = asyncio.run(run)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
