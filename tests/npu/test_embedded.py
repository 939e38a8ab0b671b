from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from npu import embedded
from npu.backends.onnx import Runner
from npu.embedded import (
    SEGMENTATION,
    SILERO,
    TOKENIZER,
    VOICEPRINT,
    Blob,
    default_cache_dir,
    extracted,
    package_folder,
    shipped,
)
from streaming.errors import ModelError


@pytest.fixture
def wheel(tmp_path: Path) -> Callable[[bytes], Path]:
    """A folder with a shared library of these bytes in it."""

    def make(library: bytes) -> Path:
        (tmp_path / "wheel").mkdir()
        (tmp_path / "wheel" / "libmoonshine.so").write_bytes(library)
        return tmp_path / "wheel"

    return make


@pytest.mark.parametrize(
    ("blob", "inputs", "outputs"),
    [
        (SILERO, ("input", "state", "sr"), ("output", "stateN")),
        (SEGMENTATION, ("waveforms",), ("segmentation",)),
        (VOICEPRINT, ("fbank", "weights"), ("embedding",)),
    ],
)
def test_models_inside_the_library(
    blob: Blob, inputs: tuple[str, ...], outputs: tuple[str, ...], cache_dir: Path
) -> None:
    """Each is found, verified, and loads with the inputs and outputs it should have."""
    model = Runner(extracted(blob, cache_dir))
    assert (model.inputs, model.outputs) == (inputs, outputs)


def test_extracted_before(cache_dir: Path, tmp_path: Path) -> None:
    """The cached file is used, and the library is not opened again."""
    first = extracted(SILERO, cache_dir)
    assert extracted(SILERO, cache_dir, folder=tmp_path / "nowhere") == first


def test_damaged_cache_file(tmp_path: Path) -> None:
    """It is taken out of the library again."""
    path = extracted(SILERO, tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert extracted(SILERO, tmp_path).stat().st_size == SILERO.size
    assert len(list(tmp_path.iterdir())) == 1


def test_other_library(wheel: Callable[[bytes], Path], tmp_path: Path) -> None:
    """One sentence that names the file and what to install."""
    folder = wheel(b"\0\0\0\0ORTM and something else" * 9)
    with pytest.raises(
        ModelError, match=r"libmoonshine\.so does not hold .*pip install moonshine-voice==0\.0\.73"
    ):
        extracted(SILERO, tmp_path, folder)


def test_no_library(tmp_path: Path) -> None:
    """One sentence that names the folder and what to install."""
    with pytest.raises(ModelError, match=r"holds none of libmoonshine\.so.*pip install"):
        extracted(SILERO, tmp_path / "cache", tmp_path)


def test_other_file(tmp_path: Path) -> None:
    """A file that differs in one byte is refused by name."""
    copy = tmp_path / TOKENIZER.path
    copy.parent.mkdir(parents=True)
    shutil.copy(shipped(TOKENIZER), copy)
    copy.write_bytes(copy.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match=r"tokenizer\.bin is not the file of moonshine-voice 0\.0\.73"):
        shipped(TOKENIZER, tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named, with what to install."""
    with pytest.raises(ModelError, match=r"tokenizer\.bin cannot be read .*pip install"):
        shipped(TOKENIZER, tmp_path)


def test_other_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions are named."""
    monkeypatch.setattr(metadata, "version", lambda _name: "0.0.74")
    with pytest.raises(ModelError, match=r"0\.0\.74 is installed.*0\.0\.73"):
        package_folder()


def test_package_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs it is named."""
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="is not installed; install the pinned release: pip install"):
        package_folder()


def test_cache_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A temporary folder takes its place, with one line that says so."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    lines: list[str] = []
    folder = default_cache_dir(lines.append)
    assert folder.is_dir()
    assert len(lines) == 1
    assert "cannot be written" in lines[0]
    folder.rmdir()


def test_cache_folder_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """$XDG_CACHE_HOME/amanuensis is made and used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir(pytest.fail) == tmp_path / "amanuensis"
