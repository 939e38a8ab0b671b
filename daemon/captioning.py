"""Captions of one stream in a terminal: what `listen`, `stream`, `watch` and the demo do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console

from clients.address import Address
from clients.connection import Stream, connect
from clients.file import FORMAT, Recording, play, to_pcm
from clients.inquiry import ask, is_there
from clients.microphone import MicrophoneStream
from clients.terminal import Captions
from clients.watch import watch
from streaming.errors import CaptureError, ConfigError
from streaming.events import Event, Final, Snapshot, Stopped
from streaming.protocol import AudioFormat

LAST_WORDS_S = 5.0  # after Ctrl-C, for the speech in progress to become text
KINDS = ("txt", "srt", "vtt", "md", "json")  # of transcripts, by file name

Feed = Callable[[Stream], Awaitable[object]]


@dataclass
class Tally:
    """What came out of a stream."""

    finals: int = 0
    audio_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)

    def count(self, event: Event) -> None:
        """Takes an event into account."""
        if isinstance(event, Final):
            self.finals += 1
            if event.latency is not None:
                self.latencies_ms.append(event.latency.audio_to_final_ms)
        if isinstance(event, Stopped):
            self.audio_s = event.audio_end

    @property
    def latency(self) -> str:
        """The median latency of its finals, in words."""
        return f"{median(self.latencies_ms):.0f} ms" if self.latencies_ms else "unknown"


async def caption(stream: Stream, captions: Captions, feed: Feed) -> Tally:
    """Feeds a stream and shows what comes back until the session is over."""
    tally = Tally()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_feed(stream, feed))
        async for event in stream:
            captions.show(event)
            tally.count(event)
    return tally


async def _feed(stream: Stream, feed: Feed) -> None:
    await feed(stream)
    await stream.stop()


async def stream_files(
    files: list[Path],
    url: str,
    speed: float,
    session: str | None,
    output: Path | None,
    token: str | None,
    speakers: bool | None = None,
) -> None:
    """Captions of recordings, one session each."""
    address = Address.parse(url)
    if output is not None:
        _check_output(output, len(files))
    if session is not None and len(files) > 1:
        raise ConfigError("--session names one session, and these are several files. Stream them one by one.")
    recordings = [Recording(file) for file in files]  # all of them first: the last one may be misspelled
    console, remarks = Console(highlight=False), Console(stderr=True, highlight=False)
    for recording in recordings:
        if len(recordings) > 1:
            remarks.out(f"{recording.path}:", highlight=False)
        with Captions(console) as captions:
            async with connect(
                url,
                FORMAT,
                session=session,
                title=recording.path.name[:200],
                diarize=speakers,
                token=token,
                live=False,
                notice=captions.note,
            ) as stream:
                tally = await caption(stream, captions, _playing(recording, speed, captions))
                name = stream.session
        if output is not None:
            await _save(address, name, output, token)
        remarks.out(
            f"{tally.audio_s:.1f} s of audio, {tally.finals} utterances, session {name}"
            + (f", written to {output}" if output else f"; transcript: {address.transcript(name, 'txt')}"),
            highlight=False,
        )


def _playing(recording: Recording, speed: float, captions: Captions) -> Feed:
    return lambda stream: play(
        recording, stream, speed, lambda sent_s: captions.clock(sent_s, recording.duration_s)
    )


def _check_output(output: Path, files: int) -> None:
    if files > 1:
        raise ConfigError(
            "--output names one transcript, and these are several files. Stream them one by one."
        )
    if output.suffix.removeprefix(".") not in KINDS:
        raise ConfigError(
            f"“{output}” is no kind of transcript. End its name in one of: .{', .'.join(KINDS)}"
        )
    if not output.parent.is_dir():
        raise ConfigError(f"The folder {output.parent} does not exist. Make it: mkdir -p {output.parent}")


async def _save(address: Address, session: str, output: Path, token: str | None) -> None:
    url = address.transcript(session, output.suffix.removeprefix("."))
    text = await asyncio.to_thread(ask, address, url, token)
    try:
        await asyncio.to_thread(output.write_bytes, text)
    except OSError as error:
        raise ConfigError(
            f"{output} cannot be written ({error.strerror}). The transcript is at {url}"
        ) from error


async def watch_session(session: str, url: str, token: str | None) -> None:
    """Captions of a session that someone else produces."""
    with Captions(Console(highlight=False)) as captions:
        async for event in watch(url, session, token=token):
            captions.show(event)
            if isinstance(event, Snapshot) and not event.live:
                captions.note("This session is over.")


async def listen(
    device: str | None, url: str, session: str | None, token: str | None, speakers: bool | None = None
) -> None:
    """Captions of a microphone until Ctrl-C; the speech in progress is still written then.

    Without a daemon at the URL, one is started in this process for as long as it takes.
    """
    async with AsyncExitStack() as stack:
        microphone = await stack.enter_async_context(MicrophoneStream(device))
        url, token = await stack.enter_async_context(_daemon(url, token))
        interrupted = stack.enter_context(_interruption())
        captions = stack.enter_context(Captions(Console(highlight=False), meter=True))
        captions.note(f"Listening to “{microphone.name}”. Ctrl-C ends.")
        audio = AudioFormat(encoding="pcm_s16le", sample_rate=microphone.rate)
        stream = await stack.enter_async_context(
            connect(url, audio, session=session, diarize=speakers, token=token, notice=captions.note)
        )
        hearing = _Hearing(microphone, captions, interrupted)
        await caption(stream, captions, hearing.feed)
    if hearing.failure is not None:
        raise hearing.failure
    raise KeyboardInterrupt  # the only other way to end


class _Hearing:
    """Feeds a microphone into a stream until it is interrupted, or the microphone goes away."""

    def __init__(self, microphone: MicrophoneStream, captions: Captions, interrupted: asyncio.Event) -> None:
        self.failure: CaptureError | None = None
        self._microphone = microphone
        self._captions = captions
        self._interrupted = interrupted
        self._samples = 0
        self._lost = 0

    async def feed(self, stream: Stream) -> None:
        """Returns when there is no more to hear; what was heard is then still decided."""
        try:
            async for block in self._microphone:
                await self._account_for_loss(stream)
                await stream.send(to_pcm(block))
                self._samples += len(block)
                self._captions.level(block)
                self._captions.clock(self._samples / self._microphone.rate)
                if self._interrupted.is_set():
                    return
        except CaptureError as error:
            self.failure = error

    async def _account_for_loss(self, stream: Stream) -> None:
        lost = self._microphone.lost - self._lost
        if lost:
            await stream.skip(lost)
            self._samples, self._lost = self._samples + lost, self._lost + lost


@asynccontextmanager
async def _daemon(url: str, token: str | None) -> AsyncIterator[tuple[str, str | None]]:
    """The daemon at the URL, or one of our own -> its URL and a token for it."""
    address = Address.parse(url)
    if not address.is_local or await asyncio.to_thread(is_there, address):
        yield url, token
        return
    from daemon import log  # not before it is needed: it loads everything there is
    from daemon.config import Config
    from daemon.server import running

    Console(stderr=True, highlight=False).out(f"No daemon at {address.http}: starting one here.")
    log.configure("error")
    config = Config.load(server={"host": "127.0.0.1", "port": 0}, capture=[], socket=[])
    async with running(config) as own:
        yield own, next(iter(config.auth.tokens), None)


@contextmanager
def _interruption() -> Iterator[asyncio.Event]:
    """Set by Ctrl-C. The second one, or LAST_WORDS_S after the first, ends everything at once."""
    interrupted = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        if interrupted.is_set():
            task.cancel()
        interrupted.set()
        loop.call_later(LAST_WORDS_S, task.cancel)

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        loop.remove_signal_handler(signal.SIGINT)
