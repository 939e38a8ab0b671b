"""Voices: who speaks when in a window, and a voiceprint of each, from the two networks of pyannote's community-1."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from npu.backends.onnx import Runner
from npu.fbank import log_mel
from npu.lean import lean_head, lean_segmentation, lean_trunk
from streaming.division import divide, excerpts_of
from streaming.listening import (
    CONTEXT,
    LOCALS,
    MOMENT,
    REACH,
    VOICEPRINT,
    Heard,
    Job,
    Maps,
    moment_weights,
)

Array = NDArray[np.float32]

_QUIETEST = 0.0  # log energy; real rooms are louder, and digital silence would carry the mean away


class Voices(Protocol):
    """The resident networks. Heavy, shared by all sessions, safe to call from several threads at once."""

    def segment(self, audio: Array) -> Array:
        """audio [n] at 16 kHz -> [frames, LOCALS]: probability that each of the window's voices speaks."""

    def features(self, spectrogram: Array, mean: Array) -> NDArray[np.float16]:
        """Log-mel spectrogram [n, 80] and what to take off each bin [80] -> maps [ceil(n / 8), ...], one a moment."""

    def embed(self, maps: NDArray[np.float16], weights: Array) -> Array:
        """maps [m, ...], weights [k, m] -> k voiceprints [k, VOICEPRINT], unit vectors."""


class OnnxVoices:
    """The networks on ONNX Runtime."""

    def __init__(self, segmentation: bytes, trunk: bytes, head: bytes) -> None:
        self._segmentation = Runner(segmentation)
        self._trunk = Runner(trunk)
        self._head = Runner(head)

    def segment(self, audio: Array) -> Array:
        (activity,) = self._segmentation.run({"audio": audio[None]})
        return np.asarray(activity[0], np.float32)

    def features(self, spectrogram: Array, mean: Array) -> NDArray[np.float16]:
        (maps,) = self._trunk.run({"spectrogram": spectrogram - mean})
        return maps.astype(np.float16)

    def embed(self, maps: NDArray[np.float16], weights: Array) -> Array:
        (voiceprints,) = self._head.run({"maps": maps, "weights": weights})
        return np.asarray(voiceprints, np.float32)


def load_voices(cache_dir: Path) -> OnnxVoices:
    """The networks of the pinned wheel, made resident; ModelError says what to install where it is missing."""
    graphs = (build(cache_dir, lambda _line: None) for build in (lean_segmentation, lean_trunk, lean_head))
    return OnnxVoices(*graphs)


def perform(voices: Voices, job: Job) -> Heard:
    """What a diarizer's job asks for. Pure: may run on any thread."""
    activity = voices.segment(job.audio)
    made = fresh_maps(voices, job)
    maps = (*job.maps, *([made] if made else []))
    if not maps:
        nothing = np.zeros((LOCALS, VOICEPRINT), np.float32)
        return Heard(activity, nothing, np.zeros(LOCALS, np.float32), None)
    moments = np.concatenate([np.arange(each.first, each.first + len(each)) for each in maps])
    values = np.concatenate([each.values for each in maps])
    weights, clean = moment_weights(job, activity, moments)
    excerpts = excerpts_of(weights, moments) if job.divide else None
    if excerpts is None or not len(excerpts.voice):
        return Heard(activity, voices.embed(values, weights), clean, made)
    every = voices.embed(values, np.concatenate([weights, excerpts.weights]))
    divided, local = divide(job, activity, excerpts, every[LOCALS:])
    if len(local) == LOCALS:
        return Heard(activity, every[:LOCALS], clean, made)
    weights, clean = moment_weights(job, divided, moments)
    return Heard(divided, voices.embed(values, weights), clean, made, local)


def fresh_maps(voices: Voices, job: Job) -> Maps | None:
    """Maps of the fresh moments, seen with a little of what is around them.

    The mean that is taken off each bin is that of the window's recent past: the network saw means over ten seconds.
    """
    if not job.fresh:
        return None
    start = job.fresh.start * MOMENT
    first = max(start - CONTEXT, job.start + -job.start % MOMENT)
    end = min(job.fresh.stop * MOMENT + CONTEXT + REACH, job.end)
    spectrogram = np.maximum(log_mel(job.audio[first - job.start : end - job.start]), _QUIETEST)
    spectrum = spectrogram.mean(axis=0)
    seen = [(each.spectrum, len(each)) for each in job.maps] + [(spectrum, len(job.fresh))]
    mean = np.average([each for each, _ in seen], axis=0, weights=[n for _, n in seen]).astype(np.float32)
    skip = (start - first) // MOMENT
    values = voices.features(spectrogram, mean)[skip : skip + len(job.fresh)]
    return Maps(job.fresh.start, values, spectrum)
