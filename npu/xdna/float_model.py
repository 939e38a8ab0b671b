"""A model by name in float32: what is quantised, and what its text is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from npu.architecture import Architecture
from npu.backends.reference import Reference, ReferenceBackend
from npu.backends.whisper_reference import WhisperReference
from npu.catalog import Named
from npu.checkpoint import Checkpoint
from npu.embedded import TOKENIZER, shipped
from npu.hf_tokens import HuggingFaceTokenizer
from npu.lean import shipped_weights
from npu.moonshine import POSITIONS, TINY
from npu.store import folder_of
from npu.tokens import ListedTokenizer, Tokenizer
from npu.weights import Attention, DecoderLayer, Dense, EncoderLayer, Matrix, Weights
from npu.whisper import architecture_of
from npu.xdna import float_encoder
from npu.xdna.float_encoder import FloatEncoder

_AnyLayer = TypeVar("_AnyLayer", EncoderLayer, DecoderLayer)


@dataclass(frozen=True, eq=False)
class FloatModel:
    """Everything of it."""

    encoder: FloatEncoder
    reference: Reference
    architecture: Architecture
    tokenizer: Tokenizer
    most_frames: int  # that the encoder has positions for


def float_model(named: Named, models_dir: Path | None = None) -> FloatModel:
    """ModelError where it is not installed, or no such model."""
    if named.embedded:
        weights = in_floats(shipped_weights())
        tokenizer = ListedTokenizer.read(shipped(TOKENIZER))
        reference = ReferenceBackend(TINY, weights)
        return FloatModel(float_encoder.of_moonshine(weights), reference, TINY, tokenizer, POSITIONS)
    folder = folder_of(named, models_dir)
    checkpoint = Checkpoint(folder)
    architecture = architecture_of(checkpoint)
    return FloatModel(
        float_encoder.of_whisper(checkpoint), WhisperReference(architecture, checkpoint), architecture,
        HuggingFaceTokenizer.read(folder), checkpoint.sizes.states,
    )  # fmt: skip


def in_floats(weights: Weights) -> Weights:
    """The same numbers stored in float32: what is multiplied a thousand times is dequantised once."""
    return replace(
        weights,
        encoder=tuple(_layer(each) for each in weights.encoder),
        decoder=tuple(replace(_layer(each), cross=_attention(each.cross)) for each in weights.decoder),
        head=_dense(weights.head),
    )


def _layer(layer: _AnyLayer) -> _AnyLayer:
    return replace(layer, attention=_attention(layer.attention), up=_dense(layer.up), down=_dense(layer.down))


def _attention(attention: Attention) -> Attention:
    return Attention(
        *(_dense(each) for each in (attention.query, attention.key, attention.value, attention.output))
    )


def _dense(matrix: Matrix) -> Dense:
    return Dense(matrix.dense(), matrix.bias)
