"""Types and attributes of the AIE dialect, and what a descriptor of a DMA can say."""

from __future__ import annotations

from math import prod

from xdsl.dialects.builtin import FixedBitwidthType, MemRefType
from xdsl.ir import Attribute, Data, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from npu.xdna.target import NPU1, Kind

PRODUCE, CONSUME = 0, 1  # of the enumeration ObjectFifoPort

Order = tuple[tuple[int, int], ...]  # (size, stride) of nested loops, the outermost first; none: as it lies
Memory = MemRefType[Attribute]


@irdl_attr_definition
class FifoType(ParametrizedAttribute, TypeAttribute):
    """What a fifo's objects are."""

    name = "aie.objectfifo"
    block: Memory


@irdl_attr_definition
class OrderAttr(Data[Order]):
    """The order in which a DMA visits an object."""

    name = "aie.bd_dim_layout_array"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Order:
        """Loops, as [<size = 4, stride = 8>, ..]."""
        return tuple(parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: _loop(parser)))

    def print_parameter(self, printer: Printer) -> None:
        """As it is read."""
        printer.print_string(_printed(self.data))


@irdl_attr_definition
class OrdersAttr(Data[tuple[Order, ...]]):
    """The orders of several DMAs."""

    name = "aie.bd_dim_layout_array_array"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[Order, ...]:
        """Orders between brackets."""
        square = parser.Delimiter.SQUARE
        return tuple(parser.parse_comma_separated_list(square, lambda: OrderAttr.parse_parameter(parser)))

    def print_parameter(self, printer: Printer) -> None:
        """As it is read."""
        printer.print_string(f"[{', '.join(map(_printed, self.data))}]")


def _loop(parser: AttrParser) -> tuple[int, int]:
    found: list[int] = []
    parser.parse_punctuation("<")
    for name in ("size", "stride"):
        if found:
            parser.parse_punctuation(",")
        parser.parse_keyword(name)
        parser.parse_punctuation("=")
        found.append(parser.parse_integer())
    parser.parse_punctuation(">")
    return found[0], found[1]


def _printed(order: Order) -> str:
    return f"[{', '.join(f'<size = {size}, stride = {stride}>' for size, stride in order)}]"


def require(kept: bool, rule: str) -> None:
    """VerifyException with the rule if it is not kept."""
    if not kept:
        raise VerifyException(rule)


def elements(memory: Memory) -> int:
    """How many."""
    return prod(memory.get_shape())


def element_bytes(memory: Memory) -> int:
    """Of one element."""
    kind = memory.element_type
    if not isinstance(kind, FixedBitwidthType):
        raise VerifyException(f"{memory} has elements of no fixed size")
    return kind.size


def check_order(order: Order, count: int, size: int, kind: Kind) -> None:
    """VerifyException unless a descriptor of such a tile can visit `count` elements of `size` bytes in this order."""
    fields, word = NPU1.limits[kind].fields, NPU1.granularity
    require(count > 0 and count * size % word == 0, f"{count} elements of {size} bytes are no whole words")
    require(
        count * size // word < 1 << fields.length_bits, f"{count} elements are more than one descriptor moves"
    )
    if not order:
        return
    inner, last_stride = order[-1]
    require(
        len(order) <= fields.dimensions,
        f"{len(order)} loops, a tile for {kind.value} has {fields.dimensions}",
    )
    require(min(min(loop) for loop in order) >= 0, f"a size or stride below 0 in {order}")
    require(prod(n for n, _ in order) == count, f"the loops {order} do not visit {count} elements")
    require(last_stride == 1, f"the innermost stride of {order} is not 1")
    require(inner * size % word == 0, f"the innermost loop of {order} is over no whole words")
    for n, stride in order[:-1]:
        require(stride * size % word == 0, f"a stride of {order} is no whole number of words")
        require(n <= 1 << fields.wrap_bits, f"a loop over {n}, the field has {fields.wrap_bits} bits")
        require(
            stride * size // word <= 1 << fields.step_bits, f"a stride of {stride} does not fit its field"
        )


def reach(order: Order, count: int) -> int:
    """The element after the last that is visited, from the first on."""
    return 1 + sum((n - 1) * stride for n, stride in order) if order else count
