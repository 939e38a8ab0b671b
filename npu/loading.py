"""Models by name: what is installed here, made resident."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from npu.backends.onnx import OnnxBackend, Runner, provider_of
from npu.embedded import TOKENIZER, default_cache_dir, package_folder, shipped
from npu.lean import lean_graphs, lean_silero
from npu.moonshine import TINY
from npu.silero import SileroJudge
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
) -> Transcriber:
    """The resident model. `progress` gets a line for each slow step; ModelError says what to install."""
    if model != TINY.name:
        raise ModelError(f"no model is called {model!r}; installed is {TINY.name}")
    provider_of(device)  # refuses before anything slow
    tokenizer = ListedTokenizer.read(shipped(TOKENIZER, package_folder()))
    graphs = lean_graphs(cache_dir or default_cache_dir(progress), progress)
    progress(f"Loading {TINY.name}")
    backend = OnnxBackend(TINY, graphs.encoder, graphs.decoder, graphs.lockstep, device)
    return ModelTranscriber(backend, TINY, tokenizer)


def load_judge(cache_dir: Path | None = None) -> Callable[[], FrameJudge]:
    """Makes one judge for each stream; all share the resident Silero model. ModelError when there is none."""
    runner = Runner(lean_silero(cache_dir or default_cache_dir(_unheard), _unheard))
    return lambda: SileroJudge(runner)
