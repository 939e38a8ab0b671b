"""Whisper checkpoints as Hugging Face lays them out in a folder: what their files say, and their weights."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  gives NumPy the type bfloat16, in which some checkpoints are stored
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from npu.manifest import Manifest
from npu.mel import HOP, WIDTH
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

_WEIGHTS = "model.safetensors"
_SHARDS = "model.safetensors.index.json"
_ROOT = "model."  # in front of the names; checkpoints of the bare model lack it
_FAMILY = "whisper"


@dataclass(frozen=True)
class Sizes:
    """What `config.json` says of the network."""

    width: int  # values of a state
    encoder_layers: int
    encoder_heads: int
    encoder_hidden: int  # values between the two products of a layer's network
    decoder_layers: int
    decoder_heads: int
    decoder_hidden: int
    vocabulary: int  # tokens
    bins: int  # of the log-mel features
    states: int  # encoder states of the whole context
    tokens: int  # decoder positions


class Checkpoint:
    """A folder with `config.json`, `generation_config.json`, `preprocessor_config.json` and weights."""

    def __init__(self, folder: Path) -> None:
        """Reads the small files; ModelError when it is no Whisper checkpoint."""
        self.folder = folder
        config = _read_object(folder / "config.json")
        if config.get("model_type") != _FAMILY:
            found = config.get("model_type", "nothing")
            raise ModelError(f"{folder} is no Whisper checkpoint: its config.json says {found!r}")
        activation = config.get("activation_function", "gelu")
        if activation != "gelu":
            raise ModelError(f"{folder}: activation function {activation!r} is not known, only 'gelu'")
        self.sizes = _sizes(config, folder / "config.json")
        self.generation = _read_object(folder / "generation_config.json", optional=True)
        self._check_features()

    @cached_property
    def aligned(self) -> dict[int, tuple[int, ...]]:
        """Decoder layer -> heads whose cross-attention follows the speech.

        Where the checkpoint does not name them, they are all heads of the upper half of the layers.
        """
        sizes = self.sizes
        named = self.generation.get("alignment_heads")
        if not named:
            upper = range(sizes.decoder_layers // 2, sizes.decoder_layers)
            return {layer: tuple(range(sizes.decoder_heads)) for layer in upper}
        try:
            heads = sorted({(int(layer), int(head)) for layer, head in named})
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"{self.folder / 'generation_config.json'}: alignment_heads is no list of pairs"
            ) from error
        for layer, head in heads:
            if not (0 <= layer < sizes.decoder_layers and 0 <= head < sizes.decoder_heads):
                raise ModelError(
                    f"{self.folder / 'generation_config.json'}: there is no head {head} in layer {layer}"
                )
        return {layer: tuple(h for at, h in heads if at == layer) for layer in dict(heads)}

    @cached_property
    def identity(self) -> str:
        """Another one whenever one of the files is: of what was pulled by the hashes it was checked against, else by
        place, size and time, since hashing gigabytes would delay every start.
        """
        parts = hashlib.sha256()
        with contextlib.suppress(ModelError):
            for name, record in sorted(Manifest.read(self.folder).files.items()):
                parts.update(f"{name} {record.sha256}\n".encode())
            return parts.hexdigest()
        for path in sorted(
            {self.folder / "config.json", self.folder / "generation_config.json", *self._files}
        ):
            if path.is_file():
                status = path.stat()
                parts.update(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
        return parts.hexdigest()

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return self._stored_name(name) is not None

    def tensor(self, name: str, *shape: int) -> Array:
        """A tensor in float32, however it is stored; ModelError when it is missing or of another shape."""
        stored = self._stored_name(name)
        if stored is None:
            raise ModelError(f"{self.folder} has no tensor {name}; fetch the checkpoint again")
        path = self._places[stored]
        try:
            with safe_open(path, framework="np") as file:
                value = file.get_tensor(stored)
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
        if value.shape != shape:
            raise ModelError(
                f"{path}: {stored} is {list(value.shape)}, but config.json asks for {list(shape)}"
            )
        return np.asarray(value, np.float32)

    def _stored_name(self, name: str) -> str | None:
        return next((each for each in (name, name.removeprefix(_ROOT)) if each in self._places), None)

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        """The weights, in one file or several."""
        if (self.folder / _WEIGHTS).is_file():
            return (self.folder / _WEIGHTS,)
        if (self.folder / _SHARDS).is_file():
            index = _read_object(self.folder / _SHARDS).get("weight_map")
            if not isinstance(index, dict) or not index:
                raise ModelError(f"{self.folder / _SHARDS} lists no weights; fetch the checkpoint again")
            return tuple(self.folder / Path(str(name)).name for name in sorted(set(index.values())))
        others = [each.name for each in self.folder.glob("*.bin")]
        hint = f" (there is {others[0]}, which cannot be read without torch)" if others else ""
        raise ModelError(f"{self.folder} has no {_WEIGHTS}{hint}; fetch the checkpoint again")

    @cached_property
    def _places(self) -> dict[str, Path]:
        """In which file each tensor is."""
        found: dict[str, Path] = {}
        for path in self._files:
            try:
                with safe_open(path, framework="np") as file:
                    found |= dict.fromkeys(file.keys(), path)
            except (SafetensorError, OSError) as error:
                raise _damaged(path, error) from error
        return found

    def _check_features(self) -> None:
        """The features are Whisper's; only the number of bins and the length of the context differ."""
        path = self.folder / "preprocessor_config.json"
        said = _read_object(path, optional=True)
        expected = {
            "sampling_rate": SAMPLE_RATE,
            "hop_length": HOP,
            "n_fft": WIDTH,
            "feature_size": self.sizes.bins,
        }
        for key, value in expected.items():
            if said.get(key, value) != value:
                raise ModelError(f"{path}: {key} is {said[key]}, not {value}, as it must be here")


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} is damaged or incomplete ({error}); fetch the checkpoint again")


def _read_object(path: Path, optional: bool = False) -> Mapping[str, Any]:
    """A JSON object; an empty one for an optional file that is not there."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if optional:
            return {}
        raise ModelError(f"{path.parent} is no checkpoint: it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}); fetch the checkpoint again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object; fetch the checkpoint again")
    return value


def _sizes(config: Mapping[str, Any], path: Path) -> Sizes:
    def size(key: str) -> int:
        value = config.get(key)
        if not isinstance(value, int) or value <= 0:
            raise ModelError(f"{path}: {key} is {value!r}, not a positive number")
        return value

    found = Sizes(
        width=size("d_model"),
        encoder_layers=size("encoder_layers"),
        encoder_heads=size("encoder_attention_heads"),
        encoder_hidden=size("encoder_ffn_dim"),
        decoder_layers=size("decoder_layers"),
        decoder_heads=size("decoder_attention_heads"),
        decoder_hidden=size("decoder_ffn_dim"),
        vocabulary=size("vocab_size"),
        bins=size("num_mel_bins"),
        states=size("max_source_positions"),
        tokens=size("max_target_positions"),
    )
    if found.width % found.encoder_heads or found.width % found.decoder_heads:
        raise ModelError(f"{path}: a width of {found.width} cannot be divided among the heads")
    return found
