"""The encoders in float32, taken apart as the NPU computes them: what is quantised, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from npu.backends import reference as fp32
from npu.backends.reference import Array
from npu.checkpoint import Checkpoint
from npu.embedded import DECODER, ENCODER
from npu.kept import cache_key
from npu.layers import EPSILON
from npu.moonshine import HEADS, TINY
from npu.weights import Attention, Convolution, EncoderLayer, Norm, Weights
from npu.whisper_weights import WhisperWeights
from npu.xdna.oracle import from_bf16, to_bf16

Narrow = Callable[[Array], Array]  # how values are rounded


class Sound(Protocol):
    """What comes before the part in 8 bits."""

    def __call__(self, prepared: Array, narrow: Narrow = ..., /) -> Array:
        """What the encoder's graph takes -> rows [n, channels] for the first convolution in 8 bits, or frames where
        there is none; what goes into products and comes out of them is narrowed.
        """


@dataclass(frozen=True, eq=False)
class FloatEncoder:
    """Either family's: sound, convolutions with GELU, layers, a norm, and what decoder layers make of its states."""

    name: str
    identity: str  # another one for other weights
    heads: int
    count: int  # layers
    sound: Sound
    convolutions: tuple[Convolution, ...]
    padding: int  # rows of zeros before and after what each convolution sees
    positions: Array | None  # [most frames, width]: added to the frames
    frequencies: Array | None  # of rotary embedding
    layer: Callable[[int], EncoderLayer]
    last: Norm
    crosses: int  # decoder layers
    cross: Callable[[int], Attention]  # the cross-attention of a decoder layer

    def gathered(self, x: Array, convolution: Convolution) -> Array:
        """Rows [n, channels] -> what each output of a convolution sees, taps in turn [outputs, taps * channels]."""
        return gathered(x, convolution.kernel.shape[2], convolution.stride, self.padding)

    def placed(self, x: Array) -> Array:
        """Frames [frames, width] with their positions."""
        return x if self.positions is None else x + self.positions[: len(x)]

    def frames(self, prepared: Array) -> Array:
        """What the encoder's graph takes -> what the first layer does [frames, width]."""
        x = self.sound(prepared)
        for each in self.convolutions:
            x = fp32.gelu(self.gathered(x, each) @ as_matrix(each) + _bias(each))
        return self.placed(x)

    def states(self, prepared: Array) -> Array:
        """What the encoder's graph takes -> its states [frames, width]."""
        x = self.frames(prepared)
        for i in range(self.count):
            x = see(self, self.layer(i), x).after
        return fp32.norm(x, self.last)


@dataclass(frozen=True, eq=False)
class Seen:
    """What one layer computes of frames x, [frames, width] each."""

    x: Array
    normal: Array  # behind the first norm
    query: Array  # heads side by side, not turned yet
    key: Array
    value: Array
    heads: tuple[Array, Array, Array]  # the three [heads, frames, head width], turned by position
    seen: Array
    between: Array  # after attention
    normal_between: Array  # behind the second norm
    up: Array  # before GELU
    hidden: Array  # after it
    down: Array
    after: Array  # what the next layer sees


def see(encoder: FloatEncoder, layer: EncoderLayer, x: Array) -> Seen:
    """x [frames, width] through a layer."""
    normal, attention = fp32.norm(x, layer.attention_norm), layer.attention
    flat_query, flat_key, flat_value = (
        fp32.linear(normal, each) for each in (attention.query, attention.key, attention.value)
    )
    query, key, value = (fp32.apart(each, encoder.heads) for each in (flat_query, flat_key, flat_value))
    if encoder.frequencies is not None:
        query, key = (fp32.rotate(each, encoder.frequencies, 0) for each in (query, key))
    seen, _ = fp32.attend(query, key, value)
    between = x + fp32.linear(seen, attention.output)
    normal_between = fp32.norm(between, layer.network_norm)
    up = fp32.linear(normal_between, layer.up)
    hidden = fp32.gelu(up)
    down = fp32.linear(hidden, layer.down)
    return Seen(
        x, normal, flat_query, flat_key, flat_value, (query, key, value), seen, between, normal_between, up, hidden,
        down, between + down,
    )  # fmt: skip


def gathered(x: NDArray[Any], taps: int, stride: int, padding: int) -> NDArray[Any]:
    """Rows [n, channels] of any type -> the rows that each output of a convolution sees, side by side."""
    wide = np.pad(x, ((padding, padding), (0, 0)))
    outputs = (len(wide) - taps) // stride + 1
    views = [wide[tap : tap + (outputs - 1) * stride + 1 : stride] for tap in range(taps)]
    return np.concatenate(views, axis=1)


def as_matrix(convolution: Convolution) -> Array:
    """A convolution's kernel as the matrix [taps * in, out] of gathered rows."""
    kernel = convolution.kernel  # [out, in, taps]
    return np.ascontiguousarray(kernel.transpose(2, 1, 0).reshape(-1, len(kernel)))


def of_moonshine(weights: Weights) -> FloatEncoder:
    """Moonshine's. All three convolutions belong to the sound: in 8 bits the last one's output has a cosine of 0.998
    at most, because few of its sums are above zero and those are small beside the others.
    """
    first, second, third = weights.stem

    def sound(prepared: Array, narrow: Narrow = exact) -> Array:
        def convolved(x: Array, convolution: Convolution) -> Array:
            kernel = replace(convolution, kernel=narrow(convolution.kernel))
            return fp32.convolve(narrow(x), kernel)

        x = narrow(np.tanh(convolved(prepared.reshape(1, -1)[:, :-1], first)))
        x = np.asarray((x - x.mean()) / np.sqrt(x.var() + EPSILON), np.float32)
        x = x * weights.stem_gain[:, None] + weights.stem_offset[:, None]
        return narrow(fp32.gelu(convolved(fp32.gelu(convolved(x, second)), third))).T

    return FloatEncoder(
        TINY.name, cache_key(ENCODER.sha256, DECODER.sha256), HEADS, len(weights.encoder), sound, (), 0,
        None, weights.frequencies, lambda i: weights.encoder[i], weights.encoder_norm,
        len(weights.decoder), lambda i: weights.decoder[i].cross,
    )  # fmt: skip


def of_whisper(checkpoint: Checkpoint) -> FloatEncoder:
    """A Whisper checkpoint's; a layer's weights are read when it is asked for."""
    weights = WhisperWeights(checkpoint, "fp32")
    sizes = weights.sizes
    return FloatEncoder(
        checkpoint.folder.name, checkpoint.identity, sizes.encoder_heads, sizes.encoder_layers, _as_it_is,
        weights.stem(), 1, weights.encoder_positions(), None, weights.encoder_layer,
        weights.norm("model.encoder.layer_norm"), sizes.decoder_layers, weights.cross,
    )  # fmt: skip


def through(encoder: FloatEncoder, windows: list[Array]) -> Iterator[tuple[EncoderLayer, list[Seen]]]:
    """Each layer with what it computes of every window's frames, the layers in turn."""
    for i in range(encoder.count):
        layer = encoder.layer(i)
        found = [see(encoder, layer, x) for x in windows]
        yield layer, found
        windows = [each.after for each in found]


def exact(x: Array) -> Array:
    """As it is."""
    return x


def in_bf16(x: Array) -> Array:
    """Rounded to bf16."""
    return from_bf16(to_bf16(np.ascontiguousarray(x)))


def _as_it_is(prepared: Array, narrow: Narrow = exact) -> Array:
    return prepared


def _bias(convolution: Convolution) -> Array:
    return np.zeros(len(convolution.kernel), np.float32) if convolution.bias is None else convolution.bias
