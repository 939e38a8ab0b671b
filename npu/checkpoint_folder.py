"""Which files a checkpoint of the hub's layout is made of, and whether a folder has them all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from streaming.errors import ModelError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # says which shard holds which tensor
FAMILIES = ("whisper",)  # values of `model_type` that there are graphs for
SMALL = (
    CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "normalizer.json",
)
_SHAPES = {
    "d_model": "width",
    "encoder_layers": "encoder layers",
    "encoder_attention_heads": "encoder heads",
    "decoder_layers": "decoder layers",
    "decoder_attention_heads": "decoder heads",
    "num_mel_bins": "mel bins",
    "max_source_positions": "encoder states",
    "max_target_positions": "decoder positions",
    "vocab_size": "tokens",
}
_TOKENIZER = ("tokenizer.json",), ("vocab.json", "merges.txt")  # either will do
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_POINTER = b"version https://git-lfs"  # begins what a clone without Git LFS has in place of a large file
_LENGTH = 8  # bytes of a safetensors file that say how long its header is
_LONGEST_HEADER = 100_000_000  # bytes, https://github.com/huggingface/safetensors#format


def worth_fetching(names: Iterable[str]) -> list[str]:
    """Those files of a repository that are used; ModelError where it has no configuration or weights."""
    there = set(names)
    if CONFIG not in there:
        raise ModelError(f"it has no {CONFIG}, so it is not a checkpoint that transformers has written")
    weights = [WEIGHTS] if WEIGHTS in there else sorted(filter(_SHARD.fullmatch, there))
    if weights and WEIGHTS not in there:
        weights.insert(0, INDEX)
    if not weights or not there.issuperset(weights):
        others = sorted(
            name for name in there if name.endswith((".bin", ".msgpack", ".h5", ".onnx", ".pt", ".gguf"))
        )
        raise ModelError(
            f"it has no {WEIGHTS}"
            + (f", only {', '.join(others[:3])}: other formats are not read" if others else "")
        )
    return [name for name in SMALL if name in there] + weights


def check_kind(folder: Path, called: str = "") -> None:
    """ModelError unless the folder's configuration is that of a model that can be run. called: name it by this."""
    kind = _json(folder / CONFIG).get("model_type")
    if kind not in FAMILIES:
        raise ModelError(
            f"{called or folder} is a model of the kind {kind!r}; what runs here is {', '.join(FAMILIES)}."
        )


def check_folder(folder: Path) -> None:
    """ModelError names the files that the folder lacks, or has only in part. Contents are looked at no further."""
    must_be_there(folder)
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} holds no {CONFIG}, so it is not a checkpoint's folder.")
    check_kind(folder)
    missing = sorted(set(_missing(folder)))
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}; copy the whole checkpoint.")
    for shard in shards(folder):
        _check_whole(folder / shard)


def must_be_there(folder: Path) -> None:
    """ModelError where it is no folder."""
    if not folder.is_dir():
        raise ModelError(
            f"There is no folder {folder}; name one that holds a checkpoint, or a model by its name."
        )


def shapes(folder: Path) -> dict[str, int]:
    """Sizes of the network that the folder's configuration states, by what they are called in the field."""
    config = _json(folder / CONFIG)
    stated = {called: config.get(key) for key, called in _SHAPES.items()}
    return {called: value for called, value in stated.items() if isinstance(value, int)}


def languages(folder: Path) -> tuple[str, ...] | None:
    """Codes of the languages that the folder's files list; empty: one only; None where they say nothing."""
    try:
        said = _json(folder / "generation_config.json")
    except ModelError:
        return None
    listed = said.get("lang_to_id")
    if isinstance(listed, dict) and listed and said.get("is_multilingual") is not False:
        return tuple(sorted(str(name).strip("<|>") for name in listed))
    return () if said.get("is_multilingual") is False else None


def shards(folder: Path) -> tuple[str, ...]:
    """The files with the folder's weights; ModelError where their index is damaged."""
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        return (WEIGHTS,)
    named = _json(folder / INDEX).get("weight_map")
    if not isinstance(named, dict) or not named or not all(map(_SHARD.fullmatch, map(str, named.values()))):
        raise ModelError(f"{folder / INDEX} does not say where the weights are; copy the whole checkpoint.")
    return tuple(sorted(set(named.values())))


def _missing(folder: Path) -> Iterator[str]:
    yield from (shard for shard in shards(folder) if not (folder / shard).is_file())
    if not any(all((folder / name).is_file() for name in choice) for choice in _TOKENIZER):
        yield _TOKENIZER[0][0]


def _check_whole(path: Path) -> None:
    """A safetensors file says in its header how long it is."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        begin = stream.read(max(_LENGTH, len(_POINTER)))
        if begin.startswith(_POINTER):
            raise ModelError(f"{path} is only Git LFS's pointer to the weights; fetch them: git lfs pull")
        length = int.from_bytes(begin[:_LENGTH], "little")
        stream.seek(_LENGTH)
        header = stream.read(length) if len(begin) >= _LENGTH and length <= _LONGEST_HEADER else b""
    try:
        tensors = json.loads(header)
        end = max(tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ModelError(
            f"{path} is not a safetensors file, or only its beginning; copy it again."
        ) from error
    if size != _LENGTH + length + end:
        raise ModelError(f"{path} has {size:,} bytes of {_LENGTH + length + end:,}; copy it again.")


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}); copy it again.") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a JSON object; copy it again.")
    return values
