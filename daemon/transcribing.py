"""Transcripts of recordings without a daemon: what `amanuensis transcribe` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from daemon.config import Config
from daemon.media import STDIN, Recording, find
from daemon.outputs import EXPORTS, TIMED, Outputs, parse_formats
from daemon.progress import Bar, Report
from daemon.voice_store import VoiceStore
from npu.diarizer import EmbeddedDiarizer, Recogniser, RecordingDiarizer, load_diarizer, recogniser
from npu.loading import load_judge, load_transcriber
from npu.recordings import Source
from npu.transcripts import SpeakersWanted, Transcript, Unreadable, Wanted, transcripts, understood
from streaming.errors import AmanuensisError, ConfigError, ModelError, VoicesBroken
from streaming.vad import FrameJudge
from streaming.window import Manner


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    paths: tuple[str, ...]
    formats: str | None = None  # None: text
    output_dir: Path | None = None  # None: beside the recordings
    overwrite: bool = False
    words: bool = False
    language: str | None = None
    diarize: bool = False
    diarizer: str = "embedded"
    diarizer_model: str | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None


def run(request: Request, config: Config) -> int:
    """Transcribes everything that was named -> exit status: 1 when something has no transcript."""
    check(request)
    recordings = find(request.paths)
    printed = len(recordings) == 1 and request.formats is None and request.output_dir is None
    kinds = parse_formats(request.formats or "txt")
    outputs = Outputs(recordings, kinds, request.output_dir, request.words)
    remarks = Console(stderr=True, highlight=False)
    report = Report(remarks)
    todo = recordings if printed or request.overwrite else _without_transcript(recordings, outputs, report)
    if todo:
        with Bar(remarks, todo, request.diarize) as bar:
            timed = request.words or any(kind in TIMED for kind in kinds)
            for recording, outcome in _outcomes(todo, request, config, timed, bar):
                bar.finished(recording)
                report.add(recording, outcome, _deliver(recording, outcome, None if printed else outputs))
    report.close()
    return int(report.failures > 0)


def check(request: Request) -> None:
    """ConfigError where options contradict each other."""
    if STDIN in request.paths and sys.stdin.isatty():
        raise ConfigError("“-” reads a recording from standard input: amanuensis transcribe - < talk.mp3")
    least, most = request.min_speakers, request.max_speakers
    if least is not None and most is not None and least > most:
        raise ConfigError(f"--min-speakers {least} is more than --max-speakers {most}.")
    if request.diarizer_model is not None and request.diarizer == "embedded":
        raise ConfigError("--diarizer-model is for --diarizer pyannote; the embedded one has its own.")


def _without_transcript(recordings: Sequence[Recording], outputs: Outputs, report: Report) -> list[Recording]:
    """Those whose files are not all there: what is there may have been edited by a person."""
    todo = []
    for recording in recordings:
        there = [target for target in outputs.of(recording) if target.exists()]
        if there:
            report.kept(recording, there)
        else:
            todo.append(recording)
    return todo


def _outcomes(
    recordings: Sequence[Recording], request: Request, config: Config, timed: bool, bar: Bar
) -> Iterator[tuple[Recording, Transcript | Unreadable]]:
    """Loads the models, then one outcome for each recording."""
    model, cache = config.model, config.model.cache_path
    transcriber = load_transcriber(model.name, model.device, cache, bar.say)
    judges: Callable[[], FrameJudge] | None = None
    if config.speech.silero:
        try:
            judges = load_judge(cache)
        except ModelError as error:
            bar.say(f"Speech detection runs without Silero: {error}")
    speakers = None
    if request.diarize:
        diarizer = load_diarizer(request.diarizer, request.diarizer_model, cache, bar.say)
        recognise = _recogniser(diarizer, config, bar.say)
        speakers = SpeakersWanted(diarizer, request.min_speakers, request.max_speakers, recognise)
    wanted = Wanted(
        Manner(understood(request.language, transcriber)),
        words=timed,
        speakers=speakers,
        speech=config.speech.session(),
        vad=config.speech.vad(),
    )
    by_name = {recording.name: recording for recording in recordings}
    for outcome in transcripts(_sources(recordings, bar), transcriber, judges, wanted, bar, _cores()):
        yield by_name[outcome.name], outcome


def _recogniser(diarizer: RecordingDiarizer, config: Config, say: Callable[[str], None]) -> Recogniser | None:
    """Names people who are enrolled on this machine; another diarizer's voices cannot be compared with theirs."""
    if not config.speakers.recognise or not isinstance(diarizer, EmbeddedDiarizer):
        return None
    try:
        return recogniser(diarizer, (), VoiceStore.of(config).known())
    except VoicesBroken as error:
        say(str(error))
        return None


def _sources(recordings: Sequence[Recording], bar: Bar) -> Iterator[Source]:
    for recording in recordings:
        bar.opened(recording)
        yield recording.name, recording.blocks()


def _deliver(
    recording: Recording, outcome: Transcript | Unreadable, outputs: Outputs | None
) -> list[Path] | AmanuensisError:
    """Writes or prints a transcript -> where it is, or why not."""
    if isinstance(outcome, Unreadable):
        return outcome.error
    if outputs is None:
        sys.stdout.write(EXPORTS["txt"](recording.file_name, outcome, False))
        sys.stdout.flush()
        return []
    try:
        return outputs.write(recording, outcome)
    except ConfigError as error:
        return error


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
