"builtin.module"() <{sym_name = "choosing"}> ({
  "aie.device"() <{device = 4 : i32, sym_name = "main"}> ({
    %tile_1_0 = "aie.tile"() <{col = 1 : i32, row = 0 : i32}> : () -> index
    %tile_1_1 = "aie.tile"() <{col = 1 : i32, row = 1 : i32}> : () -> index
    %tile_1_2 = "aie.tile"() <{col = 1 : i32, row = 2 : i32}> : () -> index
    %tile_1_3 = "aie.tile"() <{col = 1 : i32, row = 3 : i32}> : () -> index
    "aie.objectfifo"(%tile_1_0, %tile_1_1) <{dimensionsFromStreamPerConsumer = #aie<bd_dim_layout_array_array[[<size = 4, stride = 32>, <size = 4, stride = 8>, <size = 8, stride = 1>]]>, dimensionsToStream = #aie<bd_dim_layout_array[]>, disable_synchronization = false, elemNumber = [2, 2], elemType = !aie.objectfifo<memref<32x8xbf16>>, plio = false, sym_name = "all", via_DMA = false}> : (index, index) -> ()
    "aie.objectfifo"(%tile_1_1, %tile_1_2) <{dimensionsFromStreamPerConsumer = #aie<bd_dim_layout_array_array[[]]>, dimensionsToStream = #aie<bd_dim_layout_array[]>, disable_synchronization = false, elemNumber = [2, 2], elemType = !aie.objectfifo<memref<16x8xbf16>>, plio = false, sym_name = "part0", via_DMA = false}> : (index, index) -> ()
    "aie.objectfifo"(%tile_1_1, %tile_1_3) <{dimensionsFromStreamPerConsumer = #aie<bd_dim_layout_array_array[[]]>, dimensionsToStream = #aie<bd_dim_layout_array[]>, disable_synchronization = false, elemNumber = [2, 2], elemType = !aie.objectfifo<memref<16x8xbf16>>, plio = false, sym_name = "part1", via_DMA = false}> : (index, index) -> ()
    "aie.objectfifo"(%tile_1_2, %tile_1_1) <{dimensionsFromStreamPerConsumer = #aie<bd_dim_layout_array_array[[]]>, dimensionsToStream = #aie<bd_dim_layout_array[]>, disable_synchronization = false, elemNumber = [2, 2], elemType = !aie.objectfifo<memref<16x8xbf16>>, plio = false, sym_name = "result0", via_DMA = false}> : (index, index) -> ()
    "aie.objectfifo"(%tile_1_3, %tile_1_1) <{dimensionsFromStreamPerConsumer = #aie<bd_dim_layout_array_array[[]]>, dimensionsToStream = #aie<bd_dim_layout_array[]>, disable_synchronization = false, elemNumber = [2, 2], elemType = !aie.objectfifo<memref<16x8xbf16>>, plio = false, sym_name = "result1", via_DMA = false}> : (index, index) -> ()
    "aie.objectfifo"(%tile_1_1, %tile_1_0) <{dimensionsFromStreamPerConsumer = #aie<bd_dim_layout_array_array[[]]>, dimensionsToStream = #aie<bd_dim_layout_array[<size = 2, stride = 4>, <size = 16, stride = 8>, <size = 4, stride = 1>]>, disable_synchronization = false, elemNumber = [2, 2], elemType = !aie.objectfifo<memref<32x8xbf16>>, plio = false, sym_name = "results", via_DMA = false}> : (index, index) -> ()
    "aie.objectfifo.link"() <{dst_offsets = [0, 128], fifoIns = [@all], fifoOuts = [@part0, @part1], src_offsets = []}> : () -> ()
    "aie.objectfifo.link"() <{dst_offsets = [], fifoIns = [@result0, @result1], fifoOuts = [@results], src_offsets = [0, 128]}> : () -> ()
    "func.func"() <{function_type = (memref<16x8xbf16>, memref<4xf32>) -> (), sym_name = "keep", sym_visibility = "private"}> ({
    }) {link_with = "state.o"} : () -> ()
    "func.func"() <{function_type = (memref<16x8xbf16>, memref<16x8xbf16>, memref<3xf32>, i32) -> (), sym_name = "mix", sym_visibility = "private"}> ({
    }) {link_with = "state.o"} : () -> ()
    %state_1_2 = "aie.buffer"(%tile_1_2) <{initial_value = dense<0.0> : tensor<4xf32>, sym_name = "state_1_2"}> : (index) -> memref<4xf32>
    %table_1_2 = "aie.buffer"(%tile_1_2) <{initial_value = dense<"0x0000803F0000004000004040"> : tensor<3xf32>, sym_name = "table_1_2"}> : (index) -> memref<3xf32>
    %core_1_2 = "aie.core"(%tile_1_2) <{dynamic_objfifo_lowering = true, stack_size = 1024 : i32}> ({
      %c9223372036854775807 = "arith.constant"() <{value = 9223372036854775807 : index}> : () -> index
      %c0 = "arith.constant"() <{value = 0 : index}> : () -> index
      %c1 = "arith.constant"() <{value = 1 : index}> : () -> index
      %c2 = "arith.constant"() <{value = 2 : index}> : () -> index
      %c3 = "arith.constant"() <{value = 3 : index}> : () -> index
      %c16_i32 = "arith.constant"() <{value = 16 : i32}> : () -> i32
      %c2_i32 = "arith.constant"() <{value = 2 : i32}> : () -> i32
      "scf.for"(%c0, %c9223372036854775807, %c1) ({
      ^bb0(%round.1: index):
        %part0.2 = "aie.objectfifo.acquire"() <{objFifo_name = @part0, port = 1 : i32}> : () -> memref<16x8xbf16>
        %result0.3 = "aie.objectfifo.acquire"() <{objFifo_name = @result0, port = 0 : i32}> : () -> memref<16x8xbf16>
        %v.4 = "memref.load"(%part0.2, %c0, %c2) : (memref<16x8xbf16>, index, index) -> bf16
        %v.5 = "arith.bitcast"(%v.4) : (bf16) -> i16
        %v.6 = "arith.extui"(%v.5) : (i16) -> i32
        %v.7 = "memref.load"(%part0.2, %c0, %c3) : (memref<16x8xbf16>, index, index) -> bf16
        %v.8 = "arith.bitcast"(%v.7) : (bf16) -> i16
        %v.9 = "arith.extui"(%v.8) : (i16) -> i32
        %v.10 = "arith.shli"(%v.9, %c16_i32) : (i32, i32) -> i32
        %v.11 = "arith.ori"(%v.6, %v.10) : (i32, i32) -> i32
        %v.12 = "arith.index_cast"(%v.11) : (i32) -> index
        "scf.for"(%c0, %v.12, %c1) ({
        ^bb0(%round.13: index):
          %part0.14, %part0.15 = "aie.objectfifo.acquire"() <{objFifo_name = @part0, port = 1 : i32}> : () -> (memref<16x8xbf16>, memref<16x8xbf16>)
          "func.call"(%part0.15, %result0.3, %table_1_2, %c2_i32) <{callee = @mix}> : (memref<16x8xbf16>, memref<16x8xbf16>, memref<3xf32>, i32) -> ()
          "aie.objectfifo.release"() <{objFifo_name = @part0, port = 1 : i32, size = 1 : i32}> : () -> ()
          "scf.yield"() : () -> ()
        }) : (index, index, index) -> ()
        %v.16 = "memref.load"(%state_1_2, %c2) : (memref<4xf32>, index) -> f32
        %v.17 = "arith.bitcast"(%v.16) : (f32) -> i32
        %v.18 = "arith.index_cast"(%v.17) : (i32) -> index
        "scf.index_switch"(%v.18) <{cases = array<i64: 1, -2>}> ({
          "scf.yield"() : () -> ()
        }, {
          %part0.19 = "aie.objectfifo.acquire"() <{objFifo_name = @part0, port = 1 : i32}> : () -> memref<16x8xbf16>
          "func.call"(%part0.19, %state_1_2) <{callee = @keep}> : (memref<16x8xbf16>, memref<4xf32>) -> ()
          "scf.yield"() : () -> ()
        }, {
          %part0.20, %part0.21 = "aie.objectfifo.acquire"() <{objFifo_name = @part0, port = 1 : i32}> : () -> (memref<16x8xbf16>, memref<16x8xbf16>)
          "aie.objectfifo.release"() <{objFifo_name = @part0, port = 1 : i32, size = 2 : i32}> : () -> ()
          %part0.22 = "aie.objectfifo.acquire"() <{objFifo_name = @part0, port = 1 : i32}> : () -> memref<16x8xbf16>
          "scf.yield"() : () -> ()
        }) : (index) -> ()
        %part0.23 = "aie.objectfifo.acquire"() <{objFifo_name = @part0, port = 1 : i32}> : () -> memref<16x8xbf16>
        %v.24 = "memref.load"(%state_1_2, %c0) : (memref<4xf32>, index) -> f32
        %v.25 = "arith.bitcast"(%v.24) : (f32) -> i32
        "func.call"(%part0.23, %result0.3, %table_1_2, %v.25) <{callee = @mix}> : (memref<16x8xbf16>, memref<16x8xbf16>, memref<3xf32>, i32) -> ()
        "aie.objectfifo.release"() <{objFifo_name = @part0, port = 1 : i32, size = 1 : i32}> : () -> ()
        "aie.objectfifo.release"() <{objFifo_name = @result0, port = 0 : i32, size = 1 : i32}> : () -> ()
        "scf.yield"() : () -> ()
      }) : (index, index, index) -> ()
      "aie.end"() : () -> ()
    }) : (index) -> index
    %state_1_3 = "aie.buffer"(%tile_1_3) <{initial_value = dense<0.0> : tensor<4xf32>, sym_name = "state_1_3"}> : (index) -> memref<4xf32>
    %table_1_3 = "aie.buffer"(%tile_1_3) <{initial_value = dense<"0x0000803F0000004000004040"> : tensor<3xf32>, sym_name = "table_1_3"}> : (index) -> memref<3xf32>
    %core_1_3 = "aie.core"(%tile_1_3) <{dynamic_objfifo_lowering = true, stack_size = 1024 : i32}> ({
      %c9223372036854775807 = "arith.constant"() <{value = 9223372036854775807 : index}> : () -> index
      %c0 = "arith.constant"() <{value = 0 : index}> : () -> index
      %c1 = "arith.constant"() <{value = 1 : index}> : () -> index
      %c2 = "arith.constant"() <{value = 2 : index}> : () -> index
      %c3 = "arith.constant"() <{value = 3 : index}> : () -> index
      %c16_i32 = "arith.constant"() <{value = 16 : i32}> : () -> i32
      %c2_i32 = "arith.constant"() <{value = 2 : i32}> : () -> i32
      "scf.for"(%c0, %c9223372036854775807, %c1) ({
      ^bb0(%round.1: index):
        %part1.2 = "aie.objectfifo.acquire"() <{objFifo_name = @part1, port = 1 : i32}> : () -> memref<16x8xbf16>
        %result1.3 = "aie.objectfifo.acquire"() <{objFifo_name = @result1, port = 0 : i32}> : () -> memref<16x8xbf16>
        %v.4 = "memref.load"(%part1.2, %c0, %c2) : (memref<16x8xbf16>, index, index) -> bf16
        %v.5 = "arith.bitcast"(%v.4) : (bf16) -> i16
        %v.6 = "arith.extui"(%v.5) : (i16) -> i32
        %v.7 = "memref.load"(%part1.2, %c0, %c3) : (memref<16x8xbf16>, index, index) -> bf16
        %v.8 = "arith.bitcast"(%v.7) : (bf16) -> i16
        %v.9 = "arith.extui"(%v.8) : (i16) -> i32
        %v.10 = "arith.shli"(%v.9, %c16_i32) : (i32, i32) -> i32
        %v.11 = "arith.ori"(%v.6, %v.10) : (i32, i32) -> i32
        %v.12 = "arith.index_cast"(%v.11) : (i32) -> index
        "scf.for"(%c0, %v.12, %c1) ({
        ^bb0(%round.13: index):
          %part1.14, %part1.15 = "aie.objectfifo.acquire"() <{objFifo_name = @part1, port = 1 : i32}> : () -> (memref<16x8xbf16>, memref<16x8xbf16>)
          "func.call"(%part1.15, %result1.3, %table_1_3, %c2_i32) <{callee = @mix}> : (memref<16x8xbf16>, memref<16x8xbf16>, memref<3xf32>, i32) -> ()
          "aie.objectfifo.release"() <{objFifo_name = @part1, port = 1 : i32, size = 1 : i32}> : () -> ()
          "scf.yield"() : () -> ()
        }) : (index, index, index) -> ()
        %v.16 = "memref.load"(%state_1_3, %c2) : (memref<4xf32>, index) -> f32
        %v.17 = "arith.bitcast"(%v.16) : (f32) -> i32
        %v.18 = "arith.index_cast"(%v.17) : (i32) -> index
        "scf.index_switch"(%v.18) <{cases = array<i64: 1, -2>}> ({
          "scf.yield"() : () -> ()
        }, {
          %part1.19 = "aie.objectfifo.acquire"() <{objFifo_name = @part1, port = 1 : i32}> : () -> memref<16x8xbf16>
          "func.call"(%part1.19, %state_1_3) <{callee = @keep}> : (memref<16x8xbf16>, memref<4xf32>) -> ()
          "scf.yield"() : () -> ()
        }, {
          %part1.20, %part1.21 = "aie.objectfifo.acquire"() <{objFifo_name = @part1, port = 1 : i32}> : () -> (memref<16x8xbf16>, memref<16x8xbf16>)
          "aie.objectfifo.release"() <{objFifo_name = @part1, port = 1 : i32, size = 2 : i32}> : () -> ()
          %part1.22 = "aie.objectfifo.acquire"() <{objFifo_name = @part1, port = 1 : i32}> : () -> memref<16x8xbf16>
          "scf.yield"() : () -> ()
        }) : (index) -> ()
        %part1.23 = "aie.objectfifo.acquire"() <{objFifo_name = @part1, port = 1 : i32}> : () -> memref<16x8xbf16>
        %v.24 = "memref.load"(%state_1_3, %c0) : (memref<4xf32>, index) -> f32
        %v.25 = "arith.bitcast"(%v.24) : (f32) -> i32
        "func.call"(%part1.23, %result1.3, %table_1_3, %v.25) <{callee = @mix}> : (memref<16x8xbf16>, memref<16x8xbf16>, memref<3xf32>, i32) -> ()
        "aie.objectfifo.release"() <{objFifo_name = @part1, port = 1 : i32, size = 1 : i32}> : () -> ()
        "aie.objectfifo.release"() <{objFifo_name = @result1, port = 0 : i32, size = 1 : i32}> : () -> ()
        "scf.yield"() : () -> ()
      }) : (index, index, index) -> ()
      "aie.end"() : () -> ()
    }) : (index) -> index
    "aie.runtime_sequence"() <{sym_name = "some"}> ({
    ^bb0(%arg_x: memref<8x256xbf16>, %arg_y: memref<8x256xbf16>):
      %task_0 = "aiex.dma_configure_task_for"() <{alloc = @all, issue_token = true}> ({
        "aie.dma_bd"(%arg_x) <{operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0>, static_len = 2048 : i32, static_offset = 0 : i32, static_sizes = array<i64: 8, 32, 8>, static_strides = array<i64: 8, 64, 1>}> : (memref<8x256xbf16>) -> ()
        "aie.end"() : () -> ()
      }) : () -> index
      "aiex.dma_start_task"(%task_0) : (index) -> ()
      %task_1 = "aiex.dma_configure_task_for"() <{alloc = @results, issue_token = true}> ({
        "aie.dma_bd"(%arg_y) <{operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0>, static_len = 2048 : i32, static_offset = 0 : i32}> : (memref<8x256xbf16>) -> ()
        "aie.end"() : () -> ()
      }) : () -> index
      "aiex.dma_start_task"(%task_1) : (index) -> ()
      "aiex.dma_await_task"(%task_1) : (index) -> ()
      "aiex.dma_await_task"(%task_0) : (index) -> ()
    }) : () -> ()
    "aie.end"() : () -> ()
  }) : () -> ()
}) : () -> ()
