"""How close a model in 8 bits is to float32 on recordings: operator by operator, layer by layer, and as a whole.

Each operator is given what float32 gives it, and each layer too, so that a figure is that of its own error. The states
are those at the end of the whole encoder in 8 bits, and the logits those of the whole model in each reading, for the
text that is heard in float32.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.backends import reference as fp32
from npu.weights import Array, EncoderLayer
from npu.xdna.encoder_i8 import Encoder8, fixed, in_float, numpy_encoder
from npu.xdna.float_encoder import FloatEncoder, Seen, in_bf16, see
from npu.xdna.float_model import FloatModel
from npu.xdna.quant import Layer, QuantisedEncoder
from npu.xdna.quant_model import text
from npu.xdna.quant_trial import readings
from streaming.window import SAMPLE_RATE

OPERATOR_GOAL, END_GOAL = 0.999, 0.99
OPERATORS = ("norm", "query", "key", "value", "attention", "output", "network", "down", "layer")
_SOUND, _STATES = "sound", "states"
_WHOLE = -1  # the layer of what is of no layer


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
    sound: float  # of what the first layer sees
    states: float
    logits: Mapping[str, float]  # by reading
    chosen: Mapping[
        str, float
    ]  # by reading: the share of tokens that float32 finds most probable as well, 0..1
    seconds: float  # of what was compared

    @property
    def lowest(self) -> tuple[float, int, str]:
        """The lowest cosine of an operator, its layer, counted from 0, and its name."""
        return min((value, at, name) for at, layer in enumerate(self.layers) for name, value in layer.items())


def closeness(model: FloatModel, quantised: QuantisedEncoder, audio: Sequence[Array]) -> Closeness:
    """audio: pieces of speech [n] at 16 kHz."""
    cosines: dict[tuple[int, str], Cosine] = defaultdict(Cosine)
    encoder, whole, exact = numpy_encoder(quantised), readings(model, quantised), model.reference
    chosen, tokens = Counter[str](), 0
    for each in audio:
        window = model.architecture.prepare(each, False)
        for at, found, expected in _in_encoder(model.encoder, encoder, window):
            cosines[at].compare(found, expected)
        heard = text(model, each)
        logits = exact.extend(exact.encode(each).start(), heard)
        for name, backend in whole.items():
            found = backend.extend(backend.encode(each).start(), heard)
            cosines[_WHOLE, name].compare(found, logits)
            chosen[name] += int(np.sum(found.argmax(axis=1) == logits.argmax(axis=1)))
        tokens += len(heard)
    layers = tuple({name: cosines[at, name].value for name in OPERATORS} for at in range(model.encoder.count))
    of_all = {name: cosines[_WHOLE, name].value for name in (_SOUND, _STATES, *whole)}
    return Closeness(
        layers,
        of_all[_SOUND],
        of_all[_STATES],
        {name: of_all[name] for name in whole},
        {name: chosen[name] / tokens for name in whole},
        sum(len(each) for each in audio) / SAMPLE_RATE,
    )


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
    states = in_float(in_eight.states(sound), in_eight.quantised.last)
    yield (_WHOLE, _STATES), states, fp32.norm(x, encoder.last)


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
