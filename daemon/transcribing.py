"""Transcripts of recordings without a daemon: what `amanuensis transcribe` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from daemon.config import Config
from daemon.media import STDIN, Recording, find
from daemon.outputs import EXPORTS, TIMED, Outputs, Sheet, parse_formats
from daemon.progress import Bar, Report
from daemon.resumption import Resumption
from daemon.sidecar import comparable
from daemon.voice_store import VoiceStore
from npu.diarizer import EmbeddedDiarizer, Recogniser, RecordingDiarizer, load_diarizer, recogniser
from npu.loading import load_judge, load_transcriber
from npu.recordings import Source
from npu.transcriber import Transcriber
from npu.transcripts import SpeakersWanted, Transcript, Unreadable, Wanted, transcripts, understood
from streaming.errors import AmanuensisError, ConfigError, ModelError, VoicesBroken
from streaming.vad import FrameJudge
from streaming.window import Manner, Task


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    paths: tuple[str, ...]
    formats: str | None = None  # None: text
    output_dir: Path | None = None  # None: beside the recordings
    overwrite: bool = False
    words: bool = False
    language: str | None = None
    task: Task = "transcribe"
    prompt: str = ""
    vocabulary: tuple[str, ...] = ()  # phrases, several with commas, or @FILE
    detect: bool = True  # speech; else the model finds its way by itself
    beam: int = 1
    temperature: float | None = None
    batch: int | None = None  # None: as the model does best
    track: int = 1
    diarize: bool = False
    diarizer: str = "embedded"
    diarizer_model: str | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None


def run(request: Request, config: Config) -> int:
    """Transcribes everything that was named -> exit status: 1 when something has no transcript."""
    check(request)
    kinds = parse_formats(request.formats or "txt")
    vocabulary = phrases(request.vocabulary)
    recordings = find(request.paths, request.track)
    printed = len(recordings) == 1 and request.formats is None and request.output_dir is None
    outputs = None if printed else Outputs(recordings, kinds, request.output_dir)
    timed = request.words or any(kind in TIMED for kind in kinds)
    manner = Manner(
        request.language, request.task, request.prompt, vocabulary, request.beam, request.temperature
    )
    options = _options(request, config, manner, timed)
    remarks = Console(stderr=True, highlight=False)
    report = Report(remarks)
    resumption = Resumption(recordings, outputs, options, request.diarize, request.overwrite)
    todo = []
    for recording in recordings:
        reason = resumption.left_out(recording)
        if reason is None:
            todo.append(recording)
        else:
            report.kept(recording, reason)
    if todo:
        try:
            _transcribe(todo, request, config, manner, timed, outputs, options, resumption, report, remarks)
        except KeyboardInterrupt:
            if outputs is not None:
                remarks.out(
                    "Interrupted. What is done is kept; the same command goes on with the rest.",
                    highlight=False,
                )
            raise
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


def phrases(given: tuple[str, ...]) -> tuple[str, ...]:
    """What --vocabulary names, each phrase once: separated by commas, or @FILE with one a line."""
    found: list[str] = []
    for each in given:
        if not each.startswith("@"):
            found += each.split(",")
            continue
        try:
            found += Path(each[1:]).read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
            raise ConfigError(f"--vocabulary {each}: the file cannot be read ({reason}).") from error
    return tuple(dict.fromkeys(phrase for each in found if (phrase := " ".join(each.split()))))


def _options(request: Request, config: Config, manner: Manner, timed: bool) -> dict[str, Any]:
    """What a transcript depends on, as JSON can hold it."""
    speakers = None
    if request.diarize:
        names = ("diarizer", "diarizer_model", "min_speakers", "max_speakers")
        speakers = {name: getattr(request, name) for name in names}
    return {
        "model": config.model.name,
        **comparable(manner),
        "words": request.words,
        "timed": timed,
        "track": request.track,
        "detect": request.detect,
        "speakers": speakers,
        "speech": config.speech.model_dump(mode="json"),
    }


def _transcribe(
    todo: list[Recording],
    request: Request,
    config: Config,
    manner: Manner,
    timed: bool,
    outputs: Outputs | None,
    options: dict[str, Any],
    resumption: Resumption,
    report: Report,
    remarks: Console,
) -> None:
    """Loads the models; each outcome is delivered as soon as it is there."""
    by_name = {recording.name: recording for recording in todo}
    told = {name: options[name] for name in asdict(manner)} | {"speakers": options["speakers"]}
    with Bar(remarks, todo, request.diarize) as bar:
        transcriber = load_transcriber(config.model.name, progress=bar.say, **config.model.loading)
        wanted = _wanted(request, config, manner, timed, transcriber, bar.say)
        judges = _judges(config, bar.say)
        report.begin()
        sources = _sources(todo, resumption, bar)
        for outcome in transcripts(
            sources,
            transcriber,
            judges,
            wanted,
            bar,
            _cores(),
            batch=request.batch,
            landmarks=resumption,
        ):
            recording = by_name[outcome.name]
            delivered: list[Path] | AmanuensisError
            if isinstance(outcome, Unreadable):
                delivered = outcome.error
            else:
                written = datetime.now().astimezone().isoformat(timespec="seconds")
                sheet = Sheet(recording.title, outcome, request.words, transcriber.name, told, written)
                delivered = _deliver(recording, sheet, outputs)
            if not isinstance(delivered, AmanuensisError):
                resumption.done(recording, delivered)
            bar.finished(recording)
            report.add(recording, outcome, delivered)
            if isinstance(outcome, Transcript):
                report.compare(recording, outcome, recording.seconds)


def _wanted(
    request: Request,
    config: Config,
    manner: Manner,
    timed: bool,
    transcriber: Transcriber,
    say: Callable[[str], None],
) -> Wanted:
    if manner.task == "translate" and not transcriber.translates:
        raise ModelError(
            f"{transcriber.name} does not translate; name a model that does, such as whisper-base, with --model."
        )
    speakers = None
    if request.diarize:
        diarizer = load_diarizer(request.diarizer, request.diarizer_model, config.model.cache_path, say)
        recognise = _recogniser(diarizer, config, say)
        speakers = SpeakersWanted(diarizer, request.min_speakers, request.max_speakers, recognise)
    asked = asdict(manner) | {"language": understood(manner.language, transcriber)}
    return Wanted(
        Manner(**asked),
        words=timed,
        detect=request.detect,
        speakers=speakers,
        speech=config.speech.session(),
        vad=config.speech.vad(),
    )


def _judges(config: Config, say: Callable[[str], None]) -> Callable[[], FrameJudge] | None:
    if config.speech.silero:
        try:
            return load_judge(config.model.cache_path)
        except ModelError as error:
            say(f"Speech detection runs without Silero: {error}")
    return None


def _recogniser(diarizer: RecordingDiarizer, config: Config, say: Callable[[str], None]) -> Recogniser | None:
    """Names people who are enrolled on this machine; another diarizer's voices cannot be compared with theirs."""
    if not config.speakers.recognise or not isinstance(diarizer, EmbeddedDiarizer):
        return None
    try:
        return recogniser(diarizer, (), VoiceStore.of(config).known())
    except VoicesBroken as error:
        say(str(error))
        return None


def _sources(recordings: list[Recording], resumption: Resumption, bar: Bar) -> Iterator[Source]:
    for recording in recordings:
        source, done_s = resumption.source(recording)
        bar.opened(recording, done_s)
        yield source


def _deliver(recording: Recording, sheet: Sheet, outputs: Outputs | None) -> list[Path] | AmanuensisError:
    """Writes or prints a transcript -> where it is, or why not."""
    if outputs is None:
        sys.stdout.write(EXPORTS["txt"](sheet))
        sys.stdout.flush()
        return []
    try:
        return outputs.write(recording, sheet)
    except ConfigError as error:
        return error


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
