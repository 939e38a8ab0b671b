from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends.onnx import OnnxBackend, Runner, load_session, provider_of
from npu.backends.reference import ReferenceBackend
from npu.decoding import Rules, decode
from npu.moonshine import TINY
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

START, END = 1, 2  # Moonshine's signals

Array = NDArray[np.float32]


def windows(clips: dict[str, Array], count: int, seed: int) -> list[Array]:
    """Cuts of real speech, 0.3 to 14 s long, anywhere."""
    chance = random.Random(seed)
    cuts = []
    for _ in range(count):
        clip = chance.choice(list(clips.values()))
        length = min(len(clip), round(chance.uniform(0.3, 14) * SAMPLE_RATE))
        start = chance.randint(0, len(clip) - length)
        cuts.append(clip[start : start + length])
    return cuts


def split(tokens: tuple[int, ...], chance: random.Random, most: int) -> list[tuple[int, ...]]:
    """The tokens in calls of random length."""
    parts = []
    while tokens:
        k = chance.randint(1, most)
        parts.append(tokens[:k])
        tokens = tokens[k:]
    return parts


def test_any_split_of_the_tokens(backend: OnnxBackend, clips: dict[str, Array], rules: Rules) -> None:
    """Logits and attention are bit-identical however many tokens one call brings."""
    chance = random.Random(1)
    for audio in windows(clips, 30, seed=1):
        encoded = backend.encode(audio)
        tokens = (START, *decode(backend, encoded.start(), rules).tokens)
        cache = encoded.start()
        singly = np.concatenate([backend.extend(cache, (token,)) for token in tokens])
        attention = cache.attention()
        for most in (2, 7, len(tokens)):
            cache = encoded.start()
            grouped = np.concatenate([backend.extend(cache, part) for part in split(tokens, chance, most)])
            assert np.array_equal(singly, grouped)
            assert np.array_equal(attention, cache.attention())


def test_windows_in_lockstep(backend: OnnxBackend, clips: dict[str, Array], rules: Rules) -> None:
    """Logits and attention of windows of any length are those of each alone, within the noise of 8-bit activations."""
    cuts = windows(clips, 12, seed=4)
    encoded = [backend.encode(audio) for audio in cuts]
    tokens = [(START, *decode(backend, each.start(), rules).tokens) for each in encoded]
    starts = [each.start() for each in encoded]
    batch, rows = backend.together(starts, True), list(range(len(cuts)))
    alone = [each.start() for each in encoded]
    differences = []
    for at in range(max(map(len, tokens))):
        left = [row for row in rows if len(tokens[row]) > at]
        if len(left) < 0.7 * len(rows):
            batch.keep([rows.index(row) for row in left])
            rows = left
        fed = [(*tokens[row], END, END, END)[min(at, len(tokens[row]))] for row in rows]
        logits = batch.extend(fed)
        for index, row in enumerate(rows):
            if row in left:
                expected = backend.extend(alone[row], (fed[index],))[0]
                differences.append(np.sqrt(np.mean((logits[index] - expected) ** 2)) / expected.std())
        shortest = rows[0]
        attention = batch.attention(0)[: len(tokens[shortest])]
        assert np.abs(attention - alone[shortest].attention()).max() < 1e-3
    assert (
        np.median(differences) < 1e-4
    )  # an activation that falls to the other side of a step moves the rest
    assert max(differences) < 0.08


def test_truncated_after_wrong_tokens(backend: OnnxBackend, clips: dict[str, Array], rules: Rules) -> None:
    """Tokens that were tried and forgotten leave no trace in the logits."""
    chance = random.Random(2)
    for audio in windows(clips, 8, seed=2):
        encoded = backend.encode(audio)
        tokens = (START, *decode(backend, encoded.start(), rules).tokens)
        plain, tried = encoded.start(), encoded.start()
        for part in split(tokens, chance, 5):
            expected = backend.extend(plain, part)
            wrong = tuple(chance.randrange(TINY.vocabulary) for _ in range(chance.randint(1, 9)))
            backend.extend(tried, wrong)
            tried.truncate(plain.length - len(part))
            assert np.array_equal(expected, backend.extend(tried, part))
        assert np.array_equal(plain.attention(), tried.attention())


def test_more_tokens_than_the_cache_was_made_for(backend: OnnxBackend, clips: dict[str, Array]) -> None:
    """The cache grows, and what it held stays."""
    encoded = backend.encode(clips["beckett"][: SAMPLE_RATE // 2])
    tokens = tuple(range(300, 360))
    at_once, singly = encoded.start(), encoded.start()
    expected = backend.extend(at_once, tokens)
    rows = [backend.extend(singly, (token,)) for token in tokens]
    assert np.array_equal(expected, np.concatenate(rows))


def test_more_tokens_than_there_are_positions(backend: OnnxBackend, clips: dict[str, Array]) -> None:
    """A clear refusal."""
    cache = backend.encode(clips["beckett"][:SAMPLE_RATE]).start()
    with pytest.raises(ModelError, match="tokens"):
        backend.extend(cache, (300,) * (TINY.most_tokens + 1))


def test_longer_window_than_there_are_positions(backend: OnnxBackend) -> None:
    """A clear refusal."""
    with pytest.raises(ModelError, match="at most 98 s"):
        backend.encode(np.zeros(TINY.most_samples + 1, np.float32))


def test_against_the_reference(
    backend: OnnxBackend, reference: ReferenceBackend, clips: dict[str, Array], rules: Rules
) -> None:
    """Encoder, logits and attention agree within the noise of 8-bit activations, and so do nearly all choices."""
    for name, start, end in (("two_cities", 0, 4), ("beckett", 0, 10), ("endgame_nagg_nell", 3, 9)):
        audio = clips[name][start * SAMPLE_RATE : end * SAMPLE_RATE]
        exact, fast = reference.encode(audio), backend.encode(audio)
        assert exact.frames == fast.frames
        tokens = (START, *decode(backend, fast.start(), rules).tokens)
        exact_cache, fast_cache = exact.start(), fast.start()
        expected, found = reference.extend(exact_cache, tokens), backend.extend(fast_cache, tokens)
        error = np.sqrt(np.mean((expected - found) ** 2)) / expected.std()
        assert error < 0.08
        assert np.mean(expected.argmax(axis=1) == found.argmax(axis=1)) > 0.85
        assert np.abs(exact_cache.attention() - fast_cache.attention()).max() < 0.06


def test_encoder_states_against_the_reference(
    graphs_states: Runner, reference: ReferenceBackend, clips: dict[str, Array]
) -> None:
    """Every encoder state points where the float32 one does."""
    audio = clips["two_cities"][: 4 * SAMPLE_RATE]
    expected = reference.encode(audio).states
    states = dict(
        zip(graphs_states.outputs, graphs_states.run({"audio": TINY.prepare(audio, False)}), strict=True)
    )
    found = states["states"][0]
    cosine = (expected * found).sum(axis=1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1)
    assert cosine.min() > 0.95
    assert np.linalg.norm(expected - found) / np.linalg.norm(expected) < 0.07


@pytest.fixture(scope="module")
def graphs_states(graphs: object) -> Runner:
    """The encoder graph with all its outputs."""
    return Runner(graphs.encoder)  # type: ignore[attr-defined]


def test_several_threads(backend: OnnxBackend, clips: dict[str, Array], rules: Rules) -> None:
    """Decodings side by side give what they give alone."""
    cuts = windows(clips, 12, seed=3)

    def tokens(audio: Array) -> tuple[int, ...]:
        return decode(backend, backend.encode(audio).start(), rules).tokens

    alone = [tokens(audio) for audio in cuts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokens, cuts)) == alone


def test_device_without_its_package() -> None:
    """The package that is missing is named."""
    with pytest.raises(ModelError, match="onnxruntime-gpu"):
        provider_of("cuda")


def test_unknown_device() -> None:
    """The known ones are named."""
    with pytest.raises(ModelError, match="choose auto, cpu"):
        provider_of("abacus")


def test_file_that_is_no_model(tmp_path: Path) -> None:
    """A sentence, not the runtime's exception."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"cannot load .*broken\.onnx"):
        load_session(broken)
