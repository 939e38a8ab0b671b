"""The built graphs of Moonshine tiny, made once from the shipped weights and kept in the cache folder."""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from npu.backends.onnx import convert_to_onnx
from npu.embedded import DECODER, ENCODER, ShippedFile, shipped, write_atomically
from npu.graph import SourceGraph
from npu.moonshine import BUILDER, TINY
from npu.moonshine_decoder import decoder_graph
from npu.moonshine_encoder import encoder_graph
from npu.weights import Weights, read_weights
from streaming.errors import ModelError

_CHECK = 4  # bytes of the checksum in front of each cached graph


@dataclass(frozen=True, eq=False)
class Graphs:
    """A pair of .onnx files' bytes."""

    encoder: bytes
    decoder: bytes


def shipped_weights() -> Weights:
    """The weights of Moonshine tiny, read from the pinned wheel."""
    return read_weights(_source(ENCODER), _source(DECODER))


def lean_graphs(cache_dir: Path, progress: Callable[[str], None]) -> Graphs:
    """The pair from the cache, or built anew where it is missing or damaged."""
    key = hashlib.sha256(f"{ENCODER.sha256} {DECODER.sha256} {BUILDER}".encode()).hexdigest()[:16]
    files = [cache_dir / f"{TINY.name}-{part}-{key}.graph" for part in ("encoder", "decoder")]
    kept = [graph for graph in map(_read, files) if graph is not None]
    if len(kept) == len(files):
        return Graphs(*kept)
    progress(f"Building {TINY.name} from the weights of the wheel (once)")
    weights = shipped_weights()
    built = Graphs(encoder_graph(weights), decoder_graph(weights))
    _keep(files[0], built.encoder, progress)
    _keep(files[1], built.decoder, progress)
    return built


def _source(file: ShippedFile) -> SourceGraph:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        convert_to_onnx(shipped(file), target)
        return SourceGraph.read(target)


def _read(file: Path) -> bytes | None:
    """The graph a cache file holds; None where there is none that is whole."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    graph = data[_CHECK:]
    return graph if graph and _checksum(graph) == data[:_CHECK] else None


def _keep(file: Path, graph: bytes, progress: Callable[[str], None]) -> None:
    try:
        write_atomically(file, _checksum(graph) + graph)
    except ModelError as error:
        progress(f"{error}; the graphs will be built again next time")


def _checksum(graph: bytes) -> bytes:
    return zlib.crc32(graph).to_bytes(_CHECK, "big")
