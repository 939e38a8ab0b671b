"""What a backend must know of a model before it runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Architecture:
    """Sizes of an encoder-decoder, and how audio becomes the encoder's input."""

    name: str  # e.g. "moonshine-tiny"
    layers: int  # of the decoder
    heads: int
    head_width: int  # values of a head's key
    stored_width: int  # the same, as the cache stores it
    vocabulary: int  # tokens
    begin: int  # the token every decoding begins with
    end: int  # the token that ends it
    most_tokens: int  # longest decoding the position table allows
    most_samples: int  # longest window the position table allows
    tokens_per_second: float  # no speech is denser
    aligned_layers: tuple[int, ...]  # decoder layers whose cross-attention follows the speech
    prepare: Callable[[NDArray[np.float32]], NDArray[np.float32]]  # audio [n] -> the encoder graph's `audio`

    def token_limit(self, samples: int, sample_rate: int) -> int:
        """The most tokens a window of this length can hold."""
        return min(int(np.ceil(samples / sample_rate * self.tokens_per_second)) + 1, self.most_tokens)
