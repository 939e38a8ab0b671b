"""Models by name: what is installed here, made resident."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from npu.acceleration import Mode
from npu.backends.designs import moonshine_on_npu, whisper_on_npu
from npu.backends.failover import load_whole
from npu.backends.onnx import OnnxBackend, Runner, provider_of
from npu.backends.xdna import Elsewhere, HybridBackend, Opener, elsewhere
from npu.backends.xdna_whole import WholeDesign
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
from npu.whisper import architecture_of, load_backend
from streaming.vad import FrameJudge

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

    def plain(encoder: Elsewhere | None = None) -> OnnxBackend:
        return load_backend(folder, _beside_npu(device), cache, precision, threads, progress, encoder)[0]

    def accelerated(opener: Opener) -> Resident:
        checkpoint = Checkpoint(folder)
        design = whisper_on_npu(named, checkpoint, npu, cache)
        if isinstance(design, WholeDesign):
            return load_whole(opener, design, architecture_of(checkpoint), plain, cache)
        return plain(elsewhere(opener, design, cache))

    backend = selected(device, cache, accelerated, plain)
    transcriber = ModelTranscriber(backend, backend.architecture, tokenizer, live_context)
    if named.repository:
        transcriber.name = named.name  # the folder's is a key
    return transcriber


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
        design = moonshine_on_npu(weights, npu, cache_dir)
        if isinstance(design, WholeDesign):
            return load_whole(opener, design, TINY, plain, cache_dir)
        encoder = elsewhere(opener, design, cache_dir)
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
