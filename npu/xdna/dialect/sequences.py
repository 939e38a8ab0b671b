"""What the host starts: sequences, and the tasks of the shims' DMAs in them."""

from __future__ import annotations

from collections import Counter

from xdsl.dialects.builtin import (
    BoolAttr,
    DenseArrayBase,
    IndexType,
    IntegerAttr,
    MemRefType,
    StringAttr,
    SymbolRefAttr,
    i64,
)
from xdsl.ir import BlockArgument, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import NoTerminator, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from npu.xdna.dialect.cores import EndOp
from npu.xdna.dialect.fifos import TileOp, fifo_named
from npu.xdna.dialect.types import Memory, Order, check_order, element_bytes, elements, reach, require
from npu.xdna.target import NPU1, Kind

_LOOPS = 4  # of a task: the outermost is its repetition


@irdl_op_definition
class DescriptorOp(IRDLOperation):
    """What one descriptor says."""

    name = "aie.dma_bd"
    buffer = operand_def(MemRefType)
    offset = opt_operand_def()
    length = opt_operand_def()
    sizes = var_operand_def()
    strides = var_operand_def()
    bd_id = opt_operand_def()
    static_offset = prop_def(IntegerAttr)
    static_len = prop_def(IntegerAttr)
    static_sizes = opt_prop_def(DenseArrayBase.constr(i64))
    static_strides = opt_prop_def(DenseArrayBase.constr(i64))
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    @property
    def memory(self) -> Memory:
        """What it moves a part of."""
        assert isinstance(self.buffer.type, MemRefType)
        return self.buffer.type

    @property
    def count(self) -> int:
        """Elements of one repetition."""
        return self.static_len.value.data

    def order(self) -> Order:
        """Its loops; VerifyException where sizes and strides do not fit together."""
        sizes = self.static_sizes.get_values() if self.static_sizes else ()
        strides = self.static_strides.get_values() if self.static_strides else ()
        require(len(sizes) == len(strides), f"{len(sizes)} sizes and {len(strides)} strides")
        return tuple((int(size), int(stride)) for size, stride in zip(sizes, strides, strict=True))

    def verify_(self) -> None:
        """Moves whole words of an argument of its sequence, and nothing beyond."""
        task = self.parent_op()
        require(isinstance(task, TaskOp), "a descriptor is in no task")
        sequence = task.parent_op() if task else None
        argument = isinstance(self.buffer, BlockArgument) and self.buffer.block.parent_op() is sequence
        require(argument, "a descriptor moves other memory than an argument of its sequence")
        order, memory, count, start = self.order(), self.memory, self.count, self.static_offset.value.data
        size, word = element_bytes(memory), NPU1.granularity
        require(len(order) <= _LOOPS, f"{len(order)} loops of {_LOOPS}")
        repetition, inner = (order[0], order[1:]) if len(order) == _LOOPS else ((1, 0), order)
        while len(inner) > 1 and inner[0][0] == 1:  # filled up, so that the repetition is the fourth
            inner = inner[1:]
        check_order(() if inner == ((count, 1),) else inner, count, size, Kind.SHIM)
        require(
            start >= 0 and start * size % word == 0,
            f"an offset of {start} elements is no whole number of words",
        )
        require(
            repetition[1] * size % word == 0,
            f"a step of {repetition[1]} elements is no whole number of words",
        )
        end = start + reach(inner, count) + (repetition[0] - 1) * repetition[1]
        require(
            end <= elements(memory), f"it moves element {end - 1} of the {elements(memory)} of its argument"
        )


@irdl_op_definition
class TaskOp(IRDLOperation):
    """What a DMA of a shim will do for a fifo."""

    name = "aiex.dma_configure_task_for"
    alloc = prop_def(SymbolRefAttr)
    issue_token = opt_prop_def(BoolAttr)
    repeat_count = opt_prop_def(IntegerAttr)
    body = region_def("single_block")
    result = result_def(IndexType())

    def shim(self) -> TileOp:
        """Whose DMA it is; VerifyException where the fifo does not end at one."""
        fifo = fifo_named(self, self.alloc)
        for tile in fifo.ends():
            if tile.kind is Kind.SHIM:
                return tile
        raise VerifyException(f"no end of {self.alloc} is a shim")

    @property
    def issues_token(self) -> bool:
        """Whether it tells when it is done."""
        return self.issue_token is not None and bool(self.issue_token.value.data)

    def verify_(self) -> None:
        """Has one descriptor, which moves whole objects of the fifo as often as it is repeated."""
        require(isinstance(self.parent_op(), SequenceOp), "a task is in no sequence")
        self.shim()
        fifo = fifo_named(self, self.alloc)
        descriptor, *rest = self.body.block.ops
        one = isinstance(descriptor, DescriptorOp) and [type(each) for each in rest] == [EndOp]
        require(one, "a task is not one descriptor and aie.end")
        assert isinstance(descriptor, DescriptorOp)
        again = self.repeat_count.value.data if self.repeat_count else 0
        most = NPU1.limits[Kind.SHIM].fields.iterations
        require(0 <= again < most, f"repeated {again} times of {most - 1}")
        order = descriptor.order()
        stepped = order[0][0] if len(order) == _LOOPS else 1
        require(stepped == again + 1, f"repeated {again} times, and its outermost loop is over {stepped}")
        alike = descriptor.memory.element_type == fifo.block.element_type
        require(alike, f"moves {descriptor.memory.element_type} for {self.alloc}, which holds {fifo.block}")
        moved = descriptor.count * (again + 1)
        require(moved % elements(fifo.block) == 0, f"{moved} elements are no whole objects of {self.alloc}")


def task_of(value: SSAValue) -> TaskOp:
    """The task that an operand is."""
    if not isinstance(value.owner, TaskOp):
        raise VerifyException("an operand is no task")
    return value.owner


@irdl_op_definition
class StartOp(IRDLOperation):
    """Queues a task."""

    name = "aiex.dma_start_task"
    task = operand_def(IndexType())


@irdl_op_definition
class AwaitOp(IRDLOperation):
    """Waits until a task is done; its descriptor is free again."""

    name = "aiex.dma_await_task"
    task = operand_def(IndexType())


@irdl_op_definition
class FreeOp(IRDLOperation):
    """Frees the descriptor of a task that is known to be done."""

    name = "aiex.dma_free_task"
    task = operand_def(IndexType())


@irdl_op_definition
class SequenceOp(IRDLOperation):
    """What the host starts with one dispatch."""

    name = "aie.runtime_sequence"
    sym_name = prop_def(StringAttr)
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), NoTerminator())

    def verify_(self) -> None:
        """Starts each task once, waits for those that tell, and has descriptors for what is under way."""
        for argument in self.body.block.args:
            require(
                isinstance(argument.type, MemRefType), f"an argument of {self.sym_name.data} is no memory"
            )
        live: set[TaskOp] = set()
        begun: set[TaskOp] = set()
        used: Counter[TileOp] = Counter()
        limit = NPU1.limits[Kind.SHIM].descriptors
        for step in self.body.block.ops:
            if isinstance(step, StartOp):
                task = task_of(step.task)
                require(task not in begun, "a task is started twice")
                begun.add(task)
                live.add(task)
                used[task.shim()] += 1
                most = used[task.shim()]
                require(most <= limit, f"{most} of {limit} descriptors at {task.shim().place} under way")
            elif isinstance(step, AwaitOp | FreeOp):
                task = task_of(step.task)
                require(task in live, f"{step.name} of a task that is not under way")
                require(
                    isinstance(step, FreeOp) or task.issues_token, "waits for a task that issues no token"
                )
                live.remove(task)
                used[task.shim()] -= 1
            else:
                require(isinstance(step, TaskOp), f"{step.name} in a sequence")
