"""Models by name: what is installed here, made resident."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from npu.backends.onnx import OnnxBackend, Runner, provider_of
from npu.catalog import Named, resolve
from npu.checkpoint_folder import check_folder
from npu.embedded import TOKENIZER, default_cache_dir, package_folder, shipped
from npu.lean import lean_graphs, lean_silero
from npu.moonshine import TINY
from npu.silero import SileroJudge
from npu.store import Store
from npu.tokens import ListedTokenizer
from npu.transcriber import ModelTranscriber, Transcriber
from streaming.errors import ModelError
from streaming.vad import FrameJudge


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
    live_context: str = "full",
    models_dir: Path | None = None,
) -> Transcriber:
    """The resident model. `progress` gets a line for each slow step; ModelError says what to do.

    model: a name of the catalogue, owner/name of a pulled one, or a checkpoint's folder. precision, threads and
    live_context ("full", "window") are those of pulled models and folders; docs/models.md says what they mean.
    """
    named = resolve(model)
    provider_of(device)  # refuses before anything slow
    cache = cache_dir or default_cache_dir(progress)
    if named.embedded:
        return _moonshine(device, cache, progress)
    folder = folder_of(named, models_dir)
    progress(f"Loading {named.name}")
    raise ModelError(f"{folder} {precision} {threads} {live_context}")


def folder_of(named: Named, models_dir: Path | None = None) -> Path:
    """A checkpoint's folder, all its files there; ModelError names what is missing, and says how to get it."""
    folder = named.folder or Store.of(models_dir).require(named).folder
    check_folder(folder)
    return folder


def _moonshine(device: str, cache_dir: Path, progress: Callable[[str], None]) -> Transcriber:
    tokenizer = ListedTokenizer.read(shipped(TOKENIZER, package_folder()))
    graphs = lean_graphs(cache_dir, progress)
    progress(f"Loading {TINY.name}")
    backend = OnnxBackend(TINY, graphs.encoder, graphs.decoder, graphs.lockstep, device)
    return ModelTranscriber(backend, TINY, tokenizer)


def load_judge(cache_dir: Path | None = None) -> Callable[[], FrameJudge]:
    """Makes one judge for each stream; all share the resident Silero model. ModelError when there is none."""
    runner = Runner(lean_silero(cache_dir or default_cache_dir(_unheard), _unheard))
    return lambda: SileroJudge(runner)
