"""What a model hears with its encoder, its decoder or both in 8 bits, and what in float32, of the same recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from npu.backends.quantised import QuantisedBackend
from npu.model import Backend
from npu.transcriber import ModelTranscriber
from npu.weights import Array
from npu.word_errors import plain_words, word_errors
from npu.xdna.float_model import FloatModel
from npu.xdna.quant import QuantisedEncoder
from npu.xdna.quant_model import pieces
from npu.xdna.rounded import Rounded
from streaming.window import Purpose, Window

ENCODER, DECODER, BOTH = READINGS = (
    "encoder",
    "decoder",
    "both",
)  # what is in 8 bits; the rest is in float32


def readings(model: FloatModel, encoder: QuantisedEncoder) -> dict[str, Backend]:
    """The model with that in 8 bits, by the names of READINGS."""
    rounded = Rounded(model.reference)
    return {
        ENCODER: QuantisedBackend(model, encoder, model.reference),
        DECODER: rounded,
        BOTH: QuantisedBackend(model, encoder, rounded),
    }


@dataclass(frozen=True)
class Heard:
    """A recording's text."""

    in_float: str
    in_eight: Mapping[str, str]  # by reading

    @property
    def words(self) -> int:
        """In float32."""
        return len(plain_words(self.in_float))

    def changed(self, reading: str) -> int:
        """Words that are others, missing, or more than in float32."""
        return word_errors(plain_words(self.in_float), plain_words(self.in_eight[reading]))


class Trial:
    """The model in float32, and in each reading."""

    def __init__(self, model: FloatModel, encoder: QuantisedEncoder) -> None:
        self._model = model
        self._in_float = self._transcriber(model.reference)
        self._in_eight = {
            name: self._transcriber(backend) for name, backend in readings(model, encoder).items()
        }

    def hear(self, audio: Array) -> Heard:
        """audio [n] at 16 kHz, of any length."""
        in_eight = {name: self._text(each, audio) for name, each in self._in_eight.items()}
        return Heard(self._text(self._in_float, audio), in_eight)

    def _transcriber(self, backend: Backend) -> ModelTranscriber:
        return ModelTranscriber(backend, self._model.architecture, self._model.tokenizer)

    def _text(self, transcriber: ModelTranscriber, audio: Array) -> str:
        windows = (Window(0, 0, piece, (), (), Purpose.FINAL) for piece in pieces(audio, self._model))
        return " ".join(word.text for window in windows for word in transcriber.transcribe(window).words)
