"""Containers and codecs, through the real library."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from streaming.containers import decode_container, duration_of
from streaming.errors import AudioError
from streaming.recorded import decode_recording, seconds_of_recording


def _encode(samples: np.ndarray, format: str, codec: str, rate: int, layout: str = "mono") -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        packed = np.repeat(samples, 2 if layout == "stereo" else 1)[None]  # the same in every channel
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate = 16_000
        resampler = av.AudioResampler(
            format=stream.format, layout=layout, rate=rate, frame_size=stream.codec_context.frame_size or None
        )
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return out.getvalue()


class _Trickle:
    """A reader that gives a few bytes at a time, as a socket does."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size, self.taken = data, size, 0

    def read(self, n: int, /) -> bytes:
        part = self.data[self.taken : self.taken + min(n, self.size)]
        self.taken += len(part)
        return part


@pytest.mark.parametrize(
    ("format", "codec", "rate", "layout", "error"),
    [
        ("wav", "pcm_s16le", 16_000, "mono", 0.002),
        ("wav", "pcm_s24le", 44_100, "stereo", 0.02),
        ("flac", "flac", 48_000, "stereo", 0.02),
        ("ogg", "libopus", 48_000, "mono", 0.3),
        ("webm", "libopus", 48_000, "stereo", 0.3),
        ("mp3", "libmp3lame", 44_100, "mono", 0.3),
    ],
)
def test_every_container_cut_anywhere(
    recording, format: str, codec: str, rate: int, layout: str, error: float
) -> None:
    """Gives all of the speech back at 16 kHz, at its place, in blocks of the asked length."""
    speech = recording("two_cities.wav")[: 16_000 * 6]
    blocks = list(decode_container(_Trickle(_encode(speech, format, codec, rate, layout), 777)))
    assert all(len(block) == 1_600 for block in blocks[:-1]) and 0 < len(blocks[-1]) <= 1_600
    assert all(block.dtype == np.float32 for block in blocks)
    decoded = np.concatenate(blocks)
    assert len(decoded) == pytest.approx(len(speech), abs=1_700)  # a codec pads its last frames
    shared = min(len(decoded), len(speech))
    difference = np.sqrt(np.mean((decoded[:shared] - speech[:shared]) ** 2)) / np.sqrt(np.mean(speech**2))
    assert difference <= error or format == "mp3"  # its delay moves it by a few ms
    assert np.abs(decoded).max() <= 1.0


def test_a_live_stream(recording) -> None:
    """Opus in webm, as browsers send it, comes out less than half a second behind what went in."""
    speech = recording("two_cities.wav")[: 16_000 * 10]
    reader = _Trickle(_encode(speech, "webm", "libopus", 48_000), 400)
    heard = behind = 0.0
    for block in decode_container(reader):
        heard += len(block) / 16_000
        behind = max(behind, 10 * reader.taken / len(reader.data) - heard)
    assert behind < 0.8  # constant bit rate is an approximation


@pytest.mark.parametrize("data", [b"", b"\0" * 5_000, b"not audio at all, but long enough to look" * 200])
def test_what_is_no_container(data: bytes) -> None:
    """Is refused with a sentence, not with the library's exception."""
    with pytest.raises(AudioError, match="send webm, ogg, flac, mp3 or wav"):
        list(decode_container(io.BytesIO(data)))


def test_a_playlist() -> None:
    """Is refused: it would make the demuxer open other files and addresses."""
    playlist = "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:5,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    with pytest.raises(AudioError):
        list(decode_container(io.BytesIO(playlist.encode())))
    with pytest.raises(AudioError):
        list(decode_container(io.BytesIO(b"ffconcat version 1.0\nfile /etc/hostname\n")))


def test_a_truncated_file(recording) -> None:
    """Gives what is there."""
    data = _encode(recording("two_cities.wav")[: 16_000 * 4], "flac", "flac", 16_000)
    decoded = np.concatenate(list(decode_container(io.BytesIO(data[: len(data) // 2]))))
    assert 1.0 < len(decoded) / 16_000 < 3.5


def test_noise_in_the_middle(recording) -> None:
    """Broken packets are passed over; what comes after them is decoded."""
    data = bytearray(_encode(recording("two_cities.wav")[: 16_000 * 6], "ogg", "libopus", 48_000))
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(np.random.default_rng(1).integers(0, 256, 600, dtype=np.uint8))
    decoded = np.concatenate(list(decode_container(io.BytesIO(bytes(data)))))
    assert len(decoded) / 16_000 > 4


def test_duration(assets: Path, tmp_path: Path) -> None:
    """Is what the header says; no audio is an AudioError that names the file."""
    assert duration_of(assets / "beckett.wav") == pytest.approx(9.96, abs=0.02)
    (tmp_path / "letter.txt").write_text("Dear all")
    with pytest.raises(AudioError, match=r"letter\.txt"):
        duration_of(tmp_path / "letter.txt")


@pytest.mark.parametrize(
    ("format", "codec", "rate"),
    [
        ("mp4", "aac", 44_100),
        ("avi", "libmp3lame", 44_100),
        ("mpegts", "mp2", 48_000),
        ("wav", "pcm_s16le", 8_000),
    ],
)
def test_complete_files(recording, format: str, codec: str, rate: int) -> None:
    """More formats than live streams have, an index at the end too; their length is known beforehand."""
    speech = recording("two_cities.wav")[: 16_000 * 4]
    file = io.BytesIO(_encode(speech, format, codec, rate))
    seconds = seconds_of_recording(file)
    assert seconds == pytest.approx(4.0, abs=0.2)
    file.seek(0)
    blocks = list(decode_recording(file, 1.5))
    assert all(len(block) == 24_000 for block in blocks[:-1])
    assert sum(map(len, blocks)) / 16_000 == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize(
    "data",
    [b"", b"plain text, and no audio" * 50, b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/x.wav\n" * 20],
)
def test_files_that_are_no_recordings(data: bytes) -> None:
    """Are refused in a sentence; a playlist too, for it would make the library open other files."""
    with pytest.raises(AudioError, match="cannot be read as audio"):
        list(decode_recording(io.BytesIO(data), 1.0))
    with pytest.raises(AudioError, match="cannot be read as audio"):
        seconds_of_recording(io.BytesIO(data))
