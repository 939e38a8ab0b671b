"""ONNX graphs, written node by node and read back: the one module that knows the format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx import helper, numpy_helper

from streaming.errors import ModelError

MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
_OPSETS = (("", 21), (MICROSOFT, 1))
_IR_VERSION = 10
_MOST_BYTES = 2**31 - 2**24  # of all constants: the format is a protobuf message


class GraphBuilder:
    """Collects constants and nodes of one graph; values are known by their names."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._values = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def tensor(self, value: NDArray[Any]) -> str:
        """A constant that travels with the graph; ModelError when they are too large for one."""
        name = self._fresh("c")
        self._bytes += value.nbytes
        if self._bytes > _MOST_BYTES:
            raise ModelError(
                f"the {self._name} is larger than the 2 GB of a graph; choose a smaller precision"
            )
        self._constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def constant(self, values: Any, dtype: DTypeLike = np.float32) -> str:
        """A constant of rank 1 or more."""
        return self.tensor(np.atleast_1d(np.asarray(values, dtype)))

    def scalar(self, value: float, dtype: DTypeLike = np.float32) -> str:
        """A constant of rank 0."""
        return self.tensor(np.array(value, dtype))

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> str:
        """An input of the graph; named dimensions are free."""
        self._inputs.append(helper.make_tensor_value_info(name, _element_type(dtype), list(shape)))
        return name

    def output(self, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> str:
        """Declares a value of this name, written by some node, to be an output."""
        self._outputs.append(helper.make_tensor_value_info(name, _element_type(dtype), list(shape)))
        return name

    def node(self, op: str, *inputs: str, domain: str = "", to: str | None = None, **attributes: Any) -> str:
        """A node with one output, named `to` where that matters."""
        output = to or self._fresh("v")
        self._nodes.append(helper.make_node(op, list(inputs), [output], domain=domain, **attributes))
        return output

    def cast(self, x: str, dtype: DTypeLike) -> str:
        """x as another type. (Its attribute is called `to`, as an argument of `node` is.)"""
        output = self._fresh("v")
        self._nodes.append(helper.make_node("Cast", [x], [output], to=_element_type(dtype)))
        return output

    def nodes(
        self, op: str, *inputs: str, outputs: Sequence[str | None], domain: str = "", **attributes: Any
    ) -> list[str]:
        """A node with several outputs; None invents a name, "" leaves the output away."""
        names = [self._fresh("v") if output is None else output for output in outputs]
        self._nodes.append(helper.make_node(op, list(inputs), names, domain=domain, **attributes))
        return names

    def serialize(self) -> bytes:
        """The graph as the bytes of an .onnx file."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        return bytes(model.SerializeToString())

    def _fresh(self, prefix: str) -> str:
        self._values += 1
        return f"{prefix}{self._values}"


@dataclass(frozen=True)
class Node:
    """A node of a graph that was read."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class SourceGraph:
    """Constants and nodes of a graph that was read, those of its branches included."""

    constants: dict[str, NDArray[Any]]
    nodes: tuple[Node, ...]

    def weight(self, name: str) -> NDArray[np.float32]:
        """A constant by the name of a node's input, also one stored in 8 bits: (values * scale) + offset."""
        if name in self.constants:
            return np.asarray(self.constants[name], np.float32)
        (maker,) = (node for node in self.nodes if name in node.outputs)
        parts = [self.weight(each) for each in maker.inputs]
        match maker.op:
            case "Cast":
                return parts[0]
            case "Mul":
                return parts[0] * parts[1]
            case "Add":
                return parts[0] + parts[1]
        raise ModelError(f"{name} is computed by {maker.op}, not a stored weight")

    @classmethod
    def read(cls, path: Path) -> SourceGraph:
        """Reads an .onnx file; ModelError when it is none."""
        try:
            root = onnx.load(str(path)).graph
        except Exception as error:  # protobuf has errors of its own
            raise ModelError(f"{path} is not an ONNX model; remove it, it is made again") from error
        constants: dict[str, NDArray[Any]] = {}
        nodes: list[Node] = []
        for graph in _branches(root):
            constants |= {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
            nodes += [Node(node.op_type, tuple(node.input), tuple(node.output)) for node in graph.node]
        return cls(constants, tuple(nodes))


def _branches(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and what its conditionals hold."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _branches(attribute.g)


def _element_type(dtype: DTypeLike) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
