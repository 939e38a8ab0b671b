"""Complete files from any place on, and files that are broken, hostile or something else."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from streaming.errors import AudioError
from streaming.recorded import RecordingReader, seconds_of_recording

Array = NDArray[np.float32]


def _encode(
    samples: Array, format: str, codec: str, rate: int, layout: str = "mono", tracks: int = 1
) -> bytes:
    """tracks: the others are silent, and come first."""
    out = io.BytesIO()
    with av.open(out, "w", format=format) as container:
        streams = [container.add_stream(codec, rate=rate) for _ in range(tracks)]
        for stream in streams:
            stream.layout = layout
        for number, stream in enumerate(streams):
            channels = len(stream.layout.channels)
            loud = samples if number == tracks - 1 else np.zeros_like(samples)
            frame = av.AudioFrame.from_ndarray(np.repeat(loud, channels)[None], format="flt", layout=layout)
            frame.sample_rate = 16_000
            size = stream.codec_context.frame_size or None
            resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=size)
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return out.getvalue()


def _cover() -> bytes:
    """An ID3 tag with a picture in it."""
    packed = zlib.compress(bytes(1 + 3 * 8) * 8)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    body = b"\0image/png\0\x03\0" + png
    frame = b"APIC" + struct.pack(">IH", len(body), 0) + body
    return b"ID3\x03\0\0" + bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0)) + frame


def _read(data: bytes, **how: int) -> Array:
    return np.concatenate([np.zeros(0, np.float32), *RecordingReader(io.BytesIO(data), 1.0, **how)])


@pytest.fixture(scope="module")
def speech(recording: Callable[[str], Array]) -> Array:
    """Six seconds."""
    return recording("two_cities.wav")[: 16_000 * 6]


@pytest.mark.parametrize(
    ("format", "codec", "rate"),
    [
        ("wav", "pcm_s24le", 44_100),
        ("flac", "flac", 48_000),
        ("ogg", "libopus", 48_000),
        ("webm", "libopus", 48_000),
        ("mp3", "libmp3lame", 44_100),
        ("mp4", "aac", 44_100),
        ("adts", "aac", 44_100),
        ("matroska", "aac", 44_100),
        ("avi", "libmp3lame", 44_100),
        ("mpegts", "mp2", 48_000),
    ],
)
def test_a_later_place(recording: Callable[[str], Array], format: str, codec: str, rate: int) -> None:
    """Is found, within a millisecond of where the samples are when everything before them is decoded."""
    data = _encode(recording("two_cities.wav")[: 16_000 * 20], format, codec, rate)
    reader = RecordingReader(io.BytesIO(data), 1.0)
    whole = np.concatenate(list(reader))
    assert reader.steady
    start = 200_001
    part = _read(data, start=start)
    assert start + len(part) == pytest.approx(len(whole), abs=16)
    there, here = whole[start + 8_000 : start + 80_000], part
    shifts = range(-16, 17)
    near = [np.abs(there - here[8_000 + by : 80_000 + by]).mean() for by in shifts]
    assert min(near) < 0.002
    dropped = _read(data, start=start, seek=False)
    assert np.array_equal(dropped, whole[start:])


def test_a_place_beyond_the_end(speech: Array) -> None:
    """Holds nothing."""
    assert len(_read(_encode(speech, "flac", "flac", 16_000), start=10_000_000)) == 0


def test_tracks(speech: Array) -> None:
    """The first one, unless another is asked for; one that is not there is an error that counts them."""
    data = _encode(speech, "matroska", "pcm_s16le", 16_000, tracks=2)
    assert np.abs(_read(data)).max() == 0.0 and np.abs(_read(data, track=2)).max() > 0.1
    with pytest.raises(AudioError, match="2 audio tracks; there is no number 3"):
        _read(data, track=3)
    with pytest.raises(AudioError, match="one audio track"):
        seconds_of_recording(io.BytesIO(_encode(speech, "flac", "flac", 16_000)), track=2)


def _wav(data: bytes, kind: int = 1, channels: int = 1, rate: int = 16_000, bits: int = 16, declared: int | None = None) -> bytes:  # fmt: skip
    align = max(1, channels * bits // 8)
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, kind, channels, rate,
                       min(rate * align, 0xFFFFFFFF), align, bits)  # fmt: skip
    return head + struct.pack("<4sI", b"data", len(data) if declared is None else declared) + data


def _tone(seconds: float, rate: int) -> bytes:
    wave = np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 200 / rate) * 8_000
    return wave.astype("<i2").tobytes()


def _subtitles() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return out.getvalue()


_FLOATS = np.sin(np.arange(32_000) / 20).astype("<f4") / 2
_FLOATS[1_000:1_100], _FLOATS[2_000], _FLOATS[3_000] = np.nan, np.inf, -np.inf


@pytest.mark.parametrize(
    ("case", "data", "seconds"),
    [
        ("declared much longer than it is", _wav(_tone(2, 16_000), declared=0x7FFFFFF0), 2.0),
        ("declared without an end", _wav(_tone(2, 16_000), declared=0xFFFFFFFF), 2.0),
        ("half a sample at the end", _wav(_tone(2, 16_000) + b"x"), 2.0),
        ("NaN and infinity", _wav(_FLOATS.tobytes(), kind=3, bits=32), 2.0),
        ("one sample", _wav(b"\0\1"), 0.0),
        ("768 kHz", _wav(_tone(1, 768_000), rate=768_000), 1.0),
        ("1 kHz", _wav(_tone(3, 1_000), rate=1_000), 3.0),
        ("32 channels", _wav(_tone(32, 16_000), channels=32), 1.0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unusual_files(case: str, data: bytes, seconds: float) -> None:
    """Are read as far as they go; nothing is out of bounds."""
    samples = _read(data)
    assert len(samples) / 16_000 == pytest.approx(seconds, abs=0.02), case
    assert np.isfinite(samples).all() and np.abs(samples).max(initial=0.0) <= 1.0


@pytest.mark.parametrize(
    ("case", "data", "says"),
    [
        ("text", b"Dear all, this is a letter.\n" * 100, "cannot be read as audio"),
        ("nothing", b"", "cannot be read as audio"),
        ("zeros", bytes(100_000), "cannot be read as audio"),
        ("a header alone", _wav(b"")[:30], "cannot be read as audio"),
        ("no channels", _wav(_tone(1, 16_000), channels=0), "cannot be read as audio|no channels"),
        ("no rate", _wav(_tone(1, 16_000), rate=0), "cannot be read as audio|samples a second"),
        ("1 Hz", _wav(_tone(1, 16_000), rate=1), "1 samples a second"),
        (
            "a codec of nobody's",
            _wav(_tone(1, 16_000), kind=0x7A7A),
            "cannot be read as audio|can decode|decoded",
        ),
        ("pictures only", _subtitles(), "no audio track in it, only video"),
        ("a playlist", b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/x.wav\n" * 20, "cannot be read as audio"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)
def test_what_is_no_recording(case: str, data: bytes, says: str) -> None:
    """Is refused in a sentence, with the reason, before and while it is read."""
    with pytest.raises(AudioError, match=says) as caught:
        _read(data)
    assert str(caught.value).endswith("."), case


@pytest.mark.parametrize(
    ("format", "codec", "keeps"),
    [("mp4", "aac", False), ("mp3", "libmp3lame", True), ("flac", "flac", True), ("wav", "pcm_s16le", True),
     ("ogg", "libopus", True), ("matroska", "aac", True)],
)  # fmt: skip
def test_truncated_files(speech: Array, format: str, codec: str, keeps: bool) -> None:
    """Give what is there, and are refused where nothing can be found in them without their end."""
    data = _encode(speech, format, codec, 48_000)
    for share in (0.01, 0.3, 0.7):
        try:
            seconds = len(_read(data[: int(len(data) * share)])) / 16_000
            assert seconds < 5.5 and (share < 0.3 or seconds > 6 * share - 1.5)
        except AudioError as error:
            assert not keeps or share < 0.3, error


@pytest.mark.parametrize("format", ["mp4", "mp3", "flac", "wav", "ogg", "matroska", "avi"])
def test_damaged_files(speech: Array, format: str) -> None:
    """Wherever bytes are wrong: samples or an AudioError, and no other exception."""
    codec = {"mp4": "aac", "mp3": "libmp3lame", "flac": "flac", "wav": "pcm_s16le", "ogg": "libopus"}
    whole = _encode(speech, format, codec.get(format, "libmp3lame"), 48_000)
    chance = np.random.default_rng(7)
    for _ in range(12):
        data = bytearray(whole)
        for at in chance.integers(0, len(data), 20):
            data[at] = chance.integers(0, 256)
        data[int(chance.integers(0, 200))] ^= 0xFF
        try:
            assert np.abs(_read(bytes(data))).max(initial=0.0) <= 1.0
        except AudioError:
            continue


def test_a_cover_picture(speech: Array) -> None:
    """Is no hindrance."""
    data = _cover() + _encode(speech, "mp3", "libmp3lame", 44_100)
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video
    assert len(_read(data)) / 16_000 == pytest.approx(6, abs=0.2)


def test_much_out_of_little() -> None:
    """An hour of silence in some kilobytes comes in blocks: nothing ever holds all of it."""
    out = io.BytesIO()
    with av.open(out, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=16_000)
        stream.layout = "mono"
        for _ in range(3_600):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), format="s16", layout="mono")
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert len(out.getvalue()) < 1_000_000
    blocks = [len(block) for block in RecordingReader(io.BytesIO(out.getvalue()), 5.0)]
    assert max(blocks) == 80_000 and sum(blocks) == 3_600 * 16_000
