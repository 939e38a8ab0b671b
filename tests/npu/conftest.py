"""What the tests of the models share: real speech, and the model made resident once."""

from __future__ import annotations

import hashlib
import json
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from npu.backends.onnx import OnnxBackend
from npu.backends.reference import ReferenceBackend
from npu.decoding import Rules
from npu.embedded import TOKENIZER, package_folder, shipped
from npu.lean import Graphs, lean_graphs, shipped_weights
from npu.model import Cache, OneByOne, in_turn
from npu.moonshine import TINY
from npu.tokens import ListedTokenizer, Tokenizer
from npu.transcriber import ModelTranscriber
from npu.weights import Weights
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that begins empty."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def clips() -> dict[str, Array]:
    """The wheel's recordings of speech, 16 kHz mono, by name."""
    return {path.stem: _speech(path) for path in sorted((package_folder() / "assets").glob("*.wav"))}


@pytest.fixture(scope="session")
def weights() -> Weights:
    """The shipped weights."""
    return shipped_weights()


@pytest.fixture(scope="session")
def graphs(cache_dir: Path) -> Graphs:
    """The built pair."""
    return lean_graphs(cache_dir, lambda _line: None)


@pytest.fixture(scope="session")
def backend(graphs: Graphs) -> OnnxBackend:
    """Moonshine tiny on ONNX Runtime."""
    return OnnxBackend(TINY, graphs.encoder, graphs.decoder, graphs.lockstep)


@pytest.fixture(scope="session")
def reference(weights: Weights) -> ReferenceBackend:
    """Moonshine tiny in NumPy."""
    return ReferenceBackend(TINY, weights)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Moonshine's vocabulary."""
    return ListedTokenizer.read(shipped(TOKENIZER))


@pytest.fixture(scope="session")
def transcriber(backend: OnnxBackend, tokenizer: Tokenizer) -> ModelTranscriber:
    """The whole way from window to hypothesis."""
    return ModelTranscriber(backend, TINY, tokenizer)


@pytest.fixture(scope="session")
def rules(tokenizer: Tokenizer) -> Rules:
    """Those of a window of ten seconds."""
    most = TINY.token_limit(10 * SAMPLE_RATE, SAMPLE_RATE)
    signals = tokenizer.signals
    return Rules((signals.start,), signals.end, most, tokenizer.word_starts)


class Parrot:
    """A backend without audio: which token follows is a fixed function of the last two. The twin of a real model."""

    name = "parrot"
    device = "none"

    def __init__(self, vocabulary: int, seed: int) -> None:
        self.vocabulary = vocabulary
        self.calls: list[int] = []  # tokens of each
        self._seed = seed

    def encode(self, audio: Array, short: bool = False) -> ParrotWindow:
        return ParrotWindow()

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> Array:
        assert isinstance(cache, ParrotCache)
        self.calls.append(len(tokens))
        rows = []
        for token in tokens:
            cache.tokens.append(token)
            digest = hashlib.blake2b(repr((self._seed, cache.tokens[-2:])).encode(), digest_size=8).digest()
            rows.append(np.random.default_rng(int.from_bytes(digest)).standard_normal(self.vocabulary))
        return np.array(rows, np.float32)

    def extend_all(self, caches: Sequence[Cache], tokens: Sequence[tuple[int, ...]]) -> list[Array]:
        return in_turn(self, caches, tokens)

    def together(self, starts: Sequence[Cache], attended: bool) -> OneByOne:
        return OneByOne(self, starts)


class ParrotWindow:
    """Nothing heard."""

    frames = 1

    def start(self) -> ParrotCache:
        return ParrotCache([])


class ParrotCache:
    """The tokens themselves."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = list(tokens)

    @property
    def length(self) -> int:
        return len(self.tokens)

    def truncate(self, n: int) -> None:
        del self.tokens[n:]

    def copy(self) -> ParrotCache:
        return ParrotCache(self.tokens)

    def attention(self) -> Array:
        return np.ones((self.length, 1), np.float32)


@pytest.fixture(scope="session")
def parrot() -> type[Parrot]:
    """Makes parrots: vocabulary and seed."""
    return Parrot


@pytest.fixture(scope="session")
def lay_vocabulary() -> Callable[..., Path]:
    """Lays the small files of a checkpoint into a folder: every byte, a few merges, all signals, times up to 10 s.

    `sizes` go into config.json.
    """
    import tokenizers
    from transformers import WhisperTokenizer

    def lay(folder: Path, multilingual: bool = True, **sizes: int) -> Path:
        characters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
        merges = [("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e"), ("Ġ", "a"), ("i", "n"), ("Ġ", "s"), ("o", "r")]
        entries = [*characters, *("".join(merge) for merge in merges)]
        tokenizer = WhisperTokenizer({entry: i for i, entry in enumerate(entries)}, merges)
        names = "startoftranscript en de zh translate transcribe startoflm startofprev nospeech notimestamps"
        signals = ["<|endoftext|>", *(f"<|{name}|>" for name in names.split())]
        tokenizer.add_tokens(signals, special_tokens=True)
        tokenizer.add_tokens([f"<|{step * 0.02:.2f}|>" for step in range(501)])
        tokenizer.save_pretrained(folder)
        ids = {name[2:-2]: tokenizer.convert_tokens_to_ids(name) for name in signals}
        config = {
            "model_type": "whisper", "vocab_size": 800, "activation_function": "gelu", "scale_embedding": False,
            "eos_token_id": ids["endoftext"], "bos_token_id": ids["endoftext"], "pad_token_id": ids["endoftext"],
            "decoder_start_token_id": ids["startoftranscript"], **sizes,
        }  # fmt: skip
        said: dict[str, Any] = {
            "decoder_start_token_id": ids["startoftranscript"], "eos_token_id": ids["endoftext"],
            "pad_token_id": ids["endoftext"], "prev_sot_token_id": ids["startofprev"],
            "no_timestamps_token_id": ids["notimestamps"], "is_multilingual": multilingual,
            "suppress_tokens": [1, 2], "begin_suppress_tokens": [220, ids["endoftext"]],
            "max_initial_timestamp_index": 50, "max_length": sizes.get("max_target_positions", 448),
        }  # fmt: skip
        if multilingual:
            said["lang_to_id"] = {f"<|{code}|>": ids[code] for code in ("en", "de", "zh")}
            said["task_to_id"] = {task: ids[task] for task in ("transcribe", "translate")}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "generation_config.json").write_text(json.dumps(said))
        return folder

    return lay


def _speech(path: Path) -> Array:
    with wave.open(str(path)) as stream:
        frames = np.frombuffer(stream.readframes(stream.getnframes()), np.int16)
        mono = frames.reshape(-1, stream.getnchannels()).mean(axis=1) / 32768
        rate = stream.getframerate()
    return np.asarray(soxr.resample(mono.astype(np.float32), rate, SAMPLE_RATE), np.float32)
