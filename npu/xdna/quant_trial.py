"""What a model hears with its encoder in 8 bits, and what it hears in float32: the same recordings, the same decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from npu.backends.quantised import QuantisedBackend
from npu.backends.reference import Array
from npu.model import Backend
from npu.transcriber import ModelTranscriber
from npu.word_errors import plain_words, word_errors
from npu.xdna.float_model import FloatModel
from npu.xdna.quant import QuantisedEncoder
from streaming.window import SAMPLE_RATE, Purpose, Window

LONGEST_S = 30  # of what is heard at once


@dataclass(frozen=True)
class Heard:
    """A recording's text."""

    in_float: str
    in_eight: str

    @property
    def words(self) -> int:
        """Of the text in float32."""
        return len(plain_words(self.in_float))

    @property
    def changed(self) -> int:
        """Words of it that are others, missing, or more in 8 bits."""
        return word_errors(plain_words(self.in_float), plain_words(self.in_eight))


class Trial:
    """Both models, resident."""

    def __init__(self, model: FloatModel, quantised: QuantisedEncoder) -> None:
        in_eight = QuantisedBackend(model.architecture, model.reference, model.encoder, quantised)
        self._float, self._eight = (
            ModelTranscriber(each, model.architecture, model.tokenizer) for each in _both(model, in_eight)
        )

    def hear(self, audio: Array) -> Heard:
        """audio [n] at 16 kHz, of any length."""
        texts = []
        for transcriber in (self._float, self._eight):
            found = []
            for piece in pieces(audio, self._longest(transcriber)):
                hypothesis = transcriber.transcribe(Window(0, 0, piece, (), (), Purpose.FINAL))
                found += [word.text for word in hypothesis.words]
            texts.append(" ".join(found))
        return Heard(*texts)

    def _longest(self, transcriber: ModelTranscriber) -> int:
        return round(min(LONGEST_S, transcriber.context_s or LONGEST_S) * SAMPLE_RATE)


def pieces(audio: Array, longest: int) -> Iterator[Array]:
    """audio [n] in equal parts of at most so many samples."""
    yield from np.array_split(audio, max(1, -(-len(audio) // longest)))


def _both(model: FloatModel, in_eight: QuantisedBackend) -> Sequence[Backend]:
    return model.reference, in_eight
