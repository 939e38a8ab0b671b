from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.architecture import Architecture
from npu.backends.onnx import OnnxBackend
from npu.backends.whisper_reference import WhisperReference
from npu.checkpoint import Checkpoint, Sizes
from npu.mel import energies, log_mel, peak_of, scaled
from npu.model import OneByOne
from npu.untrained import write_untrained
from npu.whisper import architecture_of, load_backend
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

TRAINED = Path(__file__).parents[1] / "fixtures" / "whisper-small-talk"
SMALL = Sizes(64, 2, 2, 256, 2, 4, 256, 211, 80, 100, 40)
LARGE = Sizes(128, 3, 4, 512, 3, 4, 384, 503, 128, 150, 64)


@pytest.fixture(scope="module", params=[SMALL, LARGE], ids=["small", "large"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Random weights of two shapes."""
    folder = tmp_path_factory.mktemp("whisper") / f"whisper-{request.param.width}"
    return Checkpoint(write_untrained(folder, request.param, seed=request.param.width))


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of these tests' own."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint) -> WhisperReference:
    """The oracle."""
    return WhisperReference(architecture_of(checkpoint), checkpoint)


def loaded(checkpoint: Checkpoint, cache_dir: Path, precision: str) -> tuple[OnnxBackend, Architecture]:
    return load_backend(checkpoint.folder, "cpu", cache_dir, precision, 1, lambda _line: None)


@pytest.fixture(scope="module")
def exact(checkpoint: Checkpoint, cache_dir: Path) -> OnnxBackend:
    """In float32."""
    return loaded(checkpoint, cache_dir, "fp32")[0]


@pytest.fixture(scope="module")
def fast(checkpoint: Checkpoint, cache_dir: Path) -> OnnxBackend:
    """In 8 bits."""
    return loaded(checkpoint, cache_dir, "int8")[0]


@pytest.fixture(scope="module", params=["int8", "fp16", "fp32"])
def backend(request: pytest.FixtureRequest, checkpoint: Checkpoint, cache_dir: Path) -> OnnxBackend:
    """In every precision."""
    return loaded(checkpoint, cache_dir, request.param)[0]


@pytest.fixture
def audio(clips: dict[str, Array]) -> Array:
    """1.3 s of speech."""
    return clips["two_cities"][SAMPLE_RATE : SAMPLE_RATE * 23 // 10]


def some_tokens(backend: OnnxBackend, count: int, seed: int = 0) -> tuple[int, ...]:
    chance = random.Random(seed)
    return tuple(chance.randrange(backend.architecture.vocabulary) for _ in range(count))


@pytest.mark.parametrize("short", [False, True])
def test_against_the_reference(
    exact: OnnxBackend, reference: WhisperReference, audio: Array, short: bool
) -> None:
    """Logits and alignment are those of the readable form, with the whole context and a short one."""
    tokens = some_tokens(exact, 20)
    expected, found = reference.encode(audio, short).start(), exact.encode(audio, short).start()
    assert np.abs(reference.extend(expected, tokens) - exact.extend(found, tokens)).max() < 1e-3
    frames = found.encoded.frames
    assert frames == exact.architecture.states(len(audio)) < exact.encode(audio).states
    assert found.attention().shape == (20, frames)
    assert np.abs(expected.attention()[:, :frames] - found.attention()).max() < 1e-4


def off_transformers(backend: OnnxBackend, folder: Path, audio: Array) -> float:
    """The largest difference of logits from those of the model's own code."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = some_tokens(backend, 24)
    features = backend.architecture.prepare(audio, False)
    with torch.no_grad():
        output = theirs(
            input_features=torch.tensor(features.T[None]), decoder_input_ids=torch.tensor([tokens])
        )
    expected = output.logits[0].numpy()
    assert expected.std() > 0.5
    return float(np.abs(expected - backend.extend(backend.encode(audio).start(), tokens)).max())


def test_against_transformers(exact: OnnxBackend, checkpoint: Checkpoint, audio: Array) -> None:
    """Logits are within a thousandth of those of the model's own code."""
    assert off_transformers(exact, checkpoint.folder, audio) < 1e-3


def test_trained_checkpoint(cache_dir: Path, audio: Array) -> None:
    """So they are with weights that were trained."""
    if not (TRAINED / "model.safetensors").is_file():
        pytest.skip(f"{TRAINED} is not there")
    exact = loaded(Checkpoint(TRAINED), cache_dir, "fp32")[0]
    assert off_transformers(exact, TRAINED, audio) < 1e-3


def test_any_split_of_the_tokens(backend: OnnxBackend, audio: Array) -> None:
    """Logits and attention are bit-identical however many tokens one call brings."""
    chance = random.Random(1)
    encoded, tokens = backend.encode(audio), some_tokens(backend, 38)
    singly = encoded.start()
    expected = np.concatenate([backend.extend(singly, (token,)) for token in tokens])
    for most in (2, 5, 12, len(tokens)):
        cache, at, rows = encoded.start(), 0, []
        while at < len(tokens):
            k = chance.randint(1, most)
            backend.extend(cache, some_tokens(backend, min(2, len(tokens) - at), seed=at))  # wrong ones
            cache.truncate(at)
            rows.append(backend.extend(cache, tokens[at : at + k]))
            at += k
        assert np.array_equal(expected, np.concatenate(rows))
        assert np.array_equal(singly.attention(), cache.attention())


def test_windows_in_lockstep(backend: OnnxBackend, clips: dict[str, Array]) -> None:
    """Windows of several lengths, begun with several openings, two decodings each: as one by one."""
    lengths = (0.4, 1.7, 1.0)
    encoded = [backend.encode(clips["beckett"][: round(s * SAMPLE_RATE)], short=True) for s in lengths]
    starts = []
    for i, each in enumerate(encoded):
        cache = each.start()
        backend.extend(cache, some_tokens(backend, 1 + i, seed=i))
        starts += [cache, cache]
    batch, oracle = backend.together(starts, True), OneByOne(backend, starts)
    rows = 6
    for step in range(18):
        tokens = some_tokens(backend, rows, seed=step)
        found, expected = batch.extend(tokens), oracle.extend(tokens)
        assert (
            np.abs(found - expected).max() < 0.1 * expected.std()
        )  # an 8-bit activation may round otherwise
        assert np.median(np.abs(found - expected)) < 2e-3
        if step in (5, 9, 13):
            left = {5: [1, 0, 2, 2, 5, 4], 9: [4, 5, 4, 0, 1, 1], 13: [2, 0]}[step]
            batch.keep(left)
            oracle.keep(left)
            rows = len(left)
    for row in range(rows):
        assert batch.attention(row).shape == oracle.attention(row).shape
        assert np.abs(batch.attention(row) - oracle.attention(row)).max() < 1e-3


def test_one_window_without_a_copy(backend: OnnxBackend, audio: Array) -> None:
    """Beams of one window read its keys and values where they lie."""
    encoded = backend.encode(audio)
    batch = backend.together([encoded.start()] * 5, False)
    batch.extend(some_tokens(backend, 5))
    batch.keep([4, 4, 0, 1, 2])
    batch.extend(some_tokens(backend, 5))
    assert all(batch._cross[name] is value for name, value in encoded.cross.items())
    with pytest.raises(ModelError, match="attended"):
        batch.attention(0)


def test_beams_that_are_not_side_by_side(fast: OnnxBackend, audio: Array) -> None:
    """A clear refusal, at the start and later."""
    first, second = fast.encode(audio), fast.encode(audio, short=True)
    with pytest.raises(ValueError, match="side by side"):
        fast.together([first.start(), second.start(), first.start(), second.start()], False)
    batch = fast.together([first.start(), first.start(), second.start(), second.start()], False)
    with pytest.raises(ValueError, match="side by side"):
        batch.keep([0, 1, 2])


def test_eight_bits(fast: OnnxBackend, reference: WhisperReference, audio: Array) -> None:
    """Logits point where the float32 ones do, and so does nearly every choice."""
    tokens = some_tokens(fast, 30)
    expected = reference.extend(reference.encode(audio).start(), tokens)
    found = fast.extend(fast.encode(audio).start(), tokens)
    cosine = (expected * found).sum(axis=1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1)
    assert cosine.min() > 0.995
    assert np.mean(expected.argmax(axis=1) == found.argmax(axis=1)) > 0.85


def test_slices_of_a_recording(
    exact: OnnxBackend, reference: WhisperReference, clips: dict[str, Array]
) -> None:
    """A window cut out of a recording's features, the last one with zeros behind it."""
    shape = exact.architecture.spectrogram
    assert shape is not None
    loud = energies(clips["beckett"][: 5 * SAMPLE_RATE], shape.bins)
    tokens = some_tokens(exact, 6)
    for start in (0, 77, len(loud) - 61):
        window = scaled(loud[start : start + shape.frames], peak_of(loud))
        encoded = exact.encode_features(window)
        assert encoded.frames == -(-len(window) // 2)
        expected = reference.extend(reference.encode_features(window).start(), tokens)
        assert np.abs(exact.extend(encoded.start(), tokens) - expected).max() < 1e-3


def test_zeros_in_eight_bits(fast: OnnxBackend) -> None:
    """A context that is nearly all zeros, or silence, gives numbers."""
    shape = fast.architecture.spectrogram
    assert shape is not None
    for encoded in (
        fast.encode_features(np.zeros((1, shape.bins), np.float32)),
        fast.encode(np.zeros(0, np.float32)),
        fast.encode(np.zeros(1, np.float32), short=True),
    ):
        logits = fast.extend(encoded.start(), some_tokens(fast, 3))
        assert np.isfinite(logits).all()


def test_short_context(fast: OnnxBackend) -> None:
    """Silence up to the next whole second; never beyond the context."""
    prepare, bins = fast.architecture.prepare, fast.architecture.spectrogram.bins  # type: ignore[union-attr]
    audio = np.random.default_rng(0).standard_normal(SAMPLE_RATE * 3 // 2).astype(np.float32)
    assert np.array_equal(prepare(audio, True), log_mel(audio, bins, 2 * SAMPLE_RATE))
    assert len(prepare(np.zeros(fast.architecture.most_samples, np.float32), True)) == len(
        prepare(audio, False)
    )


def test_longer_window_than_the_context(fast: OnnxBackend) -> None:
    """A clear refusal of audio and of features."""
    with pytest.raises(ModelError, match="takes at most"):
        fast.encode(np.zeros(fast.architecture.most_samples + 1, np.float32))
    shape = fast.architecture.spectrogram
    assert shape is not None
    with pytest.raises(ModelError, match="takes at most"):
        fast.encode_features(np.zeros((shape.frames + 1, shape.bins), np.float32))


def test_more_tokens_than_there_are_positions(fast: OnnxBackend, audio: Array) -> None:
    """Every position can be used, and one more is refused, singly and in lockstep."""
    most, encoded = fast.architecture.most_tokens, fast.encode(audio)
    cache = encoded.start()
    fast.extend(cache, some_tokens(fast, most - 1))
    batch = fast.together([cache], False)
    assert np.abs(batch.extend([3]) - fast.extend(cache, (3,))).max() < 0.05
    with pytest.raises(ModelError, match="does not fit"):
        fast.extend(cache, (3,))
    with pytest.raises(ModelError, match="does not fit"):
        batch.extend([3])


def test_cached_graphs(checkpoint: Checkpoint, cache_dir: Path, fast: OnnxBackend) -> None:
    """The second start builds nothing; a changed checkpoint is built anew."""
    lines: list[str] = []
    load_backend(checkpoint.folder, "cpu", cache_dir, "int8", 1, lines.append)
    assert lines == [f"Loading {checkpoint.folder.name}"]
    before = checkpoint.identity
    (checkpoint.folder / "model.safetensors").touch()
    assert Checkpoint(checkpoint.folder).identity != before


def test_unknown_precision(checkpoint: Checkpoint, cache_dir: Path) -> None:
    """The known ones are named."""
    with pytest.raises(ModelError, match="choose int8, fp16, fp32"):
        load_backend(checkpoint.folder, "cpu", cache_dir, "int3", 1, lambda _line: None)
