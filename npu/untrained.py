"""Whisper checkpoints with random weights, of any size: what tests and benchmarks run where no trained one is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from npu.checkpoint import Sizes
from npu.mel import HOP, WIDTH
from streaming.window import SAMPLE_RATE

_NORM_NOISE = 0.1  # around a gain of 1 and an offset of 0
_POSITION_NOISE = 0.3

BASE = Sizes(
    width=512,
    encoder_layers=6,
    encoder_heads=8,
    encoder_hidden=2048,
    decoder_layers=6,
    decoder_heads=8,
    decoder_hidden=2048,
    vocabulary=51_865,
    bins=80,
    states=1500,
    tokens=448,
)  # whisper-base


def write_untrained(folder: Path, sizes: Sizes, seed: int = 0) -> Path:
    """Writes `config.json`, `generation_config.json`, `preprocessor_config.json` and `model.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(_tensors(sizes, np.random.default_rng(seed))), folder / "model.safetensors")
    end = sizes.vocabulary - 1
    signals = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": end - 1,
    }
    config = {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "activation_function": "gelu",
        "d_model": sizes.width,
        "encoder_layers": sizes.encoder_layers,
        "encoder_attention_heads": sizes.encoder_heads,
        "encoder_ffn_dim": sizes.encoder_hidden,
        "decoder_layers": sizes.decoder_layers,
        "decoder_attention_heads": sizes.decoder_heads,
        "decoder_ffn_dim": sizes.decoder_hidden,
        "vocab_size": sizes.vocabulary,
        "num_mel_bins": sizes.bins,
        "max_source_positions": sizes.states,
        "max_target_positions": sizes.tokens,
        "tie_word_embeddings": True,
        **signals,
    }
    frames = 2 * sizes.states
    features = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": sizes.bins,
        "sampling_rate": SAMPLE_RATE,
        "hop_length": HOP,
        "n_fft": WIDTH,
        "chunk_length": frames * HOP // SAMPLE_RATE,
    }
    heads = [[sizes.decoder_layers - 1, head] for head in range(sizes.decoder_heads)]
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"alignment_heads": heads, **signals})
    _write(folder / "preprocessor_config.json", features)
    return folder


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _tensors(sizes: Sizes, chance: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float32]]]:
    def noise(*shape: int, spread: float) -> NDArray[np.float32]:
        return chance.standard_normal(shape, np.float32) * np.float32(spread)

    def linear(name: str, k: int, n: int, bias: bool = True) -> Iterator[tuple[str, NDArray[np.float32]]]:
        yield f"{name}.weight", noise(n, k, spread=k**-0.5)
        if bias:
            yield f"{name}.bias", noise(n, spread=_NORM_NOISE)

    def norm(name: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
        yield f"{name}.weight", 1 + noise(width, spread=_NORM_NOISE)
        yield f"{name}.bias", noise(width, spread=_NORM_NOISE)

    def attention(name: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
        for each in ("q", "k", "v", "out"):
            yield from linear(f"{name}.{each}_proj", width, width, bias=each != "k")
        yield from norm(f"{name}_layer_norm")

    width = sizes.width
    for i, inputs in ((1, sizes.bins), (2, width)):
        yield f"model.encoder.conv{i}.weight", noise(width, inputs, 3, spread=(3 * inputs) ** -0.5)
        yield f"model.encoder.conv{i}.bias", noise(width, spread=_NORM_NOISE)
    yield (
        "model.encoder.embed_positions.weight",
        noise(sizes.states, width, spread=_POSITION_NOISE),
    )
    yield "model.decoder.embed_positions.weight", noise(sizes.tokens, width, spread=_POSITION_NOISE)
    yield "model.decoder.embed_tokens.weight", noise(sizes.vocabulary, width, spread=width**-0.5)
    for part, layers, hidden in (
        ("encoder", sizes.encoder_layers, sizes.encoder_hidden),
        ("decoder", sizes.decoder_layers, sizes.decoder_hidden),
    ):
        for i in range(layers):
            name = f"model.{part}.layers.{i}"
            yield from attention(f"{name}.self_attn")
            if part == "decoder":
                yield from attention(f"{name}.encoder_attn")
            yield from linear(f"{name}.fc1", width, hidden)
            yield from linear(f"{name}.fc2", hidden, width)
            yield from norm(f"{name}.final_layer_norm")
        yield from norm(f"model.{part}.layer_norm")
