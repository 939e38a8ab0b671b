"""A quantised encoder as a file of NumPy arrays, named by where they stand in it; kept in the cache folder."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from npu.embedded import write_atomically
from npu.kept import cache_key
from npu.weights import Array
from npu.xdna.float_encoder import FloatEncoder
from npu.xdna.float_model import FloatModel
from npu.xdna.quant import Progress, QuantisedEncoder
from npu.xdna.quant_model import quantise_model
from streaming.errors import ModelError

FORMAT = 3  # raised whenever other numbers come of the same weights and recordings


def kept_encoder(
    model: FloatModel, audio: Sequence[Array], cache_dir: Path, progress: Progress
) -> tuple[QuantisedEncoder, Path]:
    """The quantised encoder out of the cache folder, or a new one, which is then kept; and its file.

    audio: pieces of speech [n] to calibrate on; others make another file. ModelError where the folder cannot be written.
    """
    file = cache_dir / f"{_begin(model.encoder)}{cache_key(*(hash_of(each) for each in audio))}.npz"
    if file.is_file():
        try:
            return read(file), file
        except ModelError as error:
            progress(f"{error} It is made again.")
    found = quantise_model(model, audio, progress)
    write(found, file)
    return found, file


def latest_encoder(encoder: FloatEncoder, cache_dir: Path) -> QuantisedEncoder | None:
    """This encoder as it was quantised last; None where it was not. ModelError where it is damaged."""
    files = sorted(cache_dir.glob(f"{_begin(encoder)}*.npz"), key=lambda file: file.stat().st_mtime)
    return read(files[-1]) if files else None


def write(quantised: QuantisedEncoder, file: Path) -> None:
    """ModelError where the folder cannot be written."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **dict(_named(quantised, "")))
    write_atomically(file, stream.getvalue())


def read(file: Path) -> QuantisedEncoder:
    """ModelError where it is no whole file of this format."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
            found: QuantisedEncoder = _made(QuantisedEncoder, "", dict(arrays))
            return found
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"{file} holds no quantised encoder ({error}).") from error


def _begin(encoder: FloatEncoder) -> str:
    """Begins the names of a model's files."""
    return f"{encoder.name}-int8-{cache_key(FORMAT, encoder.identity)}-"


def hash_of(audio: Array) -> str:
    """Of its samples."""
    return hashlib.sha256(np.ascontiguousarray(audio).tobytes()).hexdigest()


def _named(value: Any, name: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """A field of data as arrays; what is None has none, and several are numbered."""
    if is_dataclass(value):
        for field in fields(value):
            yield from _named(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)
    elif isinstance(value, tuple):
        yield f"{name}.count", np.array(len(value))
        for at, each in enumerate(value):
            yield from _named(each, f"{name}.{at}")
    elif value is not None:
        yield name, np.asarray(value)


def _made(kind: Any, name: str, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The data of such a kind that `_named` took apart."""
    if isinstance(kind, type) and is_dataclass(kind):
        kinds = get_type_hints(kind)
        return kind(
            **{each: _made(kinds[each], f"{name}.{each}" if name else each, arrays) for each in kinds}
        )
    if get_origin(kind) is tuple:
        return tuple(
            _made(get_args(kind)[0], f"{name}.{at}", arrays) for at in range(int(arrays[f"{name}.count"]))
        )
    if get_origin(kind) is UnionType:
        there = name in arrays or any(each.startswith(f"{name}.") for each in arrays)
        return _made(get_args(kind)[0], name, arrays) if there else None
    return int(arrays[name]) if kind is int else arrays[name]
