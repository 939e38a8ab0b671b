"""Speaker labels of live captions, from a daemon at real-time speed: words with the right speaker, and when.

    python benchmarks/labels.py [--rounds 1] [--output FILE]

The meeting of `shared` is streamed with labels and without, in turn. cpWER is compared with the same words under the
true turns, so that what is left over is the labels' part. Latencies count from a turn's true start to the first label
on any text of it; text latency is that of finals, with labels against without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import meeteval
from clips import SAMPLE_RATE, SHARED, Clip, normalise
from daemon_process import running
from meetings import Meeting, meetings
from streamer import Heard, percentile, stream

from streaming.attribution import attribute
from streaming.events import DurableEvent, SpokenWord, Utterance, parse_event
from streaming.transcript import apply
from streaming.turns import Turn


def transcript(heard: Heard) -> list[Utterance]:
    """What the session came to."""
    durable: list[DurableEvent] = [
        event  # type: ignore[misc]
        for _, raw in heard.events
        if (event := parse_event(json.dumps(raw))).durable
    ]
    return apply(durable)


def error_rates(meeting: Meeting, spoken: Mapping[str, Sequence[SpokenWord]]) -> dict[str, float]:
    """cpWER, and tcpWER with five seconds of tolerance, of words by speaker."""
    said = [
        (who, word.start, word.end, text)
        for who, words in spoken.items()
        for word in words
        if (text := " ".join(normalise(word.text)))
    ]
    true, found = (
        meeteval.io.SegLST(
            [
                {
                    "session_id": meeting.name,
                    "speaker": who,
                    "start_time": start,
                    "end_time": end,
                    "words": text,
                }
                for who, start, end, text in sorted(lines, key=lambda line: line[1])
            ]
        )
        for lines in (reference(meeting), said)
    )
    plain = meeteval.wer.cpwer(true, found)[meeting.name]
    timed = meeteval.wer.tcpwer(true, found, collar=5)[meeting.name]
    return {"cpwer": plain.error_rate, "tcpwer": timed.error_rate}


def reference(meeting: Meeting) -> list[tuple[str, float, float, str]]:
    """Speaker, start, end and words of each utterance."""
    lines = []
    for line in (SHARED / "meetings" / f"{meeting.name}.stm").read_text().splitlines():
        _, _, who, start, end, text = line.split(maxsplit=5)
        lines.append((who, float(start), float(end), " ".join(normalise(text))))
    return lines


def true_turns(meeting: Meeting) -> list[Turn]:
    names = sorted(meeting.truth.labels())
    return [
        Turn(
            round(segment.start * SAMPLE_RATE), round(segment.end * SAMPLE_RATE), names.index(who), True, None
        )
        for segment, _, who in meeting.truth.itertracks(yield_label=True)
    ]


def label_latencies(meeting: Meeting, heard: Heard) -> list[float]:
    """From the start of each turn to the first label on a text that overlaps it; infinite where none came."""
    spans: dict[int, tuple[float, float]] = {}
    labelled: list[tuple[float, float, float]] = []  # when, and of what stretch
    for at, event in heard.events:
        if event["type"] in ("partial", "final"):
            spans[event["utterance"]] = event["start"], event["end"]
        if event["type"] in ("partial", "final", "revise") and event.get("speaker"):
            labelled.append((at, *spans[event["utterance"]]))
            labelled += [
                (at, line["start"], line["end"]) for line in event.get("split", ()) if "speaker" in line
            ]
    found = []
    for segment, _ in meeting.truth.itertracks():
        on_it = [at for at, start, end in labelled if start < segment.end and end > segment.start + 0.2]
        found.append(min((at for at in on_it if at > segment.start), default=float("inf")) - segment.start)
    return found


def assess(meeting: Meeting, heard: Heard) -> dict[str, Any]:
    """All figures of a labelled run."""
    lines = transcript(heard)
    mine: dict[str, list[SpokenWord]] = defaultdict(list)
    for line in lines:
        mine[line.speaker.id if line.speaker else "nobody"] += line.words or ()
    words = sorted((word for said in mine.values() for word in said), key=lambda word: word.start)
    oracle: dict[str, list[SpokenWord]] = defaultdict(list)
    for part in attribute(words, true_turns(meeting)):
        oracle[str(part.speaker)] += part.words
    revisions = [event for _, event in heard.of("revise")]
    ours, ideal = error_rates(meeting, mine), error_rates(meeting, oracle)
    latencies = label_latencies(meeting, heard)
    return {
        "cpwer": ours["cpwer"],
        "cpwer_true_turns": ideal["cpwer"],
        "tcpwer": ours["tcpwer"],
        "tcpwer_true_turns": ideal["tcpwer"],
        "points_above": 100 * (ours["cpwer"] - ideal["cpwer"]),
        "speakers": sorted(who for who in mine if who != "nobody"),
        "unlabelled_lines": sum(line.speaker is None for line in lines),
        "lines": len(lines),
        "first_label_s": {p: percentile(latencies, int(p[1:])) for p in ("p50", "p90")},
        "revisions_a_minute": 60 * len(revisions) / meeting.seconds,
        "revisions_of_a_line": dict(Counter(Counter(event.get("utterance") for event in revisions).values())),
        "reasons": dict(Counter(event["reason"] for event in revisions)),
    }


def benchmark(meeting: Meeting, rounds: int) -> dict[str, Any]:
    clip = Clip(meeting.name, meeting.samples, ())
    latency: dict[bool, list[float]] = {False: [], True: []}
    cpu: dict[bool, list[float]] = {False: [], True: []}
    assessed = []
    with running() as daemon:
        for number in range(rounds):
            for labels in (False, True):
                before = daemon.cpu_s()
                heard = asyncio.run(stream(daemon.websocket, clip, diarize=labels, words=labels))
                cpu[labels].append((daemon.cpu_s() - before) / meeting.seconds)
                latency[labels] += heard.final_latencies()
                if labels:
                    assessed.append(assess(meeting, heard))
            print(f"round {number + 1}: {json.dumps(assessed[-1])}", flush=True)
    text = {
        p: {
            name: round(1000 * percentile(latency[labels], int(p[1:])))
            for name, labels in (("without", False), ("with", True))
        }
        for p in ("p50", "p95")
    }
    return {
        "audio_s": meeting.seconds,
        "rounds": rounds,
        "runs": assessed,
        "final_latency_ms": text,
        "cpu_per_audio_s": {
            name: statistics.median(cpu[labels]) for name, labels in (("without", False), ("with", True))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    meeting = next(each for each in meetings() if (SHARED / "meetings" / f"{each.name}.stm").is_file())
    result = json.dumps(benchmark(meeting, arguments.rounds), indent=2)
    print(result)
    if arguments.output:
        arguments.output.write_text(result + "\n")


if __name__ == "__main__":
    main()
