from __future__ import annotations

from pathlib import Path

import pytest

from npu.backends.onnx import Runner
from npu.lean import Graphs, lean_graphs


@pytest.fixture
def kept(graphs: Graphs, cache_dir: Path, tmp_path: Path) -> Path:
    """A cache folder of its own, filled."""
    for path in cache_dir.glob("*.graph"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_built_before(kept: Path, graphs: Graphs) -> None:
    """The cached pair is used, without a word."""
    again = lean_graphs(kept, pytest.fail)
    assert (again.encoder, again.decoder) == (graphs.encoder, graphs.decoder)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_damaged_cache_file(kept: Path, graphs: Graphs, damage: str) -> None:
    """The pair is built again, the same, and kept."""
    path = next(kept.glob("moonshine-tiny-decoder-*.graph"))
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[:-7], "flip": data, "empty": b""}[damage])
    lines: list[str] = []
    assert lean_graphs(kept, lines.append).decoder == graphs.decoder
    assert lines == ["Building moonshine-tiny from the weights of the wheel (once)"]
    assert lean_graphs(kept, pytest.fail).decoder == graphs.decoder


def test_cache_folder_that_cannot_be_written(tmp_path: Path, graphs: Graphs) -> None:
    """The pair is there all the same, and a line says why the next start will be slow."""
    (tmp_path / "file").write_text("in the way")
    lines: list[str] = []
    assert lean_graphs(tmp_path / "file", lines.append).encoder == graphs.encoder
    assert any("cannot be written" in line for line in lines)


def test_interface(graphs: Graphs) -> None:
    """The encoder's keys and values are what the decoder asks for."""
    encoder, decoder = Runner(graphs.encoder), Runner(graphs.decoder)
    assert set(encoder.outputs) - {"states"} <= set(decoder.inputs)
    assert {"tokens", "past", "total"} <= set(decoder.inputs)
