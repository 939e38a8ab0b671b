"""Models by name: what is installed here, made resident."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from npu.acceleration import Mode
from npu.backends.failover import load_whole
from npu.backends.onnx import OnnxBackend, Runner, provider_of
from npu.backends.xdna import (
    Composed,
    Elsewhere,
    HybridBackend,
    Opener,
    mixed_designs,
    mixed_elsewhere,
    moonshine_design,
    moonshine_elsewhere,
    whisper_design,
    whisper_elsewhere,
)
from npu.backends.xdna_whole import moonshine_whole, whisper_whole
from npu.catalog import resolve
from npu.checkpoint import Checkpoint
from npu.embedded import TOKENIZER, default_cache_dir, package_folder, shipped
from npu.hf_tokens import HuggingFaceTokenizer
from npu.lean import lean_graphs, lean_silero, shipped_weights
from npu.moonshine import TINY
from npu.moonshine_encoder import cross_graph
from npu.selection import NPU, Resident, selected
from npu.silero import SileroJudge
from npu.store import folder_of
from npu.tokens import ListedTokenizer
from npu.transcriber import LiveContext, ModelTranscriber, Transcriber
from npu.weights import Weights
from npu.whisper import architecture_of, load_backend
from npu.xdna.failures import NpuUnavailable
from npu.xdna.float_encoder import of_moonshine
from npu.xdna.quant import QuantisedEncoder
from npu.xdna.quant_file import latest_model
from streaming.errors import ModelError
from streaming.vad import FrameJudge

logger = logging.getLogger("amanuensis.npu")

_USUAL = Mode()


def _unheard(_line: str) -> None:
    """Progress that nobody asked for."""


def load_transcriber(
    model: str = "moonshine-tiny",
    device: str = "auto",
    cache_dir: Path | None = None,
    progress: Callable[[str], None] = _unheard,
    *,
    precision: str = "int8",
    threads: int = 1,
    live_context: LiveContext = "full",
    models_dir: Path | None = None,
    npu: Mode = _USUAL,
) -> Transcriber:
    """The resident model. `progress` gets a line for each slow step; ModelError says what to do.

    model: a name of the catalogue, owner/name of a pulled one, or a checkpoint's folder. device: "npu" and "auto" have
    the NPU used where it can be, see `selection`; other names are ONNX Runtime's. precision, threads and live_context
    ("full", "window") are those of pulled models and folders; docs/models.md says what they mean. npu: what the NPU
    does; docs/npu.md says when to have it do what.
    """
    named = resolve(model)
    provider_of(_beside_npu(device))  # refuses before anything slow
    cache = cache_dir or default_cache_dir(progress)
    if named.embedded:
        return _moonshine(device, cache, progress, npu)
    folder = folder_of(named, models_dir)
    tokenizer = HuggingFaceTokenizer.read(folder)
    if named.entry is not None and named.entry.english_only:
        _speak_english(tokenizer)

    def plain(encoder: Callable[[Checkpoint], Elsewhere] | None = None) -> OnnxBackend:
        return load_backend(folder, _beside_npu(device), cache, precision, threads, progress, encoder)[0]

    def accelerated(opener: Opener) -> Resident:
        if npu.decoder == "npu":
            checkpoint = Checkpoint(folder)
            architecture = architecture_of(checkpoint)
            return load_whole(opener, whisper_whole(checkpoint, architecture), architecture, plain, cache)
        if npu.precision == "int8":
            logger.warning("the NPU has no encoder in 8 bits for %s; it is in bf16", named.name)
        return plain(partial(whisper_elsewhere, opener, cache_dir=cache))

    backend = selected(device, cache, accelerated, plain)
    transcriber = ModelTranscriber(backend, backend.architecture, tokenizer, live_context)
    if named.repository:
        transcriber.name = named.name  # the folder's is a key
    return transcriber


def npu_designs(
    model: str, npu: Mode, models_dir: Path | None = None, cache_dir: Path | None = None
) -> tuple[Composed, ...]:
    """What has to be built so that the NPU can do that for a model; ModelError where the model is not installed, or
    not quantised.
    """
    named = resolve(model)
    if named.embedded:
        weights = shipped_weights()
        if npu.decoder == "npu":
            return (moonshine_whole(weights),)
        if npu.precision == "int8":
            return mixed_designs(weights, _quantised(weights, cache_dir or default_cache_dir(_unheard)))
        return (moonshine_design(weights),)
    checkpoint = Checkpoint(folder_of(named, models_dir))
    if npu.decoder == "npu":
        return (whisper_whole(checkpoint, architecture_of(checkpoint)),)
    return (whisper_design(checkpoint),)


def _quantised(weights: Weights, cache_dir: Path) -> QuantisedEncoder:
    """Moonshine tiny's encoder in 8 bits, as it was made last; NpuUnavailable where it was not."""
    remedy = f"amanuensis models quantize {TINY.name}"
    try:
        found = latest_model(of_moonshine(weights), cache_dir)
    except ModelError as error:
        raise NpuUnavailable(f"{error} Make it again: {remedy}") from error
    if found is None:
        raise NpuUnavailable(f"{TINY.name} was not quantised yet: {remedy}")
    return found.encoder


def _speak_english(tokenizer: HuggingFaceTokenizer) -> None:
    """Distilled models have the tokens of many languages, and were taught one."""
    signals, tokenizer.languages = tokenizer.signals, ("en",)
    languages = {code: token for code, token in signals.languages.items() if code == "en"}
    tasks = {task: token for task, token in signals.tasks.items() if task == "transcribe"}
    tokenizer.signals = replace(signals, languages=languages, tasks=tasks)


def _moonshine(device: str, cache_dir: Path, progress: Callable[[str], None], npu: Mode) -> Transcriber:
    tokenizer = ListedTokenizer.read(shipped(TOKENIZER, package_folder()))

    def accelerated(opener: Opener) -> Resident:
        weights = shipped_weights()
        if npu.decoder == "npu":
            return load_whole(opener, moonshine_whole(weights), TINY, plain, cache_dir)
        if npu.precision == "int8":
            encoder = mixed_elsewhere(opener, weights, _quantised(weights, cache_dir), cache_dir)
        else:
            encoder = moonshine_elsewhere(opener, weights, cache_dir)
        graphs = lean_graphs(cache_dir, progress)
        progress(f"Loading {TINY.name}")
        return HybridBackend(
            TINY,
            encoder,
            cross_graph(weights),
            lambda: lean_graphs(cache_dir, progress).encoder,
            graphs.decoder,
            graphs.lockstep,
        )

    def plain() -> OnnxBackend:
        graphs = lean_graphs(cache_dir, progress)
        progress(f"Loading {TINY.name}")
        return OnnxBackend(TINY, graphs.encoder, graphs.decoder, graphs.lockstep, _beside_npu(device))

    return ModelTranscriber(selected(device, cache_dir, accelerated, plain), TINY, tokenizer)


def _beside_npu(device: str) -> str:
    """What runs all that the NPU does not."""
    return "cpu" if device == NPU else device


def load_judge(cache_dir: Path | None = None) -> Callable[[], FrameJudge]:
    """Makes one judge for each stream; all share the resident Silero model. ModelError when there is none."""
    runner = Runner(lean_silero(cache_dir or default_cache_dir(_unheard), _unheard))
    return lambda: SileroJudge(runner)
