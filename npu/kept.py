"""Graphs that took long to build, kept in the cache folder: whole or not at all, and known by what they are made of."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

from npu.embedded import write_atomically
from streaming.errors import ModelError

_CHECK = 4  # bytes of the checksum in front of each graph


def cache_key(*parts: object) -> str:
    """A short name for what a graph is built from."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]


def kept_graph(file: Path, build: Callable[[], bytes], progress: Callable[[str], None]) -> bytes:
    """The graph of a cache file, or the built one, which is then kept if the folder can be written."""
    graph = _read(file)
    if graph is None:
        graph = build()
        try:
            write_atomically(file, _checksum(graph) + graph)
        except ModelError as error:
            progress(f"{error}; until then each start builds it again")
    return graph


def _read(file: Path) -> bytes | None:
    """The graph a cache file holds; None where there is none that is whole."""
    try:
        with file.open("rb") as stream:
            check, graph = stream.read(_CHECK), stream.read()  # apart: a graph may be large
    except OSError:
        return None
    return graph if graph and _checksum(graph) == check else None


def _checksum(graph: bytes) -> bytes:
    return zlib.crc32(graph).to_bytes(_CHECK, "big")
