"""How the decoding of a window begins, on the checkpoint that speaks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.architecture import Architecture
from npu.backends.onnx import OnnxBackend
from npu.hf_tokens import HuggingFaceTokenizer
from npu.model import Cache, in_turn
from npu.opening import opened, opened_all, prompt_tokens
from npu.tokens import Tokenizer
from npu.whisper import load_backend
from streaming.containers import decode_container
from streaming.window import SAMPLE_RATE, Manner

FIXTURES = Path(__file__).parent.parent / "fixtures"
SENTENCES: dict[str, Any] = json.loads((FIXTURES / "speech" / "sentences.json").read_text())

Loaded = tuple[OnnxBackend, Architecture, HuggingFaceTokenizer]


@pytest.fixture(scope="module")
def loaded(cache_dir: Path) -> Loaded:
    """The fixture in float32."""
    folder = FIXTURES / "whisper-small-talk"
    backend, architecture = load_backend(folder, "cpu", cache_dir, "fp32", 1, lambda _line: None)
    return backend, architecture, HuggingFaceTokenizer.read(folder)


def audio(name: str) -> NDArray[np.float32]:
    """A clip, 16 kHz, what the context holds of it."""
    with (FIXTURES / "speech" / name).open("rb") as file:
        return np.concatenate(list(decode_container(file)))[: 10 * SAMPLE_RATE]


@pytest.mark.parametrize("name", SENTENCES)
@pytest.mark.parametrize("prompt", ["", "Maria and Thomas live here."])
def test_language(name: str, prompt: str, loaded: Loaded) -> None:
    """It is that of the speech, whatever that of the prompt; somebody speaks; the cache holds what was asked."""
    backend, architecture, tokenizer = loaded
    before = prompt_tokens(tokenizer, prompt, architecture.most_tokens)
    begun = opened(backend, tokenizer, backend.encode(audio(name)).start(), Manner(), before=before)
    assert begun.language == SENTENCES[name]["language"]
    assert begun.silence < 0.1
    assert begun.opening == tokenizer.signals.opening(begun.language, "transcribe", before=before)
    assert begun.cache.length == begun.opening.index(tokenizer.signals.start) + 1
    whole = backend.extend(backend.encode(audio(name)).start(), begun.opening)
    rest = backend.extend(begun.cache, begun.opening[begun.cache.length :])
    assert np.allclose(rest[-1], whole[-1], atol=1e-3)


@pytest.mark.parametrize(("manner", "asked"), [(Manner(), [1]), (Manner("en"), [3])])
def test_windows_side_by_side(manner: Manner, asked: list[int], loaded: Loaded) -> None:
    """Are opened as each alone, and asked once: where the language is known, for all of the opening but its last token."""
    backend, _, tokenizer = loaded
    windows = [backend.encode(audio(name)) for name in SENTENCES]
    calls: list[list[int]] = []
    with pytest.MonkeyPatch.context() as patch:

        def extend_all(caches: Sequence[Cache], tokens: Sequence[tuple[int, ...]]) -> list[Any]:
            calls.append([len(each) for each in tokens])
            return in_turn(backend, caches, tokens)

        patch.setattr(backend, "extend_all", extend_all)
        found = opened_all(backend, tokenizer, [each.start() for each in windows], manner)
    assert calls == [asked * len(windows)]
    for each, window in zip(found, windows, strict=True):
        alone = opened(backend, tokenizer, window.start(), manner)
        assert (each.opening, each.language, each.silence) == (alone.opening, alone.language, alone.silence)
        assert each.cache.length == asked[0]


def test_silence(loaded: Loaded) -> None:
    """Nobody speaks."""
    backend, _, tokenizer = loaded
    start = backend.encode(np.zeros(SAMPLE_RATE, np.float32)).start()
    assert opened(backend, tokenizer, start, Manner("en", "translate")).silence > 0.6


def test_timestamps_in_a_model_of_one_language(loaded: Loaded) -> None:
    """Its opening is one token, which remains to be decoded."""
    backend, _, tokenizer = loaded

    class OneLanguage(HuggingFaceTokenizer):
        def __init__(self) -> None:
            super().__init__(tokenizer._tokenizer, tokenizer.signals, len(tokenizer))
            signals = dict(tokenizer.signals.__dict__) | {"languages": {}, "tasks": {}}
            self.signals = type(tokenizer.signals)(**signals)
            self.languages = ("en",)

    start = backend.encode(audio("english-1.flac")).start()
    begun = opened(backend, OneLanguage(), start, Manner(), timestamps=True)
    assert begun.opening == (tokenizer.signals.start,)
    assert begun.cache.length == 0 and 0 < begun.silence < 0.1


def test_a_model_that_can_say_neither(tokenizer: Tokenizer, backend: OnnxBackend) -> None:
    """Decodes nothing before the text."""
    start = backend.encode(np.zeros(SAMPLE_RATE, np.float32)).start()
    begun = opened(backend, tokenizer, start, Manner())
    assert (begun.cache.length, begun.language, begun.silence) == (0, "en", 0.0)
    assert prompt_tokens(tokenizer, "so it is", 100) == ()


def test_long_prompts(loaded: Loaded) -> None:
    """Of what was said before, the end counts; half of the room is for the text."""
    _, architecture, tokenizer = loaded
    tokens = prompt_tokens(tokenizer, "one two three " * 99, architecture.most_tokens)
    assert len(tokens) == architecture.most_tokens // 2 - 1
    assert tokenizer.text(tokens).endswith("two three")
    assert prompt_tokens(tokenizer, "  ", architecture.most_tokens) == ()
