"""When each word was said: a monotone path through the decoder's cross-attention, and the pauses in the audio."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streaming.window import SAMPLE_RATE, Word

_HOP = SAMPLE_RATE // 100  # samples of one level measurement, 10 ms
_LOUD, _SOFT = 95, 10  # percentiles of a window's levels that stand for its speech and its noise
_QUIET_DB = 32.0  # so far below the speech nobody speaks
_ABOVE_NOISE = 0.25  # of the way from noise to speech; nobody speaks below that either
_CLOSURE = 12  # hops; shorter silences are within words


def token_starts(attention: NDArray[np.float32]) -> NDArray[np.int64]:
    """attention [tokens, frames] -> the frame at which each token begins, [tokens], ascending.

    Dynamic time warping: of all ways to give each frame to one token, in order, the one along which the attention
    adds up to most.
    """
    tokens, frames = attention.shape
    summed = np.concatenate([np.zeros((tokens, 1)), attention.cumsum(axis=1)], axis=1)  # [tokens, frames + 1]
    best = np.full(
        frames + 1, -np.inf
    )  # best[f]: the highest sum with the first f frames given to the tokens so far
    best[0] = 0.0
    begins: list[NDArray[np.int64]] = []  # begins[i][f]: where token i begins if it ends at f
    for i in range(tokens):
        gain = best - summed[i]
        begins.append(_running_argmax(gain))
        best = gain[begins[i]] + summed[i]
    starts = np.zeros(tokens, np.int64)
    end = frames
    for i in range(tokens - 1, -1, -1):
        end = starts[i] = begins[i][end]
    return starts


def word_spans(
    attention: NDArray[np.float32], lengths: Sequence[int], audio: NDArray[np.float32]
) -> list[tuple[float, float]]:
    """attention [tokens, frames], tokens of each word, audio [n] -> (start, end) of each word in seconds of the audio.

    A token's row is that of the step which chose it. Pauses belong to no word.
    """
    seconds = len(audio) / SAMPLE_RATE
    frame_s = seconds / attention.shape[1]
    speech = _speech(audio)
    spoken = _spoken_frames(speech, attention.shape[1])
    starts = token_starts(attention[:, spoken])[np.cumsum([0, *lengths])[:-1]]
    firsts = np.append(spoken, attention.shape[1])[starts]  # back from spoken frames to frames
    edges = [*np.minimum(firsts * frame_s, seconds).tolist(), seconds]
    return [_longest(speech, begin, end) for begin, end in pairwise(edges)]


def timed(
    words: Sequence[Word],
    attention: NDArray[np.float32],
    log_probs: NDArray[np.float32],
    audio: NDArray[np.float32],
    offset_s: float,
) -> tuple[Word, ...]:
    """The words with their times and confidences.

    attention [tokens, frames] and log_probs [tokens] are those of the words' tokens, and of some that spell nothing
    after them. audio [n] begins at `offset_s` of the session.
    """
    if not words:
        return ()
    lengths = [len(word.tokens) for word in words]
    spans = word_spans(attention, lengths, audio)
    found = []
    for word, (start, end), last in zip(words, spans, np.cumsum(lengths), strict=True):
        confidence = float(np.exp(log_probs[last - len(word.tokens) : last].mean()))
        found.append(Word(word.text, word.tokens, offset_s + start, offset_s + end, confidence))
    return tuple(found)


def _spoken_frames(speech: NDArray[np.bool_], frames: int) -> NDArray[np.int64]:
    """The frames in which somebody speaks; all of them where nobody does."""
    edges = np.linspace(0, len(speech), frames + 1)
    hops = np.concatenate([[0], speech.cumsum()])
    heard = hops[np.ceil(edges[1:]).astype(int)] > hops[np.floor(edges[:-1]).astype(int)]
    return np.flatnonzero(heard) if heard.any() else np.arange(frames)


def _speech(audio: NDArray[np.float32]) -> NDArray[np.bool_]:
    """For each 10 ms whether somebody speaks; closures within words are bridged."""
    whole = audio[: len(audio) // _HOP * _HOP].reshape(-1, _HOP)
    level = 10 * np.log10(np.mean(whole**2, axis=1) + 1e-10)
    soft, loud = np.percentile(level, (_SOFT, _LOUD))
    speech: NDArray[np.bool_] = level > max(loud - _QUIET_DB, soft + _ABOVE_NOISE * (loud - soft))
    for begin, end in _runs(~speech):
        if end - begin < _CLOSURE and begin > 0 and end < len(speech):
            speech[begin:end] = True
    return speech


def _longest(speech: NDArray[np.bool_], begin: float, end: float) -> tuple[float, float]:
    """The longest stretch of speech between two times; all of it where there is none."""
    hop_s = _HOP / SAMPLE_RATE
    first, last = round(begin / hop_s), round(end / hop_s)
    runs = _runs(speech[first:last])
    if not runs:
        return begin, end
    longest = max(runs, key=lambda run: run[1] - run[0])
    inner_begin, inner_end = first + longest[0], first + longest[1]
    return (begin if inner_begin == first else inner_begin * hop_s), (
        end if inner_end == last else inner_end * hop_s
    )


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(begin, end) of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


def _running_argmax(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The index of the highest value up to and including each place."""
    highest = np.maximum.accumulate(values)
    fresh = np.concatenate([[True], values[1:] > highest[:-1]])
    return np.maximum.accumulate(np.where(fresh, np.arange(len(values)), 0))
