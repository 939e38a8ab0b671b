"builtin.module"() <{sym_name = "passing"}> ({
  "aie.device"() <{device = 4 : i32, sym_name = "main"}> ({
    %tile_0_0 = "aie.tile"() <{col = 0 : i32, row = 0 : i32}> : () -> index
    %tile_0_1 = "aie.tile"() <{col = 0 : i32, row = 1 : i32}> : () -> index
    %tile_0_2 = "aie.tile"() <{col = 0 : i32, row = 2 : i32}> : () -> index
    "aie.objectfifo"(%tile_0_0, %tile_0_1) <{dimensionsFromStreamPerConsumer = #aie<bd_dim_layout_array_array[[]]>, dimensionsToStream = #aie<bd_dim_layout_array[]>, disable_synchronization = false, elemNumber = [2, 2], elemType = !aie.objectfifo<memref<16xi32>>, plio = false, sym_name = "in", via_DMA = false}> : (index, index) -> ()
    "aie.objectfifo"(%tile_0_1, %tile_0_2) <{dimensionsFromStreamPerConsumer = #aie<bd_dim_layout_array_array[[]]>, dimensionsToStream = #aie<bd_dim_layout_array[<size = 4, stride = 1>, <size = 4, stride = 4>, <size = 1, stride = 1>]>, disable_synchronization = false, elemNumber = [2, 2], elemType = !aie.objectfifo<memref<16xi32>>, plio = false, sym_name = "arrives", via_DMA = false}> : (index, index) -> ()
    "aie.objectfifo"(%tile_0_2, %tile_0_0) <{dimensionsFromStreamPerConsumer = #aie<bd_dim_layout_array_array[[]]>, dimensionsToStream = #aie<bd_dim_layout_array[]>, disable_synchronization = false, elemNumber = [2, 2], elemType = !aie.objectfifo<memref<16xi32>>, plio = false, sym_name = "leaves", via_DMA = false}> : (index, index) -> ()
    "aie.objectfifo.link"() <{dst_offsets = [], fifoIns = [@in], fifoOuts = [@arrives], src_offsets = []}> : () -> ()
    "func.func"() <{function_type = (memref<16xi32>, memref<16xi32>, i32) -> (), sym_name = "count", sym_visibility = "private"}> ({
    }) {link_with = "counting.o"} : () -> ()
    %core_0_2 = "aie.core"(%tile_0_2) <{dynamic_objfifo_lowering = true, stack_size = 1024 : i32}> ({
      %c9223372036854775807 = "arith.constant"() <{value = 9223372036854775807 : index}> : () -> index
      %c0 = "arith.constant"() <{value = 0 : index}> : () -> index
      %c1 = "arith.constant"() <{value = 1 : index}> : () -> index
      %c7_i32 = "arith.constant"() <{value = 7 : i32}> : () -> i32
      "scf.for"(%c0, %c9223372036854775807, %c1) ({
      ^bb0(%round.1: index):
        %arrives.2 = "aie.objectfifo.acquire"() <{objFifo_name = @arrives, port = 1 : i32}> : () -> memref<16xi32>
        %leaves.3 = "aie.objectfifo.acquire"() <{objFifo_name = @leaves, port = 0 : i32}> : () -> memref<16xi32>
        "func.call"(%arrives.2, %leaves.3, %c7_i32) <{callee = @count}> : (memref<16xi32>, memref<16xi32>, i32) -> ()
        "aie.objectfifo.release"() <{objFifo_name = @arrives, port = 1 : i32, size = 1 : i32}> : () -> ()
        "aie.objectfifo.release"() <{objFifo_name = @leaves, port = 0 : i32, size = 1 : i32}> : () -> ()
        "scf.yield"() : () -> ()
      }) : (index, index, index) -> ()
      "aie.end"() : () -> ()
    }) : (index) -> index
    "aie.runtime_sequence"() <{sym_name = "all"}> ({
    ^bb0(%arg_x: memref<4x64xi32>, %arg_y: memref<4x64xi32>):
      %task_0 = "aiex.dma_configure_task_for"() <{alloc = @in, issue_token = true}> ({
        "aie.dma_bd"(%arg_x) <{operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0>, static_len = 256 : i32, static_offset = 0 : i32}> : (memref<4x64xi32>) -> ()
        "aie.end"() : () -> ()
      }) : () -> index
      "aiex.dma_start_task"(%task_0) : (index) -> ()
      %task_1 = "aiex.dma_configure_task_for"() <{alloc = @leaves, repeat_count = 3 : i32}> ({
        "aie.dma_bd"(%arg_y) <{operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0>, static_len = 16 : i32, static_offset = 0 : i32, static_sizes = array<i64: 4, 1, 1, 16>, static_strides = array<i64: 64, 0, 0, 1>}> : (memref<4x64xi32>) -> ()
        "aie.end"() : () -> ()
      }) : () -> index
      "aiex.dma_start_task"(%task_1) : (index) -> ()
      %task_2 = "aiex.dma_configure_task_for"() <{alloc = @leaves, issue_token = true}> ({
        "aie.dma_bd"(%arg_y) <{operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0>, static_len = 96 : i32, static_offset = 64 : i32, static_sizes = array<i64: 6, 16>, static_strides = array<i64: 16, 1>}> : (memref<4x64xi32>) -> ()
        "aie.end"() : () -> ()
      }) : () -> index
      "aiex.dma_start_task"(%task_2) : (index) -> ()
      %task_3 = "aiex.dma_configure_task_for"() <{alloc = @leaves, issue_token = true}> ({
        "aie.dma_bd"(%arg_y) <{operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0>, static_len = 96 : i32, static_offset = 160 : i32, static_sizes = array<i64: 6, 16>, static_strides = array<i64: 16, 1>}> : (memref<4x64xi32>) -> ()
        "aie.end"() : () -> ()
      }) : () -> index
      "aiex.dma_start_task"(%task_3) : (index) -> ()
      "aiex.dma_await_task"(%task_2) : (index) -> ()
      "aiex.dma_free_task"(%task_1) : (index) -> ()
      "aiex.dma_await_task"(%task_3) : (index) -> ()
      "aiex.dma_await_task"(%task_0) : (index) -> ()
    }) : () -> ()
    "aie.end"() : () -> ()
  }) : () -> ()
}) : () -> ()
