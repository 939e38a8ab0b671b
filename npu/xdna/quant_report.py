"""How close a model in 8 bits is to float32 on recordings: operator by operator, layer by layer, and as a whole.

Each operator is given what float32 gives it, and each layer too, so that a figure is that of its own error. The states
and the decoder's keys and values are those at the end of the whole encoder in 8 bits, and the logits those of the whole
model, for the text that is heard in float32.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.backends import reference as fp32
from npu.weights import Array, EncoderLayer
from npu.xdna.decoder_i8 import Decoder8
from npu.xdna.encoder_i8 import Encoder8, NumpyOperators, fixed, in_float, numpy_encoder
from npu.xdna.float_decoder import see as decoded
from npu.xdna.float_encoder import FloatEncoder, Seen, in_bf16, see
from npu.xdna.float_model import FloatModel
from npu.xdna.quant import Cross, Layer
from npu.xdna.quant_decoder import Text
from npu.xdna.quant_model import QuantisedModel, texts
from streaming.window import SAMPLE_RATE

OPERATOR_GOAL, END_GOAL = 0.999, 0.99
OPERATORS = ("norm", "query", "key", "value", "attention", "output", "network", "down", "layer")
_SOUND, _STATES, _CROSS, _LOGITS = "sound", "states", "cross", "logits"
_DECODER, _WHOLE = "decoder", -1  # the name of its layers' figures, and the layer of what is of no layer


class Cosine:
    """Of all values that were compared."""

    def __init__(self) -> None:
        self._products = np.zeros(3)

    def compare(self, found: NDArray[Any], expected: NDArray[Any]) -> None:
        """Adds values [...] and what they should be."""
        x, y = (each.astype(np.float64).ravel() for each in (found, expected))
        self._products += x @ y, x @ x, y @ y

    @property
    def value(self) -> float:
        """1 where all is zero, as it should be."""
        both, found, expected = self._products
        return float(both / sqrt(found * expected)) if found * expected > 0 else float(found == expected)


@dataclass(frozen=True)
class Closeness:
    """Cosines."""

    layers: tuple[Mapping[str, float], ...]  # of each operator, see OPERATORS
    decoder: tuple[float, ...]  # of what each of its layers gives
    sound: float  # of what the first layer sees
    states: float
    cross: float  # of the decoder's keys and values, all together
    logits: float
    chosen: float  # the share of tokens that are the most probable ones in both, 0..1
    seconds: float  # of what was compared

    @property
    def lowest(self) -> tuple[float, int, str]:
        """The lowest cosine of an operator, its layer, counted from 0, and its name."""
        return min((value, at, name) for at, layer in enumerate(self.layers) for name, value in layer.items())


def closeness(model: FloatModel, quantised: QuantisedModel, audio: Sequence[Array]) -> Closeness:
    """audio: pieces of speech [n] at 16 kHz."""
    cosines: dict[tuple[int, str], Cosine] = defaultdict(Cosine)
    encoder, decoder = numpy_encoder(quantised.encoder), Decoder8(quantised.decoder, NumpyOperators())
    chosen = np.zeros(2)
    for each in audio:
        window = model.architecture.prepare(each, False)
        for at, found, expected in _in_encoder(model.encoder, encoder, window):
            cosines[at].compare(found, expected)
        text = texts(model, [each])[0]
        for at, found, expected in _in_decoder(model, quantised.encoder.crosses, decoder, text):
            cosines[at].compare(found, expected)
        logits = _logits(model, encoder, decoder, window, text)
        cosines[_WHOLE, _LOGITS].compare(*logits)
        chosen += np.sum(logits[0].argmax(axis=1) == logits[1].argmax(axis=1)), len(text.tokens)
    layers = tuple({name: cosines[at, name].value for name in OPERATORS} for at in range(model.encoder.count))
    sound, states, cross, whole = (cosines[_WHOLE, name].value for name in (_SOUND, _STATES, _CROSS, _LOGITS))
    in_decoder = tuple(cosines[at, _DECODER].value for at in range(len(model.decoder.layers)))
    seconds = sum(len(each) for each in audio) / SAMPLE_RATE
    return Closeness(layers, in_decoder, sound, states, cross, whole, float(chosen[0] / chosen[1]), seconds)


_Compared = tuple[tuple[int, str], NDArray[Any], NDArray[Any]]  # what was compared, found and expected


def _in_encoder(encoder: FloatEncoder, in_eight: Encoder8, window: Array) -> Iterator[_Compared]:
    sound = encoder.sound(window, in_bf16)
    x = encoder.frames(window)
    yield (_WHOLE, _SOUND), in_eight.frames(sound), x
    for at, (layer, bits) in enumerate(zip(in_eight.quantised.layers, in_eight.bits(), strict=True)):
        plain = encoder.layer(at)
        seen = see(encoder, plain, x)
        for name, found, expected in _of_layer(in_eight, layer, bits, plain, seen):
            yield (at, name), found, expected
        x = seen.after
    rows = in_eight.states(sound)
    states = fp32.norm(x, encoder.last)
    yield (_WHOLE, _STATES), in_float(rows, in_eight.quantised.last), states
    for at, cross in enumerate(in_eight.quantised.crosses):
        attention = encoder.cross(at)
        parts = zip((cross.key, cross.value), (attention.key, attention.value), strict=True)
        for (product, plain_product), found in zip(parts, in_eight.cross(rows, cross), strict=True):
            yield (_WHOLE, _CROSS), found * 2.0**-product.bits, fp32.linear(states, plain_product)


def _in_decoder(
    model: FloatModel, crosses: Sequence[Cross], in_eight: Decoder8, text: Text
) -> Iterator[_Compared]:
    """Each layer of a whole text, with the float encoder's keys and values."""
    quantised = in_eight.quantised
    cross = [
        (fixed(fp32.together(key), each.key.bits), fixed(fp32.together(value), each.value.bits))
        for (key, value), each in zip(text.cross, crosses, strict=True)
    ]
    x, bits, heard = model.decoder.embedded(text.tokens, 0), quantised.bits, in_eight.heard(cross)
    for at, (layer, plain) in enumerate(zip(quantised.layers, model.decoder.layers, strict=True)):
        after = decoded(model.decoder, plain, x, text.cross[at]).after
        found, _ = in_eight.layer(fixed(x, bits), bits, layer, None, heard[at])
        yield (at, _DECODER), found, after
        x, bits = after, layer.down.bits


def _logits(
    model: FloatModel, encoder: Encoder8, decoder: Decoder8, window: Array, text: Text
) -> tuple[Array, Array]:
    """Of all of the model, found and expected, for a whole text [tokens, vocabulary]."""
    rows = encoder.states(model.encoder.sound(window, in_bf16))
    heard = decoder.heard([encoder.cross(rows, each) for each in encoder.quantised.crosses])
    embedded = model.decoder.embedded(text.tokens, 0)
    found, _ = decoder.extend(embedded, [None] * len(heard), heard)
    x = embedded
    for layer, cross in zip(model.decoder.layers, text.cross, strict=True):
        x = decoded(model.decoder, layer, x, cross).after
    return found, fp32.linear(fp32.norm(x, model.decoder.last), model.decoder.head)


def _of_layer(
    in_eight: Encoder8, layer: Layer, bits: int, plain: EncoderLayer, seen: Seen
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    operators, x = in_eight.operators, fixed(seen.x, bits)
    rows = operators.layer_norm(x, layer.attention_norm)
    yield "norm", in_float(rows, layer.attention_norm), seen.normal
    for name, product in (("query", layer.query), ("key", layer.key), ("value", layer.value)):
        yield name, operators.product(rows, product), getattr(seen, name)
    width = seen.heads[0].shape[2]
    products, factors = (layer.query, layer.key, layer.value), (log2(np.e) / sqrt(width), 1, 1)
    heads = [
        fixed(each * factor, product.bits)
        for each, factor, product in zip(seen.heads, factors, products, strict=True)
    ]
    unit = np.repeat(layer.heads.unit, width)
    yield "attention", in_eight.seen(heads[0], heads[1], heads[2], layer.heads) * unit, seen.seen
    given = fixed(seen.seen / unit, 0)
    yield (
        "output",
        in_eight.output(given, np.zeros_like(x), layer, bits),
        fp32.linear(seen.seen, plain.attention.output),
    )
    between = fixed(seen.between, layer.output.bits)
    yield "network", in_eight.hidden(between, layer), seen.hidden
    hidden = fixed(seen.hidden, layer.up.bits)
    yield "down", in_eight.down(hidden, np.zeros_like(between), layer), seen.down
    yield "layer", in_eight.layer(x, layer, bits), seen.after
