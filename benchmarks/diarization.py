"""Who speaks when, live and afterwards: errors, latency, revisions, CPU and memory of the diarizer.

    python benchmarks/diarization.py [--library] [--soak] [--output FILE]

Live, audio arrives in 100 ms blocks on a virtual clock; detector, diarizer and models are the daemon's, and a job's
answer comes back when the CPU time it took has passed. Recordings are those of `shared` beside the project, or where
AMANUENSIS_SHARED says. Run it with taskset on one core for figures that can be compared.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from meetings import SAMPLE_RATE, Meeting, Stretch, meetings, percentiles, score

from npu.diarization import diarize
from npu.embedded import default_cache_dir
from npu.loading import load_judge
from npu.voiceprint import Voices, load_voices, perform
from streaming.listening import Heard, Job
from streaming.speakers import Diarizer
from streaming.vad import SpeechDetector

BLOCK = SAMPLE_RATE // 10
AROUND = SAMPLE_RATE // 2  # samples around speech that the offline form looks at as well


@dataclass
class Live:
    """What a live session did. Times in seconds."""

    turns: list[Stretch] = field(default_factory=list)
    turn_latency: list[float] = field(default_factory=list)  # start of a turn to its first label
    word_latency: list[float] = field(default_factory=list)  # end of a word to its first label
    settled_latency: list[float] = field(default_factory=list)  # end of a word to its settled label
    unlabelled: int = 0  # turns that never had a label
    revisions: list[float] = field(default_factory=list)  # lengths of stretches whose labels changed
    cpu_s: float = 0.0  # diarizer and models, without the detector
    longest_job_s: float = 0.0
    cpu_by_block: list[float] = field(default_factory=list)


def run_live(meeting: Meeting, voices: Voices, detector: SpeechDetector) -> Live:
    """Plays a recording to the diarizer."""
    live, diarizer = Live(), Diarizer()
    answer: tuple[float, Job, Heard] | None = None
    starts, words, settling = list(meeting.starts), sorted(meeting.word_ends), sorted(meeting.word_ends)
    unlabelled = list(starts)
    unsaid = list(words)

    def work(now: float) -> None:
        nonlocal answer
        while True:
            if answer is not None:
                back, job, heard = answer
                if back > now:
                    return
                answer = None
                diarizer.receive_heard(job, heard)
            if diarizer.demand() is None:
                return
            began = time.process_time()
            job = diarizer.next_job()
            heard = perform(voices, job)
            took = time.process_time() - began
            live.longest_job_s = max(live.longest_job_s, took)
            answer = (now + took, job, heard)

    def labelled(start: float, end: float) -> bool:
        return any(diarizer.turns(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)))

    for at in range(0, len(meeting.samples), BLOCK):
        block = meeting.samples[at : at + BLOCK]
        verdicts = detector.receive(block)
        began = time.process_time()
        diarizer.receive_audio(block)
        diarizer.receive_verdicts(verdicts)
        now = (at + len(block)) / SAMPLE_RATE
        work(now)
        changes = diarizer.take_changes()
        live.cpu_by_block.append(time.process_time() - began)
        live.revisions += [(end - start) / SAMPLE_RATE for start, end in changes]
        live.turn_latency += _first(unlabelled, now, lambda s: labelled(s, s + 0.5))
        live.word_latency += _first(unsaid, now, lambda w: labelled(w - 0.2, w))
        live.settled_latency += _first(settling, now, lambda w: diarizer.settled_until >= w * SAMPLE_RATE)
    live.unlabelled = len(unlabelled)
    diarizer.finish()
    began = time.process_time()
    work(float("inf"))
    live.cpu_s = sum(live.cpu_by_block) + time.process_time() - began
    live.turns = stretches(diarizer.turns(0, 1 << 60))
    return live


def _first(waiting: list[float], now: float, reached: Callable[[float], bool]) -> list[float]:
    """How long each that is reached by now has waited; those are taken out."""
    done = [moment for moment in waiting if moment <= now and now - moment < 30 and reached(moment)]
    for moment in done:
        waiting.remove(moment)
    return [now - moment for moment in done]


def run_offline(meeting: Meeting, voices: Voices, detector: SpeechDetector) -> tuple[list[Stretch], float]:
    """The turns of a whole recording, and the CPU seconds it took."""
    verdicts = np.array(detector.receive(meeting.samples), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], verdicts, [False]]).astype(int))) * 480
    speech = [
        (int(start) - AROUND, int(end) + AROUND) for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]
    began = time.process_time()
    turns = diarize(voices, meeting.samples, speech=speech)
    return stretches(turns), time.process_time() - began


def run_library(meeting: Meeting) -> tuple[list[Stretch], float]:
    """The library's own diarizer, streaming, transcription switched off."""
    from moonshine_voice import ModelArch
    from moonshine_voice.transcriber import Transcriber

    options = {"skip_transcription": "true", "identify_speakers": "true", "return_audio_data": "false"}
    transcriber = Transcriber("none", ModelArch.TINY, options=options)
    began = time.process_time()
    stream = transcriber.create_stream(update_interval=0.5)
    stream.start()
    for at in range(0, len(meeting.samples), BLOCK):
        stream.add_audio(meeting.samples[at : at + BLOCK].tolist(), SAMPLE_RATE)
    transcript = stream.stop() or stream.update_transcription()
    took = time.process_time() - began
    spans = [span for line in transcript.lines for span in line.speaker_spans or ()]
    stream.close()
    return [Stretch(s.start_time, s.start_time + s.duration, s.speaker_index) for s in spans], took


def stretches(turns: Sequence[Any]) -> list[Stretch]:
    """Turns in seconds."""
    return [Stretch(t.start / SAMPLE_RATE, t.end / SAMPLE_RATE, t.speaker) for t in turns]


def summary(found: list[tuple[Meeting, Live]]) -> dict[str, Any]:
    """Scores and figures of live sessions together."""
    seconds = sum(meeting.seconds for meeting, _ in found)
    every = [live for _, live in found]

    def pooled(part: str) -> list[float]:
        return [value for live in every for value in getattr(live, part)]

    return {
        **score([(meeting, live.turns) for meeting, live in found]),
        "turn_to_label_s": percentiles(pooled("turn_latency")),
        "turns_never_labelled": sum(live.unlabelled for live in every),
        "word_to_label_s": percentiles(pooled("word_latency")),
        "word_to_settled_s": percentiles(pooled("settled_latency")),
        "revisions_per_minute": len(pooled("revisions")) / seconds * 60,
        "revised_share": sum(pooled("revisions")) / seconds,
        "cpu_s_per_s": sum(live.cpu_s for live in every) / seconds,
        "longest_job_ms": 1000 * max(live.longest_job_s for live in every),
    }


def soak(meeting: Meeting, voices: Voices, judges: Any, seconds: float) -> dict[str, Any]:
    """An hour of the meeting, over and over: CPU at both ends, growth of memory."""
    copies = int(seconds / meeting.seconds) + 1
    long = Meeting(
        "soak", "soak", np.tile(meeting.samples, copies)[: int(seconds * SAMPLE_RATE)], meeting.truth, ()
    )
    before = resident_mb()
    live = run_live(long, voices, SpeechDetector(judges()))
    ends = min(6_000, len(live.cpu_by_block) // 2)  # blocks of ten minutes
    return {
        "audio_s": seconds,
        "cpu_s_per_s_first_ten_minutes": float(np.mean(live.cpu_by_block[:ends])) * 10,
        "cpu_s_per_s_last_ten_minutes": float(np.mean(live.cpu_by_block[-ends:])) * 10,
        "speakers": len({turn.speaker for turn in live.turns}),
        "rss_growth_mb": resident_mb() - before,
    }


def resident_mb() -> float:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", action="store_true", help="run the library's diarizer as well")
    parser.add_argument("--soak", type=float, nargs="?", const=3600.0, help="seconds of the meeting repeated")
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    recordings, judges = meetings(), load_judge()
    voices = load_voices(default_cache_dir(lambda _line: None))
    before = resident_mb()
    result: dict[str, Any] = {}
    for name, group in groupby(recordings, key=lambda meeting: meeting.group):
        members = list(group)
        live = [(each, run_live(each, voices, SpeechDetector(judges()))) for each in members]
        result[name] = {"live": summary(live)}
        for form, run in _others(voices, judges, arguments.library).items():
            done = [(meeting, *run(meeting)) for meeting in members]
            result[name][form] = {
                **score([(meeting, turns) for meeting, turns, _ in done]),
                "cpu_s_per_s": sum(cpu for *_, cpu in done) / sum(meeting.seconds for meeting in members),
            }
    result["rss_growth_mb"] = resident_mb() - before
    if arguments.soak:
        longest = max(recordings, key=lambda meeting: meeting.seconds)
        result["soak"] = soak(longest, voices, judges, arguments.soak)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


def _others(
    voices: Voices, judges: Any, library: bool
) -> dict[str, Callable[[Meeting], tuple[list[Stretch], float]]]:
    """The forms beside the live one."""
    forms: dict[str, Callable[[Meeting], tuple[list[Stretch], float]]] = {
        "offline": lambda meeting: run_offline(meeting, voices, SpeechDetector(judges()))
    }
    if library:
        forms["library"] = run_library
    return forms


if __name__ == "__main__":
    main()
