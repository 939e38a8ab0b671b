"""A Whisper checkpoint in the formats of the two programs it is compared with: CTranslate2 and whisper.cpp.

Neither text nor vocabulary matters for a time, so the tokens are placeholders at the ids where both look for signals.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from npu.checkpoint import Checkpoint
from npu.mel import filters

END, START, FIRST_TIME = 50_257, 50_258, 50_364  # of the multilingual vocabulary
_SIGNALS = (
    {END: "<|endoftext|>", START: "<|startoftranscript|>"}
    | {50_259 + i: f"<|x{i}|>" for i in range(99)}
    | {
        50_358: "<|translate|>",
        50_359: "<|transcribe|>",
        50_360: "<|startoflm|>",
        50_361: "<|startofprev|>",
        50_362: "<|nospeech|>",
        50_363: "<|notimestamps|>",
    }
)
_MAGIC = 0x67676D6C
_HALF, _BLOCKS_OF_8_BITS = 1, 8  # ggml's types of tensors
_Q8_0 = 2007  # ggml's file type: mostly blocks of 8 bits, second version of quantisation
_BLOCK = 32


def tokens(count: int) -> list[str]:
    """A vocabulary."""
    return [
        _SIGNALS.get(i, f"<|{(i - FIRST_TIME) * 0.02:.2f}|>" if i >= FIRST_TIME else f"t{i}")
        for i in range(count)
    ]


def to_ctranslate2(folder: Path, target: Path) -> Path:
    """Converts as its own converter does, to 8 bits; needs torch and transformers."""
    if (target / "model.bin").is_file():
        return target
    from ctranslate2.converters.transformers import WhisperLoader
    from transformers import WhisperForConditionalGeneration

    theirs = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    spec = WhisperLoader().get_model_spec(theirs)
    spec.register_vocabulary(tokens(theirs.config.vocab_size))
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = []
    spec.config.lang_ids = [50_259 + i for i in range(99)]
    spec.config.alignment_heads = [[theirs.config.decoder_layers - 1, 0]]
    spec.validate()
    spec.optimize(quantization="int8")
    target.mkdir(parents=True, exist_ok=True)
    spec.save(str(target))
    return target


def to_ggml(folder: Path, target: Path) -> Path:
    """Writes q8_0, the matrices as whisper.cpp's own quantiser leaves them."""
    if target.is_file():
        return target
    checkpoint = Checkpoint(folder)
    sizes = checkpoint.sizes
    with target.open("wb") as stream:
        heads = (sizes.vocabulary, sizes.states, sizes.width, sizes.encoder_heads, sizes.encoder_layers)
        texts = (sizes.tokens, sizes.width, sizes.decoder_heads, sizes.decoder_layers)
        stream.write(struct.pack("<12i", _MAGIC, *heads, *texts, sizes.bins, _Q8_0))
        matrix = filters(sizes.bins).T.astype(np.float32)
        stream.write(struct.pack("<2i", *matrix.shape) + matrix.tobytes())
        words = [text.encode() for text in tokens(END)]
        stream.write(struct.pack("<i", len(words)))
        for word in words:
            stream.write(struct.pack("<i", len(word)) + word)
        for name, value in load_file(folder / "model.safetensors").items():
            _write_tensor(stream, _their_name(name), np.asarray(value, np.float32))
    return target


_NAMES = {
    "model.": "",
    "layers": "blocks",
    "embed_positions.weight": "positional_embedding",
    "embed_tokens": "token_embedding",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn": "cross_attn",
    "self_attn": "attn",
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "out_proj": "out",
    "final_layer_norm": "mlp_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "encoder.layer_norm": "encoder.ln_post",
    "decoder.layer_norm": "decoder.ln",
}


def _their_name(name: str) -> str:
    for ours, theirs in _NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _write_tensor(stream: Any, name: str, value: NDArray[np.float32]) -> None:
    kind, data = 0, value.tobytes()
    if name.startswith("encoder.conv") and name.endswith("bias"):
        value = value[:, None]
    elif value.ndim == 3:
        kind, data = _HALF, value.astype(np.float16).tobytes()
    elif value.ndim == 2 and "positional" not in name:
        kind, data = _BLOCKS_OF_8_BITS, b"".join(_blocks(value))
    encoded = name.encode()
    stream.write(struct.pack("<3i", value.ndim, len(encoded), kind))
    stream.write(struct.pack(f"<{value.ndim}i", *reversed(value.shape)) + encoded + data)


def _blocks(matrix: NDArray[np.float32]) -> Iterator[bytes]:
    """Rows in blocks of 32 values: a scale in half precision, then the values in 8 bits."""
    for row in matrix:
        blocks = row.reshape(-1, _BLOCK)
        scale = np.maximum(np.abs(blocks).max(axis=1, keepdims=True) / 127, 1e-12)
        laid = np.empty(
            len(blocks), np.dtype([("scale", np.float16), ("values", np.int8, _BLOCK)], align=False)
        )
        laid["scale"], laid["values"] = scale[:, 0], np.round(blocks / scale)
        yield laid.tobytes()
