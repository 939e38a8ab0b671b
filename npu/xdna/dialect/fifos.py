"""Tiles, the fifos between them, and what memory tiles pass on."""

from __future__ import annotations

from typing import TypeVar

from xdsl.dialects.builtin import ArrayAttr, BoolAttr, IndexType, IntegerAttr, StringAttr, SymbolRefAttr
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import SymbolOpInterface, SymbolTable
from xdsl.utils.exceptions import VerifyException

from npu.xdna.dialect.types import (
    CONSUME,
    PRODUCE,
    FifoType,
    Memory,
    OrderAttr,
    OrdersAttr,
    check_order,
    element_bytes,
    elements,
    reach,
    require,
)
from npu.xdna.target import NPU1, Kind

_Found = TypeVar("_Found", bound=Operation)


@irdl_op_definition
class TileOp(IRDLOperation):
    """A place in the array."""

    name = "aie.tile"
    col = prop_def(IntegerAttr)
    row = prop_def(IntegerAttr)
    result = result_def(IndexType())

    @property
    def place(self) -> tuple[int, int]:
        """Column and row."""
        return self.col.value.data, self.row.value.data

    @property
    def kind(self) -> Kind:
        """What it is for."""
        return NPU1.kind(self.place[1])

    def verify_(self) -> None:
        """Lies in the array."""
        column, row = self.place
        inside = 0 <= column < NPU1.columns and 0 <= row < NPU1.rows
        require(inside, f"{NPU1.name} has {NPU1.columns} x {NPU1.rows} tiles, none at {self.place}")


def tile_of(value: SSAValue) -> TileOp:
    """The tile that an operand is."""
    if not isinstance(value.owner, TileOp):
        raise VerifyException("an operand is no aie.tile")
    return value.owner


@irdl_op_definition
class FifoOp(IRDLOperation):
    """A bounded queue between tiles."""

    name = "aie.objectfifo"
    producer = operand_def(IndexType())
    consumers = var_operand_def(IndexType())
    sym_name = prop_def(StringAttr)
    elem_number = prop_def(ArrayAttr[IntegerAttr], prop_name="elemNumber")
    elem_type = prop_def(FifoType, prop_name="elemType")
    sent = prop_def(OrderAttr, prop_name="dimensionsToStream")
    received = prop_def(OrdersAttr, prop_name="dimensionsFromStreamPerConsumer")
    disable_synchronization = prop_def(BoolAttr)
    plio = prop_def(BoolAttr)
    via_dma = prop_def(BoolAttr, prop_name="via_DMA")
    traits = traits_def(SymbolOpInterface())

    @property
    def block(self) -> Memory:
        """One object."""
        return self.elem_type.block

    @property
    def depths(self) -> tuple[int, ...]:
        """Of the producer, and of each consumer."""
        return tuple(each.value.data for each in self.elem_number)

    def ends(self) -> tuple[TileOp, ...]:
        """The producer, and each consumer."""
        return tuple(map(tile_of, (self.producer, *self.consumers)))

    def depth_at(self, tile: TileOp, port: int) -> int:
        """How deep it is there; VerifyException where that port is not on this tile."""
        ends = self.ends()
        ports = {PRODUCE: ends[:1], CONSUME: ends[1:]}.get(port, ())
        if tile not in ports:
            raise VerifyException(f"port {port} of {self.sym_name.data} is not on tile {tile.place}")
        return self.depths[ports.index(tile) + (port == CONSUME)]

    def verify_(self) -> None:
        """Has two ends and a depth at each, and orders that descriptors can say."""
        producer, *consumers = self.ends()
        name, block = self.sym_name.data, self.block
        require(bool(consumers), f"nobody consumes {name}")
        require(
            len(self.depths) == 1 + len(consumers) and min(self.depths) > 0,
            f"{name} has {1 + len(consumers)} ends and the depths {self.depths}",
        )
        require(len(self.received.data) == len(consumers), f"{name} has not one order for each consumer")
        sent, received = self._parts()
        ends = [(producer, self.sent.data, sent)]
        ends += [(tile, order, received) for tile, order in zip(consumers, self.received.data, strict=True)]
        for tile, order, parts in ends:
            if tile.kind is Kind.SHIM:
                require(not order, f"{name}: orders at a shim are those of a sequence")
                continue
            count = elements(block) // parts
            check_order(order, count, element_bytes(block), tile.kind)
            require(
                reach(order, count) <= count,
                f"{name}: {order} visits elements outside the {count} of an object",
            )

    def _parts(self) -> tuple[int, int]:
        """How many parts its producer sends of an object, and its consumer receives."""
        sent = received = 1
        for link in siblings(self, LinkOp):
            ins, outs = link.fifos()
            sent = len(ins) if outs == [self] else sent
            received = len(outs) if ins == [self] else received
        return sent, received


@irdl_op_definition
class LinkOp(IRDLOperation):
    """What a memory tile passes on."""

    name = "aie.objectfifo.link"
    fifo_ins = prop_def(ArrayAttr[SymbolRefAttr], prop_name="fifoIns")
    fifo_outs = prop_def(ArrayAttr[SymbolRefAttr], prop_name="fifoOuts")
    src_offsets = prop_def(ArrayAttr[IntegerAttr])
    dst_offsets = prop_def(ArrayAttr[IntegerAttr])

    def fifos(self) -> tuple[list[FifoOp], list[FifoOp]]:
        """In and out; VerifyException where it names something else."""
        return [fifo_named(self, each) for each in self.fifo_ins], [
            fifo_named(self, each) for each in self.fifo_outs
        ]

    def verify_(self) -> None:
        """Its fifos meet in one memory tile, and its parts tile the larger object in their order."""
        ins, outs = self.fifos()
        require(min(len(ins), len(outs)) == 1, "a link has one fifo on one of its sides")
        meeting = {tile for fifo in ins for tile in fifo.ends()[1:]} | {fifo.ends()[0] for fifo in outs}
        meet = len(meeting) == 1 and next(iter(meeting)).kind is Kind.MEMORY
        require(meet, "the fifos of a link do not meet in one memory tile")
        (whole,), parts = (outs, ins) if len(ins) > 1 else (ins, outs)
        said, unsaid = (
            (self.src_offsets, self.dst_offsets) if len(ins) > 1 else (self.dst_offsets, self.src_offsets)
        )
        starts = [each.value.data for each in said]
        require(
            not unsaid and len(starts) == (len(parts) if len(parts) > 1 else 0),
            "a link has other offsets than parts",
        )
        begin = 0
        for at, part in enumerate(parts):
            require(
                not starts or starts[at] == begin,
                f"a part of {whole.sym_name.data} begins at {starts[at:]}, not at {begin}",
            )
            require(
                part.block.element_type == whole.block.element_type, "elements of different types in a link"
            )
            begin += elements(part.block)
        require(
            begin == elements(whole.block), f"the parts of {whole.sym_name.data} have {begin} elements in all"
        )


def fifo_named(operation: Operation, name: SymbolRefAttr) -> FifoOp:
    """VerifyException where there is none."""
    found = SymbolTable.lookup_symbol(operation, name)
    if not isinstance(found, FifoOp):
        raise VerifyException(f"{operation.name} names {name}, and there is no such fifo")
    return found


def siblings(operation: Operation, kind: type[_Found]) -> list[_Found]:
    """The operations of a kind beside it."""
    block = operation.parent_block()
    return [each for each in block.ops if isinstance(each, kind)] if block else []
