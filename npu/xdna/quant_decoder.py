"""A decoder in 8 bits as the NPU's kernels take it; `quant` is the same for encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.backends import reference as fp32
from npu.backends.reference import Array
from npu.weights import DecoderLayer, Matrix
from npu.xdna.curves import curve_of
from npu.xdna.float_decoder import Decoded, FloatDecoder, halves, see
from npu.xdna.quant import Cross, Progress
from npu.xdna.quant_parts import (
    Heads,
    Normalisation,
    Product,
    Wanted,
    activation_bits,
    angles,
    bits_for,
    coarser,
    heads_of,
    norm_and_products,
    peak,
    rows_and_product,
    to_logarithms,
)
from npu.xdna.scaling import fraction_bits
from streaming.errors import ModelError


@dataclass(frozen=True, eq=False)
class Gate:
    """What `swiglu_i16` is given beside the hidden half."""

    product: Product
    curve: NDArray[np.int16]  # [6]: SiLU in the unit of the gate
    shift: int
    bits: int  # fraction bits of what comes out


@dataclass(frozen=True, eq=False)
class Step:
    """One decoder layer."""

    attention_norm: Normalisation
    query: Product
    key: Product
    value: Product
    heads: Heads
    seen_gain: NDArray[np.int32]  # [width]
    output: Product  # with the residual
    cross_norm: Normalisation
    cross_query: Product
    cross_heads: Heads
    cross_gain: NDArray[np.int32]  # [width]
    cross_output: Product  # with the residual
    network_norm: Normalisation
    up: Product  # with GELU where there is no gate
    gate: Gate | None
    hidden_gain: NDArray[np.int32]  # [hidden]
    down: Product  # with the residual


@dataclass(frozen=True, eq=False)
class QuantisedDecoder:
    """Everything behind the embedding, whose rows are looked up outside."""

    heads: int
    bits: int  # fraction bits of embedded tokens
    cosine: NDArray[np.int16] | None  # [most tokens, pairs], 14 fraction bits
    sine: NDArray[np.int16] | None
    layers: tuple[Step, ...]
    last: Normalisation
    head: Product


@dataclass(frozen=True, eq=False)
class Text:
    """A window's, to calibrate on."""

    tokens: tuple[int, ...]  # with the opening
    cross: Sequence[tuple[Array, Array]]  # of each layer: keys and values [heads, frames, head width]


def quantise_decoder(
    decoder: FloatDecoder, crosses: Sequence[Cross], texts: Sequence[Text], progress: Progress
) -> QuantisedDecoder:
    """crosses: the encoder's part of the cross-attention. ModelError where a scale does not fit."""
    try:
        return _quantise(decoder, crosses, texts, progress)
    except ValueError as error:
        raise ModelError(f"the decoder cannot be quantised: {error}") from error


def _quantise(
    decoder: FloatDecoder, crosses: Sequence[Cross], texts: Sequence[Text], progress: Progress
) -> QuantisedDecoder:
    rows = [decoder.embedded(text.tokens, 0) for text in texts]
    first = bits = fraction_bits(np.concatenate(rows))
    layers: list[Step] = []
    for at, (layer, cross) in enumerate(zip(decoder.layers, crosses, strict=True)):
        progress(f"Quantising layer {at + 1} of the decoder")
        decoded = [see(decoder, layer, x, text.cross[at]) for x, text in zip(rows, texts, strict=True)]
        values = np.concatenate([fp32.together(text.cross[at][1]) for text in texts])
        layers.append(_layer(decoder, layer, cross, decoded, values, bits))
        bits, rows = layers[-1].down.bits, [each.after for each in decoded]
    states = np.concatenate([fp32.norm(x, decoder.last) for x in rows])
    wanted = Wanted(decoder.head, bits_for(peak(fp32.linear(states, decoder.head))))
    last, (head,) = norm_and_products(decoder.last, states, bits, [wanted])
    turns = angles(decoder.frequencies, decoder.most_tokens)
    return QuantisedDecoder(decoder.heads, first, *turns, tuple(layers), last, head)


def _layer(
    decoder: FloatDecoder,
    layer: DecoderLayer,
    cross: Cross,
    decoded: Sequence[Decoded],
    values: Array,
    bits: int,
) -> Step:
    """values [frames, width]: of the cross-attention; bits: fraction bits of what the layer sees."""

    def all_of(name: str) -> Array:
        return np.concatenate([getattr(each, name) for each in decoded])

    def attended(seen: Array, heads: Heads, output: Matrix, to: str) -> tuple[NDArray[np.int32], Product]:
        units = np.repeat(heads.unit, seen.shape[1] // decoder.heads)
        return rows_and_product(seen, units, output, coarser(bits, [all_of(to)]))

    attention, value, query = layer.attention, all_of("value"), all_of("query")
    factor = to_logarithms(query.shape[1] // decoder.heads)
    turned = [max(peak(each.heads[i]) for each in decoded) for i in (0, 1)]
    largest = [max(turned[0], peak(query)), max(turned[1], peak(all_of("key")))]
    attention_norm, (query8, key8, value8) = norm_and_products(
        layer.attention_norm, all_of("normal"), bits,
        [
            Wanted(attention.query, bits_for(largest[0] * factor), factor),
            Wanted(attention.key, bits_for(largest[1])),
            Wanted(attention.value, bits_for(peak(value))),
        ],
    )  # fmt: skip
    heads = heads_of(value, decoder.heads, query8, key8, value8)
    seen_gain, output = attended(all_of("seen"), heads, attention.output, "between")
    bits = output.bits
    cross_wanted = Wanted(layer.cross.query, bits_for(peak(all_of("cross_query")) * factor), factor)
    cross_norm, (cross_query,) = norm_and_products(
        layer.cross_norm, all_of("normal_between"), bits, [cross_wanted]
    )
    cross_heads = heads_of(values, decoder.heads, cross_query, cross.key, cross.value)
    cross_gain, cross_output = attended(all_of("cross_seen"), cross_heads, layer.cross.output, "crossed")
    bits = cross_output.bits
    hidden, gate = all_of("hidden"), None
    if decoder.gated:
        half, gate_half = halves(layer.up)
        half_bits, gate_bits = bits_for(peak(all_of("up"))), activation_bits(all_of("gate"))
        network_norm, (up, gate8) = norm_and_products(
            layer.network_norm, all_of("normal_crossed"), bits,
            [Wanted(half, half_bits), Wanted(gate_half, gate_bits)],
        )  # fmt: skip
        hidden_bits = min(bits_for(peak(hidden)), half_bits + gate_bits)
        gate = Gate(gate8, curve_of(fp32.silu, gate_bits), half_bits + gate_bits - hidden_bits, hidden_bits)
    else:
        hidden_bits = activation_bits(all_of("up"))
        wanted = [Wanted(layer.up, hidden_bits, gelu=True)]
        network_norm, (up,) = norm_and_products(layer.network_norm, all_of("normal_crossed"), bits, wanted)
    steps = np.full(hidden.shape[1], 2.0**-hidden_bits)
    hidden_gain, down = rows_and_product(hidden, steps, layer.down, coarser(bits, [all_of("after")]))
    return Step(
        attention_norm, query8, key8, value8, heads, seen_gain, output, cross_norm, cross_query, cross_heads,
        cross_gain, cross_output, network_norm, up, gate, hidden_gain, down,
    )  # fmt: skip
