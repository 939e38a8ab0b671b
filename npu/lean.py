"""The embedded models as graphs of our own, built once from the shipped weights and kept in the cache folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from npu import moonshine, segmentation_graph, silero_graph, voiceprint_graph
from npu.backends.onnx import convert_to_onnx
from npu.embedded import (
    DECODER,
    ENCODER,
    SEGMENTATION,
    SILERO,
    VOICEPRINT,
    Blob,
    extracted,
    shipped,
)
from npu.graph import SourceGraph
from npu.kept import cache_key, kept_graph
from npu.moonshine import TINY
from npu.moonshine_decoder import decoder_graph, lockstep_graph
from npu.moonshine_encoder import encoder_graph
from npu.weights import Weights, read_weights


@dataclass(frozen=True, eq=False)
class Graphs:
    """Moonshine's graphs, as the bytes of .onnx files."""

    encoder: bytes
    decoder: bytes
    lockstep: Callable[[], bytes]  # the decoder of many windows, built when it is first asked for


def shipped_weights() -> Weights:
    """The weights of Moonshine tiny, read from the pinned wheel."""
    return read_weights(_source(shipped(ENCODER)), _source(shipped(DECODER)))


def lean_graphs(cache_dir: Path, progress: Callable[[str], None]) -> Graphs:
    """Moonshine's pair from the cache, or built anew where it is missing or damaged."""
    key = cache_key(ENCODER.sha256, DECODER.sha256, moonshine.BUILDER)

    @cache
    def weights() -> Weights:
        progress(f"Building {TINY.name} from the weights of the wheel (once)")
        return shipped_weights()

    def kept(part: str, build: Callable[[Weights], bytes]) -> bytes:
        return kept_graph(cache_dir / f"{TINY.name}-{part}-{key}.graph", lambda: build(weights()), progress)

    return Graphs(
        kept("encoder", encoder_graph),
        kept("decoder", decoder_graph),
        lambda: kept("lockstep", lockstep_graph),
    )


def lean_silero(cache_dir: Path, progress: Callable[[str], None]) -> bytes:
    """Silero's graph."""
    return _rebuilt(SILERO, "", silero_graph.BUILDER, silero_graph.silero_graph, cache_dir, progress)


def lean_segmentation(cache_dir: Path, progress: Callable[[str], None]) -> bytes:
    """The graph that tells who speaks when in a window."""
    builder = segmentation_graph.BUILDER
    return _rebuilt(SEGMENTATION, "", builder, segmentation_graph.segmentation_graph, cache_dir, progress)


def lean_trunk(cache_dir: Path, progress: Callable[[str], None]) -> bytes:
    """The greater part of the voiceprint network, which sees each moment once."""
    builder = voiceprint_graph.BUILDER
    return _rebuilt(VOICEPRINT, "-trunk", builder, voiceprint_graph.trunk_graph, cache_dir, progress)


def lean_head(cache_dir: Path, progress: Callable[[str], None]) -> bytes:
    """The rest of it, which makes a voiceprint of chosen moments."""
    builder = voiceprint_graph.BUILDER
    return _rebuilt(VOICEPRINT, "-head", builder, voiceprint_graph.head_graph, cache_dir, progress)


def _rebuilt(
    blob: Blob,
    part: str,
    builder: int,
    build: Callable[[SourceGraph], bytes],
    cache_dir: Path,
    progress: Callable[[str], None],
) -> bytes:
    """A graph of ours from the cache, or built anew from the shipped one where it is missing or damaged."""
    file = cache_dir / f"{blob.name}{part}-{cache_key(blob.sha256, builder)}.graph"
    return kept_graph(file, lambda: build(_source(extracted(blob, cache_dir))), progress)


def _source(file: Path) -> SourceGraph:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        convert_to_onnx(file, target)
        return SourceGraph.read(target)
