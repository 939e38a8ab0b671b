"""Whisper checkpoints as resident models: sizes, how audio enters, and graphs built once from the weights.

`whisper_weights` reads the weights, `whisper_encoder` and `whisper_decoder` build the graphs.
Architecture: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npu.architecture import Architecture, Spectrogram
from npu.backends.onnx import OnnxBackend, provider_of
from npu.backends.xdna import Elsewhere, HybridBackend
from npu.checkpoint import Checkpoint
from npu.kept import cache_key, kept_graph
from npu.mel import HOP, log_mel
from npu.whisper_decoder import decoder_graph, lockstep_graph
from npu.whisper_encoder import cross_graph, encoder_graph
from npu.whisper_weights import FRAMES_PER_STATE, PRECISIONS, spectrogram_of
from streaming.errors import ModelError

BUILDER = 4  # raised whenever the graphs change, so that cached ones are made again

_TOKENS_PER_SECOND = 15.0  # as many as a decoding of the whole context has room for, whatever the script
_HEAD_STEP = 16  # grouped-query attention wants heads of a multiple of this


def load_backend(
    folder: Path,
    device: str,
    cache_dir: Path,
    precision: str,
    threads: int,
    progress: Callable[[str], None],
    elsewhere: Elsewhere | None = None,
) -> tuple[OnnxBackend, Architecture]:
    """The checkpoint in a folder, resident, with its graphs built or out of the cache folder.

    precision: how matrices are stored and multiplied, "int8", "fp16" (multiplied in float32 on a CPU) or "fp32".
    threads: how many work on one call. `progress` gets a line for each slow step. elsewhere: what runs the encoder
    instead of the device. ModelError says what is wrong with the folder, the device or the precision.
    """
    provider_of(device)  # refuses before anything slow
    if precision not in PRECISIONS:
        raise ModelError(f"no precision is called {precision!r}; choose {', '.join(PRECISIONS)}")
    checkpoint = Checkpoint(folder)
    architecture = architecture_of(checkpoint)
    key = cache_key(checkpoint.identity, precision, BUILDER)

    def graph(part: str, build: Callable[[Checkpoint, Architecture, str], bytes]) -> bytes:
        def built() -> bytes:
            progress(f"Building the {part} of {architecture.name} in {precision} (once)")
            return build(checkpoint, architecture, precision)

        return kept_graph(cache_dir / f"{architecture.name}-{part}-{key}.graph", built, progress)

    progress(f"Loading {architecture.name}")
    parts = (("encoder", encoder_graph), ("decoder", decoder_graph), ("lockstep", lockstep_graph))
    encoder, decoder, lockstep = (partial(graph, part, build) for part, build in parts)
    if elsewhere is None:
        return OnnxBackend(architecture, encoder, decoder, lockstep, device, threads), architecture
    cross = partial(graph, "cross", cross_graph)
    return HybridBackend(architecture, elsewhere, cross, encoder, decoder, lockstep, threads), architecture


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """Its sizes; ModelError when the graphs cannot have them."""
    sizes = checkpoint.sizes
    head_width = sizes.width // sizes.decoder_heads
    if head_width % _HEAD_STEP:
        raise ModelError(f"{checkpoint.folder}: heads of {head_width} values; multiples of {_HEAD_STEP} work")
    per_state = FRAMES_PER_STATE * HOP  # samples
    shape = spectrogram_of(sizes)
    return Architecture(
        name=checkpoint.folder.name,
        layers=sizes.decoder_layers,
        heads=sizes.decoder_heads,
        head_width=head_width,
        stored_width=head_width,
        vocabulary=sizes.vocabulary,
        most_tokens=sizes.tokens,
        most_samples=sizes.states * per_state,
        tokens_per_second=_TOKENS_PER_SECOND,
        aligned=checkpoint.aligned,
        samples_per_state=per_state,
        prepare=partial(_features, shape=shape),
        spectrogram=shape,
    )


def _features(audio: NDArray[np.float32], short: bool, *, shape: Spectrogram) -> NDArray[np.float32]:
    """audio [n] -> [frames, bins], after silence up to the whole context, or to the next step of a short one."""
    return log_mel(audio, shape.bins, shape.frames_for(len(audio), short) * HOP)
