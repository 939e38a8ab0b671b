"""A whole model in 8 bits: its encoder, and its decoder, which is calibrated on what the model hears in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from npu.opening import opened
from npu.transcriber import ModelTranscriber
from npu.weights import Array
from npu.xdna.float_model import FloatModel
from npu.xdna.quant import Progress, QuantisedEncoder, quantise
from npu.xdna.quant_decoder import QuantisedDecoder, Text, quantise_decoder
from streaming.window import PLAIN, SAMPLE_RATE, Purpose, Window

LONGEST_S = 30  # of what is heard at once


@dataclass(frozen=True, eq=False)
class QuantisedModel:
    """Both parts."""

    encoder: QuantisedEncoder
    decoder: QuantisedDecoder


def quantise_model(model: FloatModel, audio: Sequence[Array], progress: Progress) -> QuantisedModel:
    """audio: pieces of speech [n] at 16 kHz, to calibrate on. ModelError where a scale does not fit.

    `progress` gets a line for each slow step.
    """
    windows = [model.architecture.prepare(each, False) for each in audio]
    encoder = quantise(model.encoder, windows, model.most_frames, progress)
    progress("Listening in float32")
    return QuantisedModel(
        encoder, quantise_decoder(model.decoder, encoder.crosses, texts(model, audio), progress)
    )


def pieces(audio: Array, model: FloatModel) -> Iterator[Array]:
    """A recording [n] in equal parts that the model can hear as one."""
    longest = min(LONGEST_S * SAMPLE_RATE, model.architecture.most_samples)
    yield from np.array_split(audio, max(1, -(-len(audio) // longest)))


def texts(model: FloatModel, audio: Sequence[Array]) -> list[Text]:
    """What the model hears in pieces of audio [n], in float32."""
    transcriber = ModelTranscriber(model.reference, model.architecture, model.tokenizer)
    found = []
    for each in audio:
        heard = transcriber.transcribe(Window(0, 0, each, (), (), Purpose.FINAL))
        encoded = model.reference.encode(each)
        begun = opened(model.reference, model.tokenizer, encoded.start(), PLAIN)
        found.append(Text((*begun.opening, *heard.tokens), encoded.cross))
    return found
