"""What a backend must know of a model before it runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from npu.mel import HOP


class Prepare(Protocol):
    """How audio becomes the encoder graph's input."""

    def __call__(self, audio: NDArray[np.float32], short: bool, /) -> NDArray[np.float32]:
        """audio [n] at 16 kHz -> the input `audio`; `short`: of its own length, not of the model's whole context."""


@dataclass(frozen=True)
class Spectrogram:
    """The log-mel features of a model that hears through them; `npu.mel` makes them."""

    bins: int
    frames: int  # of the whole context
    frames_per_state: int
    step: int  # frames, of which the length of every input is a multiple

    def fitted(self, features: NDArray[np.float32], short: bool) -> NDArray[np.float32]:
        """features [frames, bins], a slice of a recording's -> as long as the encoder wants them, zeros at the end."""
        wanted = self.frames
        if short:
            wanted = self.rounded(len(features))
        return np.pad(features, ((0, wanted - len(features)), (0, 0)))

    def frames_for(self, samples: int, short: bool) -> int:
        """Of an input for so much audio."""
        return self.rounded(-(-samples // HOP)) if short else self.frames

    def rounded(self, frames: int) -> int:
        """The length of a short input for so many frames."""
        return min(self.frames, max(1, -(-frames // self.step)) * self.step)


@dataclass(frozen=True)
class Architecture:
    """Sizes of an encoder-decoder, and how audio becomes the encoder's input."""

    name: str  # e.g. "moonshine-tiny"
    layers: int  # of the decoder
    heads: int
    head_width: int  # values of a head's key
    stored_width: int  # the same, as the cache stores it
    vocabulary: int  # tokens
    most_tokens: int  # longest decoding the position table allows
    most_samples: int  # longest window the position table allows
    tokens_per_second: float  # no speech is denser
    aligned: Mapping[int, tuple[int, ...]]  # decoder layer -> heads whose cross-attention follows the speech
    samples_per_state: int  # of audio, for one encoder state
    prepare: Prepare
    spectrogram: Spectrogram | None = None  # None: it hears the audio itself

    def states(self, samples: int) -> int:
        """Encoder states that hold so much audio; at least one."""
        return max(1, -(-samples // self.samples_per_state))

    def token_limit(self, samples: int, sample_rate: int) -> int:
        """The most tokens a window of this length can hold."""
        return min(int(np.ceil(samples / sample_rate * self.tokens_per_second)) + 1, self.most_tokens)
