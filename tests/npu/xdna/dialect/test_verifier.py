"""The verifier of MLIR: it takes what is well formed, and names the rule that anything else breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu.xdna.dialect.verifier import verify
from streaming.errors import ModelError

GOLDEN = Path(__file__).parent.parent / "golden"

TILE = '"aie.tile"() <{col = 0 : i32, row = 0 : i32}> : () -> index'
CORE = """\
"aie.core"(%tile_0_2) <{dynamic_objfifo_lowering = true, stack_size = 64 : i32}> ({
      "aie.end"() : () -> ()
    }) : (index) -> index"""
KIND = "memref<16x8xbf16>"
UNUSED = f'%part0.22 = "aie.objectfifo.acquire"() <{{objFifo_name = @part0, port = 1 : i32}}> : () -> {KIND}'
MOVED = (
    '"aie.dma_bd"(%arg_y) <{operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0>, static_len = 2048 : i32, '
    "static_offset = 0 : i32}> : (memref<8x256xbf16>)"
)
BROKEN = {  # the design, what is replaced by what, and what is said of it
    "a tile outside": ("passing", "col = 0 : i32, row = 2", "col = 0 : i32, row = 6", r"none at \(0, 6\)"),
    "a tile twice": ("passing", "    %tile_0_0", f"    %again = {TILE}\n    %tile_0_0", "a tile is there twice"),
    "a core twice": ("passing", '    "aie.runtime', f'    %again = {CORE}\n    "aie.runtime', "a core is there twice"),
    "another device": ("passing", "device = 4", "device = 5", "not npu1"),
    "a name twice": ("passing", 'sym_name = "all"', 'sym_name = "in"', "Redefinition"),
    "an unknown operation": ("passing", '"aie.objectfifo.link"', '"aie.objectfifo.chain"', "not registered"),
    "an unknown property": ("passing", "plio = false", "plio = false, folio = false", "folio"),
    "a fifo without consumers": (
        "passing", '"aie.objectfifo"(%tile_0_2, %tile_0_0)', '"aie.objectfifo"(%tile_0_2)', "operand",
    ),
    "a fifo that begins nowhere": ("passing", '"aie.objectfifo"(%tile_0_2, ', '"aie.objectfifo"(%x, ', "%x"),
    "a buffer at no tile": ("choosing", '"aie.buffer"(%tile_1_3)', '"aie.buffer"(%core_1_2)', "no aie.tile"),
    "a depth too few": ("passing", "elemNumber = [2, 2]", "elemNumber = [2]", "2 ends and the depths"),
    "no depth": ("passing", "elemNumber = [2, 2]", "elemNumber = [2, 0]", "depths"),
    "a fifo of no memory": (
        "passing", "!aie.objectfifo<memref<16xi32>>", "!aie.objectfifo<i32>", "memref",
    ),
    "an order at a shim": (
        "passing", "dimensionsToStream = #aie<bd_dim_layout_array[]>",
        "dimensionsToStream = #aie<bd_dim_layout_array[<size = 16, stride = 1>]>", "orders at a shim",
    ),
    "an order for each consumer": ("passing", "array_array[[]]", "array_array[[], []]", "not one order for each"),
    "an order of other elements": ("passing", "<size = 4, stride = 4>", "<size = 2, stride = 4>", "do not visit 16"),
    "an order beyond the object": ("passing", "<size = 4, stride = 4>", "<size = 4, stride = 8>", "outside the 16"),
    "an order of too many loops": (
        "choosing", "[<size = 4, stride = 32>,", "[<size = 1, stride = 4>, <size = 1, stride = 4>, <size = 4, stride = 32>,",
        "5 loops",
    ),
    "an innermost stride": ("choosing", "<size = 8, stride = 1>", "<size = 8, stride = 2>", "innermost stride"),
    "an innermost loop over half a word": (
        "choosing", "<size = 4, stride = 8>, <size = 8, stride = 1>", "<size = 32, stride = 8>, <size = 1, stride = 1>",
        "no whole words",
    ),
    "a stride of half a word": ("choosing", "<size = 4, stride = 8>", "<size = 4, stride = 7>", "whole number of words"),
    "objects of half a word": ("choosing", "memref<16x8xbf16>", "memref<1xbf16>", "do not tile|begins at|no whole words"),
    "a link to an unknown fifo": ("passing", "[@in]", "[@on]", "no such fifo"),
    "a link to a kernel": ("passing", "[@in]", "[@count]", "no such fifo"),
    "a link of several to several": (
        "passing", "fifoIns = [@in], fifoOuts = [@arrives]", "fifoIns = [@in, @in], fifoOuts = [@arrives, @arrives]",
        "one of its sides",
    ),
    "a link that does not meet": ("passing", "fifoOuts = [@arrives]", "fifoOuts = [@leaves]", "meet"),
    "a link whose parts overlap": ("choosing", "dst_offsets = [0, 128]", "dst_offsets = [0, 64]", "begins at"),
    "a link without offsets": ("choosing", "dst_offsets = [0, 128]", "dst_offsets = []", "other offsets than parts"),
    "a link with offsets for one": ("passing", "dst_offsets = []", "dst_offsets = [0]", "other offsets than parts"),
    "a link of other sizes": ("passing", "<memref<16xi32>>", "<memref<32xi32>>", "have 16 elements in all"),
    "a link of other elements": (
        "choosing", "elemType = !aie.objectfifo<memref<16x8xbf16>>", "elemType = !aie.objectfifo<memref<16x8xi16>>",
        "different types|which holds",
    ),
    "a core on a memory tile": (
        "passing", '    "aie.runtime', f'    %again = {CORE.replace("0_2", "0_1")}\n    "aie.runtime', "no core is at",
    ),
    "a core without a stack": ("passing", "stack_size = 1024", "stack_size = 0", "no stack"),
    "a core that does not end": (
        "passing", '      "aie.end"() : () -> ()\n    }) : (index) -> index', "    }) : (index) -> index", "terminat",
    ),
    "a kernel that is nowhere": ("passing", "callee = @count", "callee = @account", "could not be found"),
    "a kernel that is not linked": ("passing", ' {link_with = "counting.o"}', "", "linked with"),
    "a kernel with other arguments": (
        "passing", "function_type = (memref<16xi32>, memref<16xi32>, i32)", "function_type = (memref<16xi32>, i32, i32)",
        "operand type mismatch",
    ),
    "an acquire of the other port": (
        "passing", "objFifo_name = @arrives, port = 1 : i32}> : () -> memref", "objFifo_name = @arrives, port = 0 : i32}> : () -> memref",
        "port 0 of arrives is not on tile",
    ),
    "an acquire of an unknown fifo": ("passing", "objFifo_name = @arrives", "objFifo_name = @derives", "no such fifo"),
    "an acquire by another core": (
        "choosing", "<{objFifo_name = @part0, port = 1 : i32}>", "<{objFifo_name = @part1, port = 1 : i32}>", "not on tile",
    ),
    "an acquire of other elements": ("choosing", UNUSED, UNUSED.replace(KIND, "memref<8x8xbf16>"), "which holds memref<16x8xbf16>"),
    "an acquire of too many": (
        "choosing", UNUSED, UNUSED.replace(" =", ", %b, %c =", 1).replace(KIND, f"({KIND}, {KIND}, {KIND})"), "acquires 3",
    ),
    "a release of the other port": (
        "passing", "objFifo_name = @leaves, port = 0 : i32, size", "objFifo_name = @leaves, port = 1 : i32, size",
        "port 1 of leaves is not on tile",
    ),
    "a release of too many": ("passing", "size = 1 : i32}>", "size = 3 : i32}>", "releases 3"),
    "a release of none": ("passing", "size = 1 : i32}>", "size = 0 : i32}>", "releases 0"),
    "a word of another type": ("choosing", "-> bf16", "-> i16", "type|bf16"),
    "a buffer on a memory tile": ("choosing", '"aie.buffer"(%tile_1_2)', '"aie.buffer"(%tile_1_1)', "lies on no core"),
    "a buffer with other contents": ("choosing", ": tensor<4xf32>", ": tensor<3xf32>", "is a memref"),
    "a sequence over numbers": ("passing", "^bb0(%arg_x", "^bb0(%n: i32, %arg_x", "is no memory"),
    "a task for an unknown fifo": ("passing", "alloc = @in,", "alloc = @on,", "no such fifo"),
    "a task within the array": ("passing", "alloc = @in,", "alloc = @arrives,", "no end of @arrives is a shim"),
    "a task of half an object": ("passing", "static_len = 256", "static_len = 250", "no whole objects"),
    "a task that goes on too far": ("passing", "static_offset = 160", "static_offset = 176", "of the 256"),
    "a repetition that goes on too far": (
        "passing", "static_strides = array<i64: 64, 0, 0, 1>", "static_strides = array<i64: 100, 0, 0, 1>", "of the 256",
    ),
    "a task before the beginning": ("passing", "static_offset = 64", "static_offset = -4", "offset of -4"),
    "an offset of half a word": ("choosing", "static_offset = 0", "static_offset = 1", "offset of 1"),
    "a length that its loops do not have": ("passing", "static_len = 96", "static_len = 80", "do not visit 80"),
    "a size without a stride": (
        "passing", "static_strides = array<i64: 16, 1>", "static_strides = array<i64: 1>", "2 sizes and 1 strides",
    ),
    "a descriptor of five loops": (
        "passing", "array<i64: 4, 1, 1, 16>, static_strides = array<i64: 64, 0, 0, 1>",
        "array<i64: 4, 1, 1, 1, 16>, static_strides = array<i64: 64, 0, 0, 0, 1>", "5 loops",
    ),
    "a descriptor with something computed": (
        "passing", "array<i32: 1, 0, 0, 0, 0, 0>", "array<i32: 0, 0, 0, 0, 0, 0>", "expected 1 value",
    ),
    "a repetition that its loops do not have": ("passing", "repeat_count = 3", "repeat_count = 2", "outermost loop is over 4"),
    "too many repetitions": ("passing", "repeat_count = 3", "repeat_count = 64", "repeated 64"),
    "a descriptor of another memory": (
        "choosing", MOVED, MOVED.replace("arg_y", "state_1_2").replace("memref<8x256xbf16>", "memref<4xf32>"), "other memory",
    ),
    "a task that is not known": ("passing", '"aiex.dma_start_task"(%task_0)', '"aiex.dma_start_task"(%task_9)', "task_9"),
    "a task started twice": ("passing", '"aiex.dma_start_task"(%task_1)', '"aiex.dma_start_task"(%task_0)', "started twice"),
    "a task awaited twice": ("passing", '"aiex.dma_free_task"(%task_1)', '"aiex.dma_await_task"(%task_2)', "not under way"),
    "a task awaited without a token": (
        "passing", '"aiex.dma_await_task"(%task_2)', '"aiex.dma_await_task"(%task_1)', "issues no token",
    ),
    "a tile awaited": ("passing", '"aiex.dma_await_task"(%task_2)', '"aiex.dma_await_task"(%tile_0_0)', "no task"),
    "something else in a sequence": ("passing", '"aiex.dma_free_task"(%task_1) : (index)', '"aie.end"() : ()', "aie.end"),
    "a device that does not end": (
        "passing", '    "aie.end"() : () -> ()\n  }) : () -> ()\n}', "  }) : () -> ()\n}", "terminat",
    ),
    "no MLIR at all": ("passing", '"builtin.module"', "builtin module", "not registered"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["passing", "choosing"])
def test_a_well_formed_text(name: str) -> None:
    """Is taken."""
    verify((GOLDEN / f"{name}.generic.mlir").read_text())


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_text(name: str) -> None:
    """Is refused for the rule that it breaks."""
    design, there, instead, said = BROKEN[name]
    text = (GOLDEN / f"{design}.generic.mlir").read_text()
    assert there in text
    with pytest.raises(ModelError, match=said):
        verify(text.replace(there, instead, 1))


def test_a_task_of_other_elements() -> None:
    """Is refused: a fifo moves what it holds."""
    text = (GOLDEN / "passing.generic.mlir").read_text()
    with pytest.raises(ModelError, match="moves f32 for @in"):
        verify(text.replace("memref<4x64xi32>", "memref<4x64xf32>"))


def test_more_transfers_than_descriptors() -> None:
    """Are refused: a shim has sixteen."""
    text = (GOLDEN / "passing.generic.mlir").read_text()
    begin, end = text.index("      %task_0"), text.index("      %task_1")
    more = "".join(text[begin:end].replace("task_0", f"more_{at}") for at in range(16))
    with pytest.raises(ModelError, match="17 of 16 descriptors"):
        verify(text[:begin] + more + text[begin:])
