"""Recordings: complete files of any usual container become 16 kHz mono float32, from any sample on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final as Constant

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer

from streaming.audio import Samples
from streaming.containers import FORMATS, MAX_BROKEN, Readable, bounded, in_blocks, mixed, reason_of
from streaming.errors import AudioError
from streaming.window import SAMPLE_RATE

# What nobody sends live is read from files. Playlists are not: they would make the demuxer open other files and URLs.
_RECORDED: Constant = f"{FORMATS},ac3,ape,asf,avi,dts,eac3,flv,mpeg,mpegts,tta,voc,wv"
_BUFFER_BYTES: Constant = 1 << 18
_LEAD_S: Constant = (
    2.0  # decoded before a place that is looked for: codecs need what was before, indices are coarse
)
_DRIFT_S: Constant = (
    0.05  # by which time stamps may differ from the count of samples where it is to be relied on
)
_LOWEST_RATE: Constant = 1_000  # Hz; below it is no speech, and a second of it would become very many samples


class RecordingReader:
    """The blocks of a complete file, from a sample on.

    Iterating raises AudioError, in a sentence without a name, where the file is no known container, holds no audio, or
    turns out to be something else.
    """

    def __init__(
        self, file: Readable, block_s: float, start: int = 0, track: int = 1, seek: bool = True
    ) -> None:
        """start: sample index at 16 kHz of the first block; track: which of the audio tracks, counted from 1.

        seek: the place of `start` may be found by time stamps; else everything before it is decoded and dropped.
        """
        self._file = file
        self._block_s = block_s
        self._start = start
        self._track = track
        self._seek = seek
        self.steady = True  # so far the file's time stamps went along with its samples: it may be sought in

    def __iter__(self) -> Iterator[Samples]:
        with _opened(self._file) as container:
            yield from in_blocks(mixed(self._from_start(container)), self._block_s)

    def _from_start(self, container: InputContainer) -> Iterator[Samples]:
        stream = _audio(container, self._track)
        position = 0  # sample index of what is decoded next
        if self._start and self._seek:
            position = self._sought(container, stream)
        for planes in self._resampled(container, stream, position):
            skipped = min(max(0, self._start - position), planes.shape[1])
            position += planes.shape[1]
            if skipped < planes.shape[1]:
                yield planes[:, skipped:]

    def _sought(self, container: InputContainer, stream: AudioStream) -> int:
        """Goes to a place shortly before the start -> its sample index; back to the beginning where that fails."""
        base = stream.time_base
        try:
            zero = _first_stamp(container, stream)
            if base is None or zero is None:
                raise ValueError("no time stamps")
            target = self._start / SAMPLE_RATE - _LEAD_S
            if target <= _LEAD_S:
                raise ValueError("too near to the beginning to be worth it")
            container.seek(zero + int(target / base), stream=stream, backward=True)
            stamp = _first_stamp(container, stream)
            if stamp is None:
                raise ValueError("no time stamps")
            reached = round(float((stamp - zero) * base) * SAMPLE_RATE)
            if not 0 <= reached <= self._start:
                raise ValueError("beyond the place")
            container.seek(zero + int(target / base), stream=stream, backward=True)
            return reached
        except (av.error.FFmpegError, ValueError):
            container.seek(0 if stream.start_time is None else stream.start_time, stream=stream)
            return 0

    def _resampled(self, container: InputContainer, stream: AudioStream, position: int) -> Iterator[Samples]:
        """[channels, n] of every frame through the library's resampler, whose tail comes last."""
        resampler, kind = _resampler(), None
        zero: float | None = None  # seconds on the file's clock at which its first sample lies
        heard_s = position / SAMPLE_RATE
        for frame in _frames(container, stream):
            if frame.pts is not None and frame.time_base is not None:
                stamp_s = float(frame.pts * frame.time_base)
                zero = stamp_s - heard_s if zero is None else zero
                self.steady &= abs(stamp_s - heard_s - zero) <= _DRIFT_S
            heard_s += frame.samples / frame.sample_rate
            before, kind = kind, (frame.format.name, frame.layout.name, frame.sample_rate)
            if before not in (None, kind):  # streams put end to end need not be alike
                yield from _taken(resampler, None)
                resampler = _resampler()
            yield from _taken(resampler, frame)
        yield from _taken(resampler, None)


def decode_recording(file: Readable, block_s: float) -> Iterator[Samples]:
    """The blocks of a complete file, [block_s * 16000] at 16 kHz mono, the last one shorter. As `RecordingReader`."""
    return iter(RecordingReader(file, block_s))


def seconds_of_recording(file: Readable, track: int = 1) -> float | None:
    """What the header of a complete file says of its length; None where it does not. AudioError if it is no audio."""
    with _opened(file) as container:
        _audio(container, track)
        return None if container.duration is None else max(0.0, container.duration / av.time_base)


@contextmanager
def _opened(file: Readable) -> Iterator[InputContainer]:
    """The library's errors become ours, in the block as well."""
    try:
        options = {"format_whitelist": _RECORDED}
        with av.open(file, "r", options=options, buffer_size=_BUFFER_BYTES) as container:
            yield container
    except (av.error.FFmpegError, UnicodeDecodeError, ValueError) as error:
        # UnicodeDecodeError is the library's, of damaged tags; ValueError, of sizes and layouts that cannot be
        raise AudioError(f"It cannot be read as audio: {reason_of(error)}.") from error


def _audio(container: InputContainer, track: int) -> AudioStream:
    """One of the audio tracks; AudioError says what there is in its place."""
    tracks = container.streams.audio
    if not tracks:
        others = sorted({stream.type for stream in container.streams})
        what = f", only {' and '.join(others)}" if others else ""
        raise AudioError(f"There is no audio track in it{what}.")
    if not 1 <= track <= len(tracks):
        count = "one audio track" if len(tracks) == 1 else f"{len(tracks)} audio tracks"
        raise AudioError(f"It has {count}; there is no number {track}.")
    chosen = tracks[track - 1]
    try:
        rate, channels = chosen.sample_rate, chosen.channels
    except (AttributeError, ValueError) as error:
        raise AudioError("Nothing here can decode its audio track.") from error
    if channels < 1:
        raise AudioError("Its audio track has no channels.")
    if rate < _LOWEST_RATE:
        raise AudioError(f"Its audio has {rate} samples a second; speech needs {_LOWEST_RATE} at least.")
    return chosen


def _first_stamp(container: InputContainer, stream: AudioStream) -> int | None:
    """Of the next packet that has sound in it."""
    for packet in container.demux(stream):
        for frame in packet.decode():
            return frame.pts
    return None


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[av.AudioFrame]:
    """Every frame of a track; packets that cannot be decoded are passed over, while they are few in a row."""
    broken, any_frame = 0, False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            broken += 1
            if broken > MAX_BROKEN:
                raise AudioError("Its audio becomes unreadable on the way.") from error
            continue
        broken = 0 if frames else broken
        any_frame |= bool(frames)
        yield from frames
    if broken and not any_frame:
        raise AudioError("Nothing in its audio track can be decoded.")


def _resampler() -> av.AudioResampler:
    # Its own mixing to mono would make two equal channels louder by 3 dB, and clip; so the mean is taken here.
    return av.AudioResampler(format="flt", rate=SAMPLE_RATE)


def _taken(resampler: av.AudioResampler, frame: av.AudioFrame | None) -> Iterator[Samples]:
    """[channels, n] that are complete with a frame; with None, the tail.

    Samples follow each other: what a damaged file says of their times is not to fill or drop any.
    """
    if frame is not None:
        frame.pts = None
    for block in resampler.resample(frame):
        yield bounded(block)
