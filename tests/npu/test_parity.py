"""Decoding held to transformers' `generate`: the same tokens, the same segments, in float32."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.architecture import Architecture
from npu.backends.onnx import OnnxBackend
from npu.beam import Beam, beam_search
from npu.decoding import Rules, decode, decode_together
from npu.hf_tokens import HuggingFaceTokenizer
from npu.longform import HeardFeatures, passages
from npu.opening import opened, prompt_tokens
from npu.shaping import shapers
from npu.whisper import load_backend
from streaming.window import Manner

torch = pytest.importorskip("torch", reason="torch is not installed: transformers cannot generate")

Array = NDArray[np.float32]

TRAINED = Path(__file__).parents[1] / "fixtures" / "whisper-small-talk"
SHAPES = {
    "random, 80 bins": {
        "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "num_mel_bins": 80,
        "max_source_positions": 250, "max_target_positions": 96,
    },
    "random, 128 bins": {
        "d_model": 96, "encoder_layers": 1, "decoder_layers": 3, "encoder_attention_heads": 2,
        "decoder_attention_heads": 6, "encoder_ffn_dim": 64, "decoder_ffn_dim": 160, "num_mel_bins": 128,
        "max_source_positions": 150, "max_target_positions": 64,
    },
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pair:
    """One checkpoint, as ours and as transformers'."""

    theirs: Any
    backend: OnnxBackend
    architecture: Architecture
    tokenizer: HuggingFaceTokenizer

    @property
    def frames(self) -> int:
        """Of a context."""
        assert self.architecture.spectrogram is not None
        return self.architecture.spectrogram.frames

    def features(self, seed: int, frames: int) -> Array:
        """Something that changes slowly, as speech does."""
        assert self.architecture.spectrogram is not None
        random = np.random.default_rng(seed)
        shape = (frames, self.architecture.spectrogram.bins)
        slow = 0.1 * random.standard_normal(shape).cumsum(axis=0)
        return np.tanh(slow + 0.3 * random.standard_normal(shape)).astype(np.float32)

    def generated(self, features: Array, **asked: Any) -> list[int]:
        """What `generate` makes of the features [frames, bins] of one context, without opening and end."""
        sequence = self.segmented(features, force_unique_generate_call=True, **asked)[0]
        tokens = [int(token) for token in sequence]
        signals = self.tokenizer.signals
        del tokens[: tokens.index(signals.start) + 1]
        openings = {signals.untimed, *signals.languages.values(), *signals.tasks.values()}
        while tokens and tokens[0] in openings:
            tokens.pop(0)
        while tokens and tokens[-1] == signals.end:
            tokens.pop()
        return tokens

    def segmented(self, features: Array, **asked: Any) -> Any:
        """What `generate` answers for features [frames, bins]."""
        given = torch.tensor(np.array(features.T[None]))
        mask = torch.ones(1, len(features), dtype=torch.long)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.theirs.generate(given, attention_mask=mask, **asked)

    def rules(self, opening: tuple[int, ...], timestamps: bool) -> Rules:
        """Of a model that may say what it wants, as often as it wants."""
        signals = self.tokenizer.signals
        most = self.architecture.most_tokens - len(opening)
        shaping = shapers(signals, timestamps)
        return Rules(opening, signals.end, most, self.tokenizer.word_starts, shaping, guarded=False)


@pytest.fixture(scope="module", params=[*SHAPES, "trained"])
def pair(
    request: pytest.FixtureRequest,
    lay_vocabulary: Callable[..., Path],
    cache_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Pair:
    """Random weights large enough to say something, and the checkpoint that speaks."""
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if request.param == "trained":
        if not (TRAINED / "model.safetensors").is_file():
            pytest.skip(f"{TRAINED} is not there")
        folder = TRAINED
    else:
        folder = lay_vocabulary(tmp_path_factory.mktemp("checkpoint"), **SHAPES[request.param])
        config = json.loads((folder / "config.json").read_text())
        torch.manual_seed(7)
        model = transformers.WhisperForConditionalGeneration(
            transformers.WhisperConfig(**config, init_std=0.15)
        )
        said = (folder / "generation_config.json").read_text()
        model.save_pretrained(folder)
        (folder / "generation_config.json").write_text(said)
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    backend, architecture = load_backend(folder, "cpu", cache_dir, "fp32", 1, lambda _line: None)
    return Pair(theirs, backend, architecture, HuggingFaceTokenizer.read(folder))


@pytest.mark.parametrize("timestamps", [False, True])
def test_greedy(pair: Pair, timestamps: bool) -> None:
    """The same tokens, one window at a time or several together."""
    expected, lanes = [], []
    for seed in range(4):
        features = pair.features(seed, pair.frames)
        asked = {"language": "en", "task": "transcribe", "return_timestamps": timestamps}
        expected.append(pair.generated(features, **asked))
        encoded = pair.backend.encode_features(features)
        begun = opened(pair.backend, pair.tokenizer, encoded.start(), Manner("en"), timestamps)
        rules = pair.rules(begun.opening, timestamps)
        assert list(decode(pair.backend, begun.cache, rules).tokens) == expected[-1]
        start = encoded.start()
        pair.backend.extend(start, begun.opening[:-1])
        lanes.append((start, rules))
    batch = pair.backend.together([start for start, _ in lanes], False)
    together = decode_together(batch, [rules for _, rules in lanes], attended=False)
    assert [list(each.tokens) for each in together] == expected
    assert len({tuple(each) for each in expected}) > 1  # they say different things


@pytest.mark.parametrize(("width", "penalty"), [(2, 1.0), (5, 0.6), (3, -0.5)])
@pytest.mark.parametrize("timestamps", [False, True])
def test_beam(pair: Pair, width: int, penalty: float, timestamps: bool) -> None:
    """The same best hypothesis, several windows together."""
    expected, starts, every = [], [], []
    for seed in range(2):
        features = pair.features(seed, pair.frames)
        asked = {"language": "en", "task": "translate", "return_timestamps": timestamps}
        expected.append(pair.generated(features, num_beams=width, length_penalty=penalty, **asked))
        opening = pair.tokenizer.signals.opening("en", "translate", timestamps)
        starts.append(pair.backend.encode_features(features).start())
        pair.backend.extend(starts[-1], opening[:-1])
        every.append(pair.rules(opening, timestamps))
    found = beam_search(pair.backend.together(starts, False), every, Beam(width, penalty))
    assert [list(each.tokens) for each in found] == expected


def test_language_and_prompt(pair: Pair) -> None:
    """The language that `generate` finds, and what it says after a prompt."""
    features = pair.features(3, pair.frames)
    start = pair.backend.encode_features(features).start()
    given = torch.tensor(np.array(features.T[None]))
    with torch.no_grad():
        found = int(pair.theirs.detect_language(given)[0])
    before = prompt_tokens(pair.tokenizer, "so it is ", pair.architecture.most_tokens)
    begun = opened(pair.backend, pair.tokenizer, start, Manner(), before=before)
    signals = pair.tokenizer.signals
    assert signals.languages[begun.language] == found
    prompt = torch.tensor([signals.before, *before])
    asked = {"language": begun.language, "task": "transcribe", "prompt_ids": prompt}
    tokens = decode(pair.backend, begun.cache, pair.rules(begun.opening, False)).tokens
    assert list(tokens) == pair.generated(features, **asked)


@pytest.mark.parametrize(
    ("width", "carried", "language"), [(1, False, "en"), (2, False, None), (1, True, "en")]
)
def test_long_audio(pair: Pair, width: int, carried: bool, language: str | None) -> None:
    """The same segments at the same times with the same tokens, whatever is told of those before."""
    for seed in range(2):
        features = pair.features(seed, round(3.3 * pair.frames) + seed)
        asked: dict[str, Any] = {"language": language} if language else {}
        found = pair.segmented(
            features, task="transcribe", return_timestamps=True, return_segments=True, num_beams=width,
            condition_on_prev_tokens=carried, **asked,
        )  # fmt: skip
        expected = [
            (float(each["start"]), float(each["end"]), tuple(map(int, each["tokens"])))
            for each in found["segments"][0]
        ]
        hearing = HeardFeatures(pair.backend, features, pair.frames)
        manner = Manner(language, beam=width, temperature=0.0)
        heard = passages(
            pair.backend, pair.architecture, pair.tokenizer, hearing, manner, carried=carried, guarded=False
        )
        segments = [each for passage in heard for each in passage.segments]
        assert [each.tokens for each in segments] == [tokens for _, _, tokens in expected]
        times = np.array([(each.start, each.end) for each in segments])
        assert np.allclose(times, [(start, end) for start, end, _ in expected], atol=1e-6)
