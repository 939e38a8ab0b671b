"""Whether the generic form of a design is one: parsed and verified by xdsl with our model of the dialect.

What passes here was not read by mlir-aie: names, types, places, ports and descriptors agree with each other and with
what its release documents.
"""

from __future__ import annotations

from collections import Counter

from xdsl.context import Context
from xdsl.dialects import arith, builtin, func, memref, scf
from xdsl.dialects.builtin import IntegerAttr, StringAttr
from xdsl.ir import Dialect
from xdsl.irdl import IRDLOperation, irdl_op_definition, prop_def, region_def, traits_def
from xdsl.parser import Parser
from xdsl.traits import SymbolTable
from xdsl.utils.exceptions import DiagnosticException, ParseError, VerifyException

from npu.xdna.dialect.cores import AcquireOp, BufferOp, CoreOp, EndOp, ReleaseOp
from npu.xdna.dialect.fifos import FifoOp, LinkOp, TileOp, tile_of
from npu.xdna.dialect.sequences import AwaitOp, DescriptorOp, FreeOp, SequenceOp, StartOp, TaskOp
from npu.xdna.dialect.types import FifoType, OrderAttr, OrdersAttr, require
from streaming.errors import ModelError

_NPU1 = 4  # of the enumeration AIEDevice


@irdl_op_definition
class DeviceOp(IRDLOperation):
    """A whole design."""

    name = "aie.device"
    device = prop_def(IntegerAttr)
    sym_name = prop_def(StringAttr)
    body = region_def("single_block")
    traits = traits_def(SymbolTable())

    def verify_(self) -> None:
        """Is for our device, with each tile once and a core on each at most once."""
        require(self.device.value.data == _NPU1, f"the device {self.device.value.data} is not npu1")
        operations = tuple(self.body.block.ops)
        require(isinstance(operations[-1], EndOp), "a device does not end with aie.end")
        places = Counter(each.place for each in operations if isinstance(each, TileOp))
        cores = Counter(tile_of(each.tile).place for each in operations if isinstance(each, CoreOp))
        for what, found in (("tile", places), ("core", cores)):
            require(max(found.values(), default=0) <= 1, f"a {what} is there twice")


_AIE = Dialect(
    "aie",
    [
        AcquireOp, BufferOp, CoreOp, DescriptorOp, DeviceOp, EndOp, FifoOp, LinkOp, ReleaseOp, SequenceOp, TileOp,
    ],
    [FifoType, OrderAttr, OrdersAttr],
)  # fmt: skip
_AIEX = Dialect("aiex", [AwaitOp, FreeOp, StartOp, TaskOp])
_DIALECTS = (builtin.Builtin, arith.Arith, func.Func, memref.MemRef, scf.Scf, _AIE, _AIEX)


def verify(text: str) -> None:
    """ModelError with the rule that a generic text breaks."""
    context = Context()
    for dialect in _DIALECTS:
        context.load_dialect(dialect)
    try:
        Parser(context, text).parse_module().verify()
    except (ParseError, VerifyException, DiagnosticException) as error:
        said = [line.strip(" ^|") for line in str(error).splitlines()]
        raise ModelError(
            f"the MLIR is not well formed: {next(line for line in reversed(said) if line)}"
        ) from error
