"""What a model hears in 8 bits, and what it hears in float32, of the same recordings."""

from __future__ import annotations

from dataclasses import dataclass

from npu.backends.quantised import QuantisedBackend
from npu.model import Backend
from npu.transcriber import ModelTranscriber
from npu.weights import Array
from npu.word_errors import plain_words, word_errors
from npu.xdna.float_model import FloatModel
from npu.xdna.quant_model import QuantisedModel, pieces
from streaming.window import Purpose, Window


@dataclass(frozen=True)
class Heard:
    """A recording's text."""

    in_float: str
    encoder: str  # with the encoder in 8 bits
    whole: str  # with the decoder in 8 bits as well

    @property
    def words(self) -> int:
        """In float32."""
        return len(plain_words(self.in_float))

    @property
    def changed_by_encoder(self) -> int:
        """Words that are others, missing, or more with the encoder in 8 bits."""
        return self._changed(self.encoder)

    @property
    def changed(self) -> int:
        """The same with all of the model."""
        return self._changed(self.whole)

    def _changed(self, text: str) -> int:
        return word_errors(plain_words(self.in_float), plain_words(text))


class Trial:
    """The model in float32, with its encoder in 8 bits, and as a whole."""

    def __init__(self, model: FloatModel, quantised: QuantisedModel) -> None:
        self._model = model
        backends: tuple[Backend, ...] = (
            model.reference,
            QuantisedBackend(model, quantised.encoder),
            QuantisedBackend(model, quantised.encoder, quantised.decoder),
        )
        self._transcribers = [
            ModelTranscriber(each, model.architecture, model.tokenizer) for each in backends
        ]

    def hear(self, audio: Array) -> Heard:
        """audio [n] at 16 kHz, of any length."""
        return Heard(*(self._text(each, audio) for each in self._transcribers))

    def _text(self, transcriber: ModelTranscriber, audio: Array) -> str:
        windows = (Window(0, 0, piece, (), (), Purpose.FINAL) for piece in pieces(audio, self._model))
        return " ".join(word.text for window in windows for word in transcriber.transcribe(window).words)
