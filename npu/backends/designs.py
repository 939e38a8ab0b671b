"""What the NPU does of a model in the mode that was chosen, composed: of which packages are built, and which it runs."""

from __future__ import annotations

from pathlib import Path

from npu.acceleration import Mode
from npu.backends.xdna import MOONSHINE_SPANS, Composed, moonshine_design, whisper_design, whisper_spans
from npu.backends.xdna_whole import WholeDesign, moonshine_whole, whisper_whole
from npu.catalog import Named
from npu.checkpoint import Checkpoint
from npu.lean import shipped_weights
from npu.moonshine import TINY
from npu.store import folder_of
from npu.weights import Weights
from npu.whisper import architecture_of
from npu.whisper_weights import WhisperWeights
from npu.xdna.encoder import EncoderDesign
from npu.xdna.failures import NpuUnavailable
from npu.xdna.float_encoder import FloatEncoder, of_moonshine, of_whisper
from npu.xdna.mixed_encoder import MixedDesign
from npu.xdna.quant import QuantisedEncoder
from npu.xdna.quant_file import latest_encoder
from streaming.errors import ModelError

ModelDesign = EncoderDesign | MixedDesign | WholeDesign


def model_design(named: Named, mode: Mode, models_dir: Path | None, cache_dir: Path) -> ModelDesign:
    """Of a model by name; ModelError where it is not installed, NpuUnavailable where it was not quantised and must be.

    cache_dir: where quantised models are kept.
    """
    if named.embedded:
        return moonshine_on_npu(shipped_weights(), mode, cache_dir)
    return whisper_on_npu(named, Checkpoint(folder_of(named, models_dir)), mode, cache_dir)


def packages_of(design: ModelDesign) -> tuple[Composed, ...]:
    """What has a package of its own."""
    return (design.convolutions, design.layers) if isinstance(design, MixedDesign) else (design,)


def moonshine_on_npu(weights: Weights, mode: Mode, cache_dir: Path) -> ModelDesign:
    """Moonshine tiny's."""
    if mode.decoder == "npu":
        return moonshine_whole(weights, mode.precision)
    if mode.precision == "int8":
        quantised = _quantised(of_moonshine(weights), TINY.name, cache_dir)
        return MixedDesign.moonshine(weights, quantised, MOONSHINE_SPANS)
    return moonshine_design(weights)


def whisper_on_npu(named: Named, checkpoint: Checkpoint, mode: Mode, cache_dir: Path) -> ModelDesign:
    """A Whisper checkpoint's."""
    weights = WhisperWeights(checkpoint, "fp32")
    if mode.decoder == "npu":
        return whisper_whole(weights, architecture_of(checkpoint), mode.precision)
    if mode.precision == "int8":
        quantised = _quantised(of_whisper(checkpoint), named.name, cache_dir)
        return MixedDesign.whisper(weights, quantised, whisper_spans(weights))
    return whisper_design(weights)


def _quantised(encoder: FloatEncoder, name: str, cache_dir: Path) -> QuantisedEncoder:
    """A model's encoder in 8 bits, as it was made last; NpuUnavailable where it was not."""
    remedy = f"amanuensis models quantize {name}"
    try:
        found = latest_encoder(encoder, cache_dir)
    except ModelError as error:
        raise NpuUnavailable(f"{error} Make it again: {remedy}") from error
    if found is None:
        raise NpuUnavailable(f"{name} was not quantised yet: {remedy}")
    return found
