"""Cores, their memory, and what their programs take and give back."""

from __future__ import annotations

from xdsl.dialects.builtin import (
    BoolAttr,
    DenseIntOrFPElementsAttr,
    IndexType,
    IntegerAttr,
    MemRefType,
    StringAttr,
    SymbolRefAttr,
    TensorType,
)
from xdsl.dialects.func import CallOp, FuncOp
from xdsl.ir import Operation
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_result_def,
)
from xdsl.traits import IsTerminator, SymbolTable
from xdsl.utils.exceptions import VerifyException

from npu.xdna.dialect.fifos import fifo_named, tile_of
from npu.xdna.dialect.types import require
from npu.xdna.target import Kind


@irdl_op_definition
class EndOp(IRDLOperation):
    """The end of a region."""

    name = "aie.end"
    traits = traits_def(IsTerminator())


@irdl_op_definition
class BufferOp(IRDLOperation):
    """Memory of a core, with what is in it at the start."""

    name = "aie.buffer"
    tile = operand_def(IndexType())
    sym_name = prop_def(StringAttr)
    initial_value = prop_def(DenseIntOrFPElementsAttr)
    buffer = result_def(MemRefType)

    def verify_(self) -> None:
        """Lies on a core, and its contents fill it."""
        require(tile_of(self.tile).kind is Kind.CORE, f"the buffer {self.sym_name.data} lies on no core")
        filled, kind = self.initial_value.type, self.buffer.type
        assert isinstance(kind, MemRefType)
        alike = isinstance(filled, TensorType) and (filled.get_shape(), filled.element_type) == (
            kind.get_shape(),
            kind.element_type,
        )
        require(alike, f"the buffer {self.sym_name.data} is a {kind} and holds a {filled}")


@irdl_op_definition
class CoreOp(IRDLOperation):
    """A core and its program."""

    name = "aie.core"
    tile = operand_def(IndexType())
    stack_size = prop_def(IntegerAttr)
    dynamic_objfifo_lowering = prop_def(BoolAttr)
    body = region_def("single_block")
    result = result_def(IndexType())

    def verify_(self) -> None:
        """Is where cores are, has a stack, and calls only what will be linked."""
        tile = tile_of(self.tile)
        require(tile.kind is Kind.CORE, f"no core is at {tile.place}")
        require(self.stack_size.value.data > 0, "a core has no stack")
        require(isinstance(self.body.block.last_op, EndOp), "the program of a core does not end with aie.end")
        for operation in self.walk():
            if isinstance(operation, CallOp):
                function = SymbolTable.lookup_symbol(operation, operation.callee)
                linked = isinstance(function, FuncOp) and isinstance(
                    function.attributes.get("link_with"), StringAttr
                )
                require(linked, f"{operation.callee} is called, and nothing says what it is linked with")


def core_of(operation: Operation) -> CoreOp:
    """The core whose program it is in."""
    outer = operation.parent_op()
    while outer is not None and not isinstance(outer, CoreOp):
        outer = outer.parent_op()
    if outer is None:
        raise VerifyException(f"{operation.name} is in no core")
    return outer


@irdl_op_definition
class AcquireOp(IRDLOperation):
    """Waits until the core holds so many objects of a fifo, and gives them, the oldest first."""

    name = "aie.objectfifo.acquire"
    fifo_name = prop_def(SymbolRefAttr, prop_name="objFifo_name")
    port = prop_def(IntegerAttr)
    objects = var_result_def(MemRefType)

    def verify_(self) -> None:
        """Is at an end of the fifo, for no more than it holds, and for what it holds."""
        fifo = fifo_named(self, self.fifo_name)
        depth = fifo.depth_at(tile_of(core_of(self).tile), self.port.value.data)
        name = fifo.sym_name.data
        require(
            1 <= len(self.objects) <= depth, f"acquires {len(self.objects)} of {name}, which is {depth} deep"
        )
        for each in self.objects:
            require(each.type == fifo.block, f"acquires {each.type} of {name}, which holds {fifo.block}")


@irdl_op_definition
class ReleaseOp(IRDLOperation):
    """Gives the oldest objects on."""

    name = "aie.objectfifo.release"
    fifo_name = prop_def(SymbolRefAttr, prop_name="objFifo_name")
    port = prop_def(IntegerAttr)
    size = prop_def(IntegerAttr)

    def verify_(self) -> None:
        """Is at an end of the fifo, for no more than it holds."""
        fifo = fifo_named(self, self.fifo_name)
        depth = fifo.depth_at(tile_of(core_of(self).tile), self.port.value.data)
        size = self.size.value.data
        require(1 <= size <= depth, f"releases {size} of {fifo.sym_name.data}, which is {depth} deep")
