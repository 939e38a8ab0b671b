"""A model's encoder in 8 bits, and what the model hears in float32 of recordings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from npu.opening import opened
from npu.transcriber import ModelTranscriber
from npu.weights import Array
from npu.xdna.float_model import FloatModel
from npu.xdna.quant import Progress, QuantisedEncoder, quantise
from streaming.window import PLAIN, SAMPLE_RATE, Purpose, Window

LONGEST_S = 30  # of what is heard at once


def quantise_model(model: FloatModel, audio: Sequence[Array], progress: Progress) -> QuantisedEncoder:
    """audio: pieces of speech [n] at 16 kHz, to calibrate on. ModelError where a scale does not fit.

    `progress` gets a line for each slow step.
    """
    windows = [model.architecture.prepare(each, False) for each in audio]
    return quantise(model.encoder, windows, model.most_frames, progress)


def pieces(audio: Array, model: FloatModel) -> Iterator[Array]:
    """A recording [n] in equal parts that the model can hear as one."""
    longest = min(LONGEST_S * SAMPLE_RATE, model.architecture.most_samples)
    yield from np.array_split(audio, max(1, -(-len(audio) // longest)))


def text(model: FloatModel, audio: Array) -> tuple[int, ...]:
    """Tokens of what the model hears in a piece of audio [n], with those of the opening."""
    transcriber = ModelTranscriber(model.reference, model.architecture, model.tokenizer)
    heard = transcriber.transcribe(Window(0, 0, audio, (), (), Purpose.FINAL))
    start = model.reference.encode(audio).start()
    return (*opened(model.reference, model.tokenizer, start, PLAIN).opening, *heard.tokens)
