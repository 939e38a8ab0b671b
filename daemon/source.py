"""The source of one session: how its producer's audio is read, and counted at the rate the producer declared."""

from __future__ import annotations

from streaming.audio import PcmDecoder, Samples
from streaming.errors import StateError
from streaming.protocol import AudioFormat
from streaming.window import SAMPLE_RATE

_ANY_SLICE = 1 << 14  # bytes, before a format is known


class Source:
    """Producers come and go, each with its format; the count goes on."""

    def __init__(self, rate: int, position: int, metered: bool) -> None:
        """rate: Hz, as declared; position: 16 kHz samples there are; metered: levels of channels are wanted."""
        self._rate = rate
        self._metered = metered
        self._audio: AudioFormat | None = None
        self._decoder: PcmDecoder | None = None
        self.next = 0  # the first sample, at the declared rate, that the session does not have
        self.follow(position)

    def open(self, audio: AudioFormat | None, position: int) -> None:
        """Another producer, sending `audio`, or 16 kHz samples of a source of ours (None)."""
        rate = audio.sample_rate if audio is not None else SAMPLE_RATE
        self._audio = audio
        if rate != self._rate:
            self._rate = rate
            self.follow(position)

    def follow(self, position: int) -> None:
        """The session has so many samples at 16 kHz."""
        self.next = position * self._rate // SAMPLE_RATE

    def skip(self, samples: int) -> int:
        """So many at the declared rate are missing -> the position at 16 kHz after them."""
        self.next += samples
        return round(self.next * SAMPLE_RATE / self._rate)

    def samples_of(self, seconds: float) -> float:
        """At the declared rate."""
        return seconds * self._rate

    def slice_bytes(self, seconds: float) -> int:
        """Bytes of about so much raw audio."""
        audio = self._audio
        return _ANY_SLICE if audio is None else int(seconds * audio.sample_rate) * audio.channels * 2

    def decode(self, data: bytes) -> tuple[Samples, Samples | None]:
        """Raw PCM -> samples [n] at 16 kHz, and the levels of its channels where they are wanted."""
        if self._decoder is None:
            if self._audio is None:
                raise StateError("feed_raw: attach the producer with the format of its audio.")
            self._decoder = PcmDecoder(self._audio, self._metered)
        decoder = self._decoder
        before = decoder.received
        samples = decoder.decode(data)
        self.next += decoder.received - before
        return samples, decoder.levels() if decoder.metered else None

    def flush(self) -> Samples | None:
        """What the resampler holds, which belongs to the audio before; the next decoder begins afresh."""
        decoder, self._decoder = self._decoder, None
        return None if decoder is None else decoder.flush()
