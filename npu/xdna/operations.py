"""Operations of MLIR as a tree, and the generic form of their text: the one that MLIR tools read without knowing how a
dialect likes to be written. The custom form of the same tree is in `assembly`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

INDENT = "  "


@dataclass(frozen=True)
class Value:
    """What an operation computes, or an argument of a region."""

    name: str  # without %; unique where it can be seen
    type: str

    def __str__(self) -> str:
        return f"%{self.name}"


@dataclass(frozen=True)
class Integer:
    """A number with its type."""

    value: int
    type: str = "i32"

    @property
    def plain(self) -> str:
        """Where its type goes without saying."""
        return str(self.value)

    def __str__(self) -> str:
        return f"{self.value} : {self.type}"


@dataclass(frozen=True)
class Integers:
    """Numbers of one type."""

    values: tuple[int, ...]
    type: str = "i64"

    @property
    def plain(self) -> str:
        """Where their type goes without saying."""
        return f"[{', '.join(map(str, self.values))}]"

    def __str__(self) -> str:
        return f"array<{self.type}: {', '.join(map(str, self.values))}>"


@dataclass(frozen=True)
class Symbol:
    """The name of another operation."""

    name: str

    def __str__(self) -> str:
        return f"@{self.name}"


@dataclass(frozen=True)
class Type:
    """A type as an attribute."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Dense:
    """The contents of memory: one number for all elements, or raw bytes in their order."""

    contents: str  # "0", or "0x.." in quotation marks
    type: str  # a tensor

    @property
    def plain(self) -> str:
        """Where their type goes without saying."""
        return f"dense<{self.contents}>"

    def __str__(self) -> str:
        return f"{self.plain} : {self.type}"


@dataclass(frozen=True)
class Loops:
    """The order in which a DMA visits an object: (size, stride) of nested loops, the outermost first."""

    loops: tuple[tuple[int, int], ...] = ()

    @property
    def plain(self) -> str:
        """Where it goes without saying that they are loops."""
        return f"[{', '.join(f'<size = {size}, stride = {stride}>' for size, stride in self.loops)}]"

    def __str__(self) -> str:
        return f"#aie<bd_dim_layout_array{self.plain}>"


@dataclass(frozen=True)
class LoopsOfEach:
    """The orders of several DMAs."""

    orders: tuple[Loops, ...]

    def __str__(self) -> str:
        return f"#aie<bd_dim_layout_array_array[{', '.join(order.plain for order in self.orders)}]>"


Attribute = (
    Integer
    | Integers
    | Symbol
    | Type
    | Dense
    | Loops
    | LoopsOfEach
    | str
    | bool
    | tuple[int, ...]
    | tuple[Symbol, ...]
)
Attributes = Mapping[str, Attribute]
_NONE: Attributes = MappingProxyType({})


@dataclass(frozen=True)
class Region:
    """A block of operations within another operation."""

    operations: tuple[Operation, ...] = ()
    arguments: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One operation with all that is in it."""

    name: str  # with its dialect
    operands: tuple[Value, ...] = ()
    results: tuple[Value, ...] = ()
    properties: Attributes = field(default_factory=lambda: _NONE)  # which its dialect defines
    regions: tuple[Region, ...] = ()
    attributes: Attributes = field(default_factory=lambda: _NONE)  # which somebody else looks for


Form = Callable[[Operation, int], Iterator[str]]  # an operation and how deep it lies -> lines


def quoted(text: str) -> str:
    """As a string of MLIR."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def written(attribute: Attribute) -> str:
    """An attribute as both forms write it."""
    if isinstance(attribute, bool):
        return "true" if attribute else "false"
    if isinstance(attribute, str):
        return quoted(attribute)
    if isinstance(attribute, tuple):
        return f"[{', '.join(map(str, attribute))}]"
    return str(attribute)


def plain(attribute: Attribute) -> str:
    """An attribute where its kind goes without saying."""
    if isinstance(attribute, Integer | Integers | Dense | Loops):
        return attribute.plain
    return written(attribute)


def dictionary(attributes: Attributes) -> str:
    """Names and attributes by the alphabet, without the braces."""
    return ", ".join(f"{name} = {written(attributes[name])}" for name in sorted(attributes))


def types(values: tuple[Value, ...]) -> str:
    """What a function of these values takes, or gives."""
    return f"({', '.join(value.type for value in values)})"


def assigned(results: tuple[Value, ...]) -> str:
    """What stands before an operation that has results."""
    return f"{', '.join(map(str, results))} = " if results else ""


def generic_form(operation: Operation, depth: int = 0, within: Form | None = None) -> Iterator[str]:
    """The lines of its generic form; within: the form of what is in it, generic too if not said."""
    indent = INDENT * depth
    head = f"{indent}{assigned(operation.results)}{quoted(operation.name)}"
    head += f"({', '.join(map(str, operation.operands))})"
    if operation.properties:
        head += f" <{{{dictionary(operation.properties)}}}>"
    tail = f" {{{dictionary(operation.attributes)}}}" if operation.attributes else ""
    gives = operation.results[0].type if len(operation.results) == 1 else types(operation.results)
    tail += f" : {types(operation.operands)} -> {gives}"
    if not operation.regions:
        yield head + tail
        return
    yield f"{head} ({{"
    for at, region in enumerate(operation.regions):
        if at:
            yield f"{indent}}}, {{"
        if region.arguments:
            arguments = ", ".join(f"{value}: {value.type}" for value in region.arguments)
            yield f"{indent}^bb0({arguments}):"
        for inner in region.operations:
            yield from (within or generic_form)(inner, depth + 1)
    yield f"{indent}}}){tail}"
