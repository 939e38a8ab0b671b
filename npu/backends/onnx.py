"""ONNX Runtime: resident sessions, and the three verbs over a pair of graphs. Nothing else imports it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime import GraphOptimizationLevel, OrtValue

from npu.acceleration import NOT_ASKED, Acceleration
from npu.architecture import Architecture
from npu.backends.windows import cut, each_once, heard, mean_of_heads, reordered, side_by_side
from npu.model import Cache, in_turn
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

_ERRORS_ONLY = 3
_ROOM = 96  # tokens that a cache has room for at first: few windows of speech hold more
_CROSS = "c"  # begins the names of the decoder's inputs that come from the encoder
_STATES = "frames"  # the name of their dimension that is as long as the window
_CPU = "CPUExecutionProvider"
# short names of execution providers, and the package whose ONNX Runtime has them
_PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml"),
    "vitisai": ("VitisAIExecutionProvider", "onnxruntime-vitisai"),
}


def provider_of(device: str) -> str:
    """The execution provider for `auto`, `cpu` or another short name; ModelError names the package that is missing."""
    if device in ("auto", "cpu"):
        return _CPU
    if device not in _PROVIDERS:
        raise ModelError(f"no device is called {device!r}; choose auto, cpu, npu, {', '.join(_PROVIDERS)}")
    provider, package = _PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise ModelError(f"this ONNX Runtime cannot run on {device}; install it: pip install {package}")
    return provider


def described(device: str) -> str:
    """A device for people, with the version of what runs there."""
    return f"{'cpu' if device == 'auto' else device} (onnxruntime {onnxruntime.__version__})"


def load_session(model: bytes | Path, device: str = "auto", threads: int = 1) -> onnxruntime.InferenceSession:
    """A resident session, of one thread if nothing else is said: sessions of audio run side by side."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    providers = list(dict.fromkeys((provider_of(device), _CPU)))
    try:
        source = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(source, options, providers=providers)
        session._model_bytes = None  # it keeps them to change its provider one day, which nobody asks for
        return session
    except Exception as error:  # the runtime's exceptions share no narrower base
        what = "a model held in memory" if isinstance(model, bytes) else str(model)
        raise ModelError(f"ONNX Runtime cannot load {what} on {device}: {_first_line(error)}") from error


def convert_to_onnx(source: Path, target: Path) -> None:
    """Writes a model of ONNX Runtime's own format as plain ONNX, unoptimised."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(target)
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.save_model_format", "ONNX")
    try:
        onnxruntime.InferenceSession(str(source), options, providers=[_CPU])
    except Exception as error:  # the runtime's exceptions share no narrower base
        raise ModelError(f"ONNX Runtime cannot read {source}: {_first_line(error)}") from error


class Runner:
    """A resident model with arrays in and arrays out. Safe to call from several threads."""

    def __init__(self, model: bytes | Path, device: str = "auto") -> None:
        self._session = load_session(model, device)
        self.inputs = tuple(each.name for each in self._session.get_inputs())
        self.outputs = tuple(each.name for each in self._session.get_outputs())

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """All outputs, in the model's order."""
        return list(self._session.run(None, dict(inputs)))


class OnnxEncoded:
    """Keys and values of every decoder layer's cross-attention."""

    def __init__(
        self, backend: OnnxBackend, cross: Mapping[str, OrtValue], frames: int, capacity: int
    ) -> None:
        self.backend = backend
        self.cross = cross  # by name: keys and values [1, ...], as the decoder wants them
        self.frames = frames  # of the states, those that hold the audio
        self.capacity = capacity  # tokens its decodings will hardly exceed

    @property
    def states(self) -> int:
        """Padding included."""
        name, axis = next((name, axis) for name, axis in self.backend.cross.items() if axis is not None)
        return int(self.cross[name].shape()[axis])

    def start(self) -> OnnxCache:
        """An empty cache over this window."""
        return OnnxCache(self)


class OnnxCache:
    """Keys and values of one decoding, appended in place. For one thread at a time."""

    def __init__(self, encoded: OnnxEncoded) -> None:
        self.encoded = encoded
        self._architecture = encoded.backend.architecture
        self._session = encoded.backend.decoder
        self._length = 0
        self._binding = self._session.io_binding()
        for name, value in encoded.cross.items():
            self._binding.bind_ortvalue_input(name, value)
        self._stored = np.zeros((2 * self._architecture.layers, 1, 0, 0, 0), np.float32)
        self._reserve(min(encoded.capacity, _ROOM))
        self._results = ("logits", *(f"a{i}" for i in self._architecture.aligned))
        self._attended: list[
            tuple[int, list[OrtValue]]
        ] = []  # of each call: first position, a value for each layer

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return self._length

    def truncate(self, n: int) -> None:
        """Forgets all but the first n tokens; what lies behind them is overwritten by the next call."""
        self._length = min(n, self._length)

    def copy(self) -> OnnxCache:
        """Another decoding that begins with the same tokens."""
        other = OnnxCache(self.encoded)
        if self._length > other._capacity:
            other._reserve(self._length)
        other._stored[..., : self._length, :] = self.stored
        other._length, other._attended = self._length, list(self._attended)
        return other

    def extend(self, tokens: Sequence[int]) -> Array:
        """tokens [k] on top -> logits [k, vocabulary]."""
        after = self._length + len(tokens)
        if after > self._architecture.most_tokens:
            raise ModelError(f"a decoding of {after} tokens does not fit; decode a shorter window")
        if after >= self._capacity:
            self._reserve(max(after, 2 * self._capacity))
        _bind(self._binding, "tokens", np.array([tokens], np.int64))
        _bind(self._binding, "past", np.array([after], np.int32))
        _bind(self._binding, "total", np.array([after + 1], np.int32))  # with the dummy behind the last token
        for name in self._results:
            self._binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(self._binding)
        logits, *attended = self._binding.get_outputs()[-len(self._results) :]  # they were bound last
        self._attended = [(start, layers) for start, layers in self._attended if start < self._length]
        self._attended.append((self._length, attended))
        self._length = after
        return np.asarray(logits.numpy()[0], np.float32)

    def attention(self) -> Array:
        """[length, frames]: the mean over the aligned heads."""
        found = np.zeros((self._length, self.encoded.frames), np.float32)
        for start, layers in self._attended:
            rows = mean_of_heads([layer.numpy() for layer in layers], self._architecture)[0]
            stop = min(start + len(rows), self._length)
            found[start:stop] = rows[: stop - start, : self.encoded.frames]
        return found

    @property
    def stored(self) -> Array:
        """[2 * layers, 1, heads, length, stored width]: what is cached, keys and values of a layer in turn."""
        return self._stored[..., : self._length, :]

    def _reserve(self, tokens: int) -> None:
        """Makes room for so many tokens and the dummy behind them, keeping what is cached."""
        size = self._architecture
        self._capacity = min(tokens, size.most_tokens) + 1
        before = self._stored
        self._stored = np.zeros(
            (2 * size.layers, 1, size.heads, self._capacity, size.stored_width), np.float32
        )
        if self._length:
            self._stored[:, :, :, : self._length] = before[:, :, :, : self._length]
        _bind_stored(self._binding, self._stored)


class OnnxBatch:
    """Keys and values of decodings in lockstep, padded to the longest window. For one thread at a time.

    Decodings of one window share its keys and values.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        architecture: Architecture,
        starts: Sequence[OnnxCache],
        attended: bool,
    ) -> None:
        size = self._architecture = architecture
        self._session = session
        self._frames = [cache.encoded.frames for cache in starts]
        self._lengths = np.array([cache.length for cache in starts], np.int32)  # tokens that each holds
        self._attended: list[Array] | None = [] if attended else None  # of each call: [decodings, states]
        self._moves: list[tuple[int, list[int]]] = []  # after so many calls, these decodings were kept
        windows, self._beams = each_once(cache.encoded for cache in starts)
        self._axes = windows[0].backend.cross
        self._heard = heard([window.states for window in windows])
        self._cross = dict(windows[0].cross)  # those of a single window are used where they lie
        if len(windows) > 1:
            for name, axis in self._axes.items():
                laid = side_by_side([window.cross[name].numpy() for window in windows], axis)
                self._cross[name] = OrtValue.ortvalue_from_numpy(laid)
        longest = int(self._lengths.max())
        capacity = min(longest + _ROOM, max(longest + 1, *(cache.encoded.capacity for cache in starts)))
        self._stored = [
            np.zeros((len(starts), size.heads, capacity, size.stored_width), np.float32)
            for _ in range(2 * size.layers)
        ]
        for row, cache in enumerate(starts):
            for stored, held in zip(self._stored, cache.stored, strict=True):
                stored[row, :, : cache.length] = held[0]
        self._bind_all()

    def extend(self, tokens: Sequence[int]) -> Array:
        """One token for each decoding -> logits [decodings, vocabulary]."""
        longest = int(self._lengths.max())
        if longest == self._architecture.most_tokens:
            raise ModelError(f"a decoding of {longest + 1} tokens does not fit; decode a shorter window")
        if longest == self._stored[0].shape[2]:
            for i, stored in enumerate(self._stored):
                more = np.zeros((*stored.shape[:2], _ROOM, stored.shape[3]), np.float32)
                self._stored[i] = np.concatenate([stored, more], axis=2)
            self._bind_all()
        _bind(self._binding, "tokens", np.array([tokens], np.int64))
        _bind(self._binding, "past", self._lengths)
        _bind(self._binding, "total", np.array([longest + 1], np.int32))
        names = ["logits"]
        if self._attended is not None:
            names += [f"a{i}" for i in self._architecture.aligned]
        for name in names:
            self._binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(self._binding)
        logits, *attended = (value.numpy() for value in self._binding.get_outputs()[-len(names) :])
        if self._attended is not None:
            where = mean_of_heads(attended, self._architecture)  # [windows, decodings of a window, states]
            self._attended.append(where.reshape(len(tokens), -1))
        self._lengths = self._lengths + np.int32(1)
        return np.asarray(logits[0], np.float32)

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these decodings; the padding shrinks to the longest of their windows."""
        before, longest = list(range(len(self._heard))), self._heard.shape[-1]
        windows, self._beams = each_once(before[row // self._beams] for row in rows)
        self._frames = [self._frames[row] for row in rows]
        self._lengths = self._lengths[list(rows)]
        if windows != before:
            longest = int((self._heard[windows] == 0).sum(axis=-1).max())
            self._heard = np.ascontiguousarray(self._heard[windows, ..., :longest])
            for name, value in self._cross.items():  # one by one: together they are large
                left = np.ascontiguousarray(cut(value.numpy()[windows], self._axes[name], longest))
                self._cross[name] = OrtValue.ortvalue_from_numpy(left)
        if self._attended is not None:
            self._moves.append((len(self._attended), list(rows)))
        moved = windows != before or len(rows) != len(self._stored[0])
        used = int(self._lengths.max())
        for i, stored in enumerate(self._stored):
            self._stored[i] = reordered(stored, rows, used, used + _ROOM)
        if moved:
            self._bind_all()

    def attention(self, row: int) -> Array:
        """[calls, frames]: the mean over the aligned heads."""
        if self._attended is None:
            raise ModelError("the attention of this batch was not kept; start it with `attended`")
        found = np.zeros((len(self._attended), self._frames[row]), np.float32)
        moves = list(self._moves)
        for call in reversed(range(len(found))):
            while moves and moves[-1][0] > call:
                row = moves.pop()[1][row]  # where it stood before
            found[call] = self._attended[call][row, : found.shape[1]]
        return found

    def _bind_all(self) -> None:
        """Binds what stays where it is from call to call."""
        self._binding = self._session.io_binding()
        _bind(self._binding, "heard", self._heard)
        for name, value in self._cross.items():
            self._binding.bind_ortvalue_input(name, value)
        _bind_stored(self._binding, self._stored)


class OnnxBackend:
    """An encoder and a decoder graph, resident. Caches belong to decodings, so threads may share it.

    `lockstep` makes the decoder of batches when the first one is started: live streams never need it. The others may
    be made when their turn comes as well: large graphs are then not in memory together. `threads` work on one call.
    """

    def __init__(
        self,
        architecture: Architecture,
        encoder: bytes | Callable[[], bytes],
        decoder: bytes | Callable[[], bytes],
        lockstep: Callable[[], bytes],
        device: str = "auto",
        threads: int = 1,
    ) -> None:
        self.architecture = architecture
        self.name = architecture.name
        self.device = described(device)
        self.unaccelerated = NOT_ASKED  # why nothing of this runs on the NPU
        self._encoder = load_session(encoder() if callable(encoder) else encoder, device, threads)
        self.decoder = load_session(decoder() if callable(decoder) else decoder, device, threads)
        self._lockstep = lockstep
        self._batches: onnxruntime.InferenceSession | None = None
        self._loading = threading.Lock()
        self._device = device
        self._threads = threads
        # what the decoder wants of the encoder, and along which axis the states lie
        self.cross = {
            each.name: tuple(each.shape).index(_STATES) if _STATES in each.shape else None
            for each in self.decoder.get_inputs()
            if each.name.startswith(_CROSS)
        }

    @property
    def acceleration(self) -> Acceleration:
        """What it has of the NPU."""
        return self.unaccelerated

    def encode(self, audio: Array, short: bool = False) -> OnnxEncoded:
        """audio [n] at 16 kHz -> the window, ready to be decoded; ModelError when it is too long."""
        if len(audio) > self.architecture.most_samples:
            longest = self.architecture.most_samples // SAMPLE_RATE
            raise ModelError(
                f"a window of {len(audio) / SAMPLE_RATE:.1f} s; {self.name} takes at most {longest} s"
            )
        return self._encoded(self._hear(audio, short), len(audio))

    def encode_features(self, features: Array, short: bool = False) -> OnnxEncoded:
        """features [frames, bins], a slice of a recording's (`npu.mel`) -> the window, ready to be decoded.

        At the recording's end zeros fill the context, unless it is to be `short`; ModelError when it is too long.
        """
        shape = self.architecture.spectrogram
        if shape is None:
            raise ModelError(f"{self.name} hears audio, not features of it")
        if len(features) > shape.frames or features.shape[1:] != (shape.bins,):
            raise ModelError(
                f"features of shape {features.shape}; {self.name} takes at most {(shape.frames, shape.bins)}"
            )
        samples = len(features) * self.architecture.samples_per_state // shape.frames_per_state
        return self._encoded(self._listen(shape.fitted(features, short)), samples)

    def _hear(self, audio: Array, short: bool) -> list[OrtValue]:
        """audio [n] -> what the decoder wants of it, in the order of `cross`."""
        return self._listen(self.architecture.prepare(audio, short))

    def _listen(self, prepared: Array) -> list[OrtValue]:
        """What the encoder's graph takes -> the same."""
        return run_encoder(self._encoder, self.cross, "audio", prepared)

    def _encoded(self, values: list[OrtValue], samples: int) -> OnnxEncoded:
        capacity = self.architecture.token_limit(samples, SAMPLE_RATE) + 2
        encoded = OnnxEncoded(self, dict(zip(self.cross, values, strict=True)), 0, capacity)
        encoded.frames = min(self.architecture.states(samples), encoded.states)
        return encoded

    def extend(self, cache: Cache, tokens: tuple[int, ...]) -> Array:
        """One pass for k tokens on top of the cache -> logits [k, vocabulary]."""
        if not isinstance(cache, OnnxCache):
            raise TypeError(f"a cache of {type(cache).__name__} given to {type(self).__name__}")
        return cache.extend(tokens)

    def extend_all(self, caches: Sequence[Cache], tokens: Sequence[tuple[int, ...]]) -> list[Array]:
        """One cache after the other."""
        return in_turn(self, caches, tokens)

    def together(self, starts: Sequence[Cache], attended: bool) -> OnnxBatch:
        """Goes on with these decodings in lockstep."""
        ours = [cache for cache in starts if isinstance(cache, OnnxCache)]
        if len(ours) != len(starts):
            raise TypeError(f"caches of another backend given to {type(self).__name__}")
        with self._loading:
            if self._batches is None:
                self._batches = load_session(self._lockstep(), self._device, self._threads)
        return OnnxBatch(self._batches, self.architecture, ours, attended)


def run_encoder(
    session: onnxruntime.InferenceSession, outputs: Iterable[str], name: str, values: Array
) -> list[OrtValue]:
    """Outputs for one input, left where the session puts them."""
    given = OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values))
    return list(session.run_with_ort_values(list(outputs), {name: given}))


def _bind(binding: Any, name: str, value: NDArray[Any]) -> None:
    binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(value))


def _bind_stored(binding: Any, stored: Iterable[Array]) -> None:
    """Keys and values of each layer in turn: what goes in comes out of the same memory."""
    for at, each in enumerate(stored):
        name, value = f"{'kv'[at % 2]}{at // 2}", OrtValue.ortvalue_from_numpy(each)
        binding.bind_ortvalue_input(f"p{name}", value)
        binding.bind_ortvalue_output(f"n{name}", value)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
