"""The models that install with the package: found inside the pinned moonshine-voice wheel, by content and hash.

The wheel carries Moonshine tiny (English) as files, and three more models as ORT-format blobs inside its shared
library: Silero VAD and the two networks of pyannote's community-1. Nothing of the wheel is imported or run.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from streaming.errors import ModelError

PACKAGE = "moonshine-voice"
VERSION = "0.0.73"
REMEDY = f"install the pinned release: pip install {PACKAGE}=={VERSION}"

_LIBRARIES = ("libmoonshine.so", "libmoonshine.dylib", "moonshine.dll")
_MAGIC = b"ORTM"  # file identifier of ONNX Runtime's format
_MAGIC_AT = 4  # bytes from the blob's first byte to its identifier, as in every flatbuffer


@dataclass(frozen=True)
class Blob:
    """A model inside the wheel's shared library."""

    name: str  # names the file it is kept in
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class ShippedFile:
    """A file of the wheel."""

    path: str  # below the package's folder
    sha256: str


SILERO = Blob("silero-vad", 2_421_272, "a620103ef77fbdae23c7798b9271506a48a883997e55f851d2884551e0947437")
SEGMENTATION = Blob(
    "community1-segmentation", 1_594_080, "9715e3996ef181252aa1cc0c9398060f42b2c984c2fb65e3604262555e2efb1a"
)
VOICEPRINT = Blob(
    "community1-embedding", 6_975_920, "6e4af7d49562e6e7042672e444d6394935cb2c23c3a7dd4919da45922b91735b"
)
ENCODER = ShippedFile(
    "assets/tiny-en/encoder_model.ort", "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221"
)
DECODER = ShippedFile(
    "assets/tiny-en/decoder_model_merged.ort",
    "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
)
TOKENIZER = ShippedFile(
    "assets/tiny-en/tokenizer.bin", "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d"
)


def default_cache_dir(warn: Callable[[str], None]) -> Path:
    """$XDG_CACHE_HOME/amanuensis, else ~/.cache/amanuensis; a temporary folder, with a warning, if not writable."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "amanuensis"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        substitute = Path(tempfile.mkdtemp(prefix="amanuensis-"))
        warn(
            f"{folder} cannot be written ({error.strerror}): models are cached in {substitute} for this run."
        )
        return substitute


def package_folder() -> Path:
    """Where the pinned wheel lies; ModelError when it is not installed, or is another release."""
    spec = find_spec("moonshine_voice")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"{PACKAGE} is not installed; {REMEDY}")
    version = metadata.version(PACKAGE)
    if version != VERSION:
        raise ModelError(
            f"{PACKAGE} {version} is installed, but the embedded models are those of {VERSION}; {REMEDY}"
        )
    return Path(spec.submodule_search_locations[0])


def shipped(file: ShippedFile, folder: Path | None = None) -> Path:
    """The verified file of the wheel in `folder`; ModelError when it is missing or differs."""
    path = (folder or package_folder()) / file.path
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); {REMEDY}") from error
    if found != file.sha256:
        raise ModelError(f"{path} is not the file of {PACKAGE} {VERSION} (its SHA-256 differs); {REMEDY}")
    return path


def extracted(blob: Blob, cache_dir: Path, folder: Path | None = None) -> Path:
    """The blob as a file of its own, verified; taken out of the library in `folder` once."""
    target = cache_dir / f"{blob.name}-{blob.sha256[:16]}.ort"
    if _holds(target, blob):
        return target
    write_atomically(target, _cut_out(blob, folder or package_folder()))
    return target


def write_atomically(target: Path, data: bytes) -> None:
    """Writes a file that is there completely or not at all; ModelError when the folder cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as stream:
            stream.write(data)
        Path(stream.name).replace(target)
    except OSError as error:
        raise ModelError(
            f"{target} cannot be written ({error.strerror}); choose another cache folder"
        ) from error


def _holds(path: Path, blob: Blob) -> bool:
    try:
        return (
            path.stat().st_size == blob.size and hashlib.sha256(path.read_bytes()).hexdigest() == blob.sha256
        )
    except OSError:
        return False


def _cut_out(blob: Blob, folder: Path) -> bytes:
    """Looks at every ORT-format blob of the library for the one with this content."""
    library = next((folder / name for name in _LIBRARIES if (folder / name).is_file()), None)
    if library is None:
        raise ModelError(f"{folder} holds none of {', '.join(_LIBRARIES)}; {REMEDY}")
    with library.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as image:
        at = image.find(_MAGIC)
        while at >= 0:
            start = at - _MAGIC_AT
            data = image[max(start, 0) : start + blob.size]
            if hashlib.sha256(data).hexdigest() == blob.sha256:
                return data
            at = image.find(_MAGIC, at + 1)
    raise ModelError(f"{library} does not hold the {blob.name} model of {PACKAGE} {VERSION}; {REMEDY}")
