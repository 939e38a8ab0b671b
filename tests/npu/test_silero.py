from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends.onnx import Runner
from npu.embedded import SILERO, extracted
from npu.loading import load_judge
from npu.silero_graph import CHUNK, CONTEXT, STATE
from streaming.vad import FrameJudge
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def make_judge(cache_dir: Path) -> Callable[[], FrameJudge]:
    return load_judge(cache_dir)


def judged(judge: FrameJudge, audio: Array) -> list[float]:
    return [judge.judge(audio[None, at : at + CHUNK])[0] for at in range(0, len(audio) - CHUNK, CHUNK)]


def test_speech(make_judge: Callable[[], FrameJudge], clips: dict[str, Array]) -> None:
    """Most of it is called speech."""
    assert np.mean(np.array(judged(make_judge(), clips["two_cities"][16_000:160_000])) > 0.5) > 0.6


@pytest.mark.parametrize("level", [0.0, 0.001, 0.1])
def test_noise(make_judge: Callable[[], FrameJudge], level: float) -> None:
    """None of it is."""
    noise = (np.random.default_rng(1).standard_normal(48_000) * level).astype(np.float32)
    assert max(judged(make_judge(), noise)[5:]) < 0.5


def test_two_streams(make_judge: Callable[[], FrameJudge], clips: dict[str, Array]) -> None:
    """What one hears does not reach the other, though they share the model."""
    audio, other = clips["two_cities"][:64_000], clips["endgame_nagg_nell"][:64_000]
    alone = judged(make_judge(), audio)
    first, second = make_judge(), make_judge()
    together = []
    for at in range(0, len(audio) - CHUNK, CHUNK):
        together.append(first.judge(audio[None, at : at + CHUNK])[0])
        second.judge(other[None, at : at + CHUNK])
    assert together == alone


def test_reset(make_judge: Callable[[], FrameJudge], clips: dict[str, Array]) -> None:
    """The judge is as it was in the beginning."""
    judge, audio = make_judge(), clips["beckett"][:64_000]
    first = judged(judge, audio)
    judge.reset()
    assert judged(judge, audio) == first


def test_against_the_shipped_graph(
    make_judge: Callable[[], FrameJudge], cache_dir: Path, clips: dict[str, Array]
) -> None:
    """The lean graph gives the shipped one's probabilities, through the whole recurrence."""
    shipped = Runner(extracted(SILERO, cache_dir))
    audio = clips["endgame_nagg_nell"][: 20 * SAMPLE_RATE]
    state, heard = np.zeros(STATE, np.float32), np.concatenate([np.zeros(CONTEXT, np.float32), audio])
    expected = []
    for at in range(0, len(audio) - CHUNK, CHUNK):
        inputs = {
            "input": heard[at : at + CHUNK + CONTEXT][None],
            "state": state,
            "sr": np.array(SAMPLE_RATE),
        }
        probability, state = shipped.run(inputs)
        expected.append(probability.item())
    assert np.allclose(judged(make_judge(), audio), expected, atol=1e-4)


def test_several_chunks_at_once(make_judge: Callable[[], FrameJudge], clips: dict[str, Array]) -> None:
    """They are judged as one after the other."""
    audio = clips["two_cities"][: 60 * CHUNK]
    one_by_one = judged(make_judge(), np.append(audio, np.float32(0)))
    judge, at, together = make_judge(), 0, []
    for count in (1, 3, 4, 2, 10, 40):
        together += judge.judge(audio[at * CHUNK : (at + count) * CHUNK].reshape(count, CHUNK))
        at += count
    assert np.allclose(together, one_by_one, atol=1e-5)
