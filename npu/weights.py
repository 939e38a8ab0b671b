"""Weights: matrices of 8 bits or dense ones, convolutions, norms, layers, and Moonshine's out of the wheel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.graph import SourceGraph
from streaming.errors import ModelError

Array = NDArray[np.float32]

_UNSIGNED_MIDDLE = 128  # subtracting it turns unsigned 8-bit values into signed ones, exactly


@dataclass(frozen=True, eq=False)
class Linear:
    """y = x @ ((values - zero) * scale) + bias, with the matrix in signed 8 bits."""

    values: NDArray[np.int8]  # [k, n]
    scale: Array  # [] or [n]
    zero: NDArray[np.int8]  # [] or [n]
    bias: Array | None = None  # [n]

    @property
    def shape(self) -> tuple[int, int]:
        """(k, n)."""
        k, n = self.values.shape
        return k, n

    def dense(self) -> Array:
        """The matrix in float32, [k, n]."""
        return (self.values.astype(np.float32) - self.zero.astype(np.float32)) * self.scale

    @classmethod
    def from_unsigned(
        cls, values: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any], bias: Array | None = None
    ) -> Linear:
        """The same numbers out of unsigned storage: signed kernels are more than twice as fast."""
        return cls(_signed(values), np.asarray(scale, np.float32), _signed(zero), bias)


@dataclass(frozen=True, eq=False)
class Dense:
    """y = x @ matrix + bias, computed in float32, however the matrix is stored."""

    matrix: NDArray[np.float32] | NDArray[np.float16]  # [k, n]
    bias: Array | None = None  # [n]

    @property
    def shape(self) -> tuple[int, int]:
        """(k, n)."""
        k, n = self.matrix.shape
        return k, n

    def dense(self) -> Array:
        """The matrix in float32, [k, n]."""
        return np.asarray(self.matrix, np.float32)


Matrix = Linear | Dense


@dataclass(frozen=True, eq=False)
class Norm:
    """What layer normalisation multiplies and adds after it."""

    gain: Array  # [width]
    offset: Array | None = None  # [width]


@dataclass(frozen=True, eq=False)
class Convolution:
    """A one-dimensional convolution in float32."""

    kernel: Array  # [out, in, width]
    bias: Array | None  # [out]
    stride: int


@dataclass(frozen=True, eq=False)
class Attention:
    """The four products of an attention block."""

    query: Matrix
    key: Matrix
    value: Matrix
    output: Matrix


@dataclass(frozen=True, eq=False)
class EncoderLayer:
    """Self-attention and a Gelu network, each behind a norm."""

    attention_norm: Norm
    attention: Attention
    network_norm: Norm
    up: Matrix  # width -> 4 * width
    down: Matrix


@dataclass(frozen=True, eq=False)
class DecoderLayer:
    """Self-attention, cross-attention and a network, each behind a norm."""

    attention_norm: Norm
    attention: Attention
    cross_norm: Norm
    cross: Attention
    network_norm: Norm
    up: Matrix  # width -> 4 * width, twice that where the network is gated: the hidden half, then its gate
    down: Matrix  # 4 * width -> width


@dataclass(frozen=True, eq=False)
class Weights:
    """All of Moonshine. Rotary embedding turns interleaved pairs of the first part of each head."""

    stem: tuple[Convolution, Convolution, Convolution]
    stem_gain: Array  # [width]: group norm after the first convolution, one group over time and channels
    stem_offset: Array  # [width]
    encoder: tuple[EncoderLayer, ...]
    encoder_norm: Norm
    embedding: Linear  # [vocab, width]
    decoder: tuple[DecoderLayer, ...]
    decoder_norm: Norm
    head: Matrix  # [width, vocab]
    frequencies: Array  # [rotated / 2] radians a position


# where matrix, scale, zero point and bias stand among the inputs of the two kinds of 8-bit product
_PLACES = {"MatMulIntegerToFloat": (1, 3, 5, 6), "DynamicQuantizeMatMul": (1, 2, 3, 4)}


class _Shipped:
    """The tensors of a shipped graph, looked up as the graph uses them."""

    def __init__(self, graph: SourceGraph, suffix: str = "") -> None:
        self.constants = graph.constants
        self._suffix = suffix
        self._products = {node.outputs[0]: node for node in graph.nodes if node.op in _PLACES}

    def vector(self, name: str) -> Array:
        return np.asarray(self.constants[name + self._suffix], np.float32)

    def norm(self, name: str) -> Norm:
        return Norm(self.vector(name))

    def linear(self, output: str) -> Linear:
        """The product that writes this value."""
        node = self._products[output]
        names = [node.inputs[i] if i < len(node.inputs) else "" for i in _PLACES[node.op]]
        matrix, scale, zero = (self.constants[name] for name in names[:3])
        return Linear.from_unsigned(matrix, scale, zero, self.constants[names[3]] if names[3] else None)

    def attention(self, prefix: str) -> Attention:
        """The four products of the attention block whose values begin with `prefix`."""
        return Attention(*(self.linear(f"{prefix}/{name}_proj/MatMul_output_0") for name in "qkvo"))


def read_weights(encoder: SourceGraph, decoder: SourceGraph, layers: int = 6) -> Weights:
    """Gathers the weights out of the shipped pair of graphs; ModelError when they are other graphs."""
    try:
        return _gather(_Shipped(encoder), _Shipped(decoder, "_merged_0"), layers)
    except KeyError as error:
        raise ModelError(
            f"the Moonshine graphs have no tensor {error}; they are not those of the pinned wheel"
        ) from error


def _gather(encoder: _Shipped, decoder: _Shipped, layers: int) -> Weights:
    embedding = "model.decoder.embed_tokens.weight_merged_0"
    return Weights(
        stem=(
            Convolution(encoder.vector("conv1.weight_add_tensor"), None, stride=64),
            Convolution(encoder.vector("conv2.weight_add_tensor"), encoder.vector("conv2.bias"), stride=3),
            Convolution(encoder.vector("conv3.weight_add_tensor"), encoder.vector("conv3.bias"), stride=2),
        ),
        stem_gain=encoder.vector("onnx::Mul_2080").ravel(),
        stem_offset=encoder.vector("onnx::Add_2081").ravel(),
        encoder=tuple(_encoder_layer(encoder, i) for i in range(layers)),
        encoder_norm=encoder.norm("layer_norm.weight"),
        embedding=Linear.from_unsigned(
            *(decoder.constants[f"{embedding}_{part}"] for part in ("quantized", "scale", "zero_point"))
        ),
        decoder=tuple(_decoder_layer(decoder, i) for i in range(layers)),
        decoder_norm=decoder.norm("model.decoder.norm.weight"),
        head=decoder.linear("logits"),
        frequencies=encoder.vector("onnx::Expand_202").ravel(),
    )


def _encoder_layer(source: _Shipped, i: int) -> EncoderLayer:
    return EncoderLayer(
        attention_norm=source.norm(f"layers.{i}.input_layernorm.weight"),
        attention=source.attention(f"/layers.{i}/self_attn"),
        network_norm=source.norm(f"layers.{i}.post_attention_layernorm.weight"),
        up=source.linear(f"/layers.{i}/mlp/fc1/Add_output_0"),
        down=source.linear(f"/layers.{i}/mlp/fc2/Add_output_0"),
    )


def _decoder_layer(source: _Shipped, i: int) -> DecoderLayer:
    name, value = f"model.decoder.layers.{i}", f"/model/decoder/layers.{i}"
    return DecoderLayer(
        attention_norm=source.norm(f"{name}.input_layernorm.weight"),
        attention=source.attention(f"{value}/self_attn"),
        cross_norm=source.norm(f"{name}.post_attention_layernorm.weight"),
        cross=source.attention(f"{value}/encoder_attn"),
        network_norm=source.norm(f"{name}.final_layernorm.weight"),
        up=source.linear(f"{value}/mlp/fc1/Add_output_0"),
        down=source.linear(f"{value}/mlp/fc2/Add_output_0"),
    )


def _signed(values: NDArray[Any]) -> NDArray[np.int8]:
    return (np.asarray(values).astype(np.int16) - _UNSIGNED_MIDDLE).astype(np.int8)
