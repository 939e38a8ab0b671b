module @choosing {
  aie.device(npu1) {
    %tile_1_0 = aie.tile(1, 0)
    %tile_1_1 = aie.tile(1, 1)
    %tile_1_2 = aie.tile(1, 2)
    %tile_1_3 = aie.tile(1, 3)
    aie.objectfifo @all(%tile_1_0, {%tile_1_1 dimensionsFromStream [<size = 4, stride = 32>, <size = 4, stride = 8>, <size = 8, stride = 1>]}, [2, 2]) : !aie.objectfifo<memref<32x8xbf16>>
    aie.objectfifo @part0(%tile_1_1, {%tile_1_2}, [2, 2]) : !aie.objectfifo<memref<16x8xbf16>>
    aie.objectfifo @part1(%tile_1_1, {%tile_1_3}, [2, 2]) : !aie.objectfifo<memref<16x8xbf16>>
    aie.objectfifo @result0(%tile_1_2, {%tile_1_1}, [2, 2]) : !aie.objectfifo<memref<16x8xbf16>>
    aie.objectfifo @result1(%tile_1_3, {%tile_1_1}, [2, 2]) : !aie.objectfifo<memref<16x8xbf16>>
    aie.objectfifo @results(%tile_1_1 dimensionsToStream [<size = 2, stride = 4>, <size = 16, stride = 8>, <size = 4, stride = 1>], {%tile_1_0}, [2, 2]) : !aie.objectfifo<memref<32x8xbf16>>
    aie.objectfifo.link [@all] -> [@part0, @part1]([] [0, 128])
    aie.objectfifo.link [@result0, @result1] -> [@results]([0, 128] [])
    func.func private @keep(memref<16x8xbf16>, memref<4xf32>) attributes {link_with = "state.o"}
    func.func private @mix(memref<16x8xbf16>, memref<16x8xbf16>, memref<3xf32>, i32) attributes {link_with = "state.o"}
    %state_1_2 = aie.buffer(%tile_1_2) {sym_name = "state_1_2"} : memref<4xf32> = dense<0.0>
    %table_1_2 = aie.buffer(%tile_1_2) {sym_name = "table_1_2"} : memref<3xf32> = dense<"0x0000803F0000004000004040">
    %core_1_2 = aie.core(%tile_1_2) {
      %c9223372036854775807 = arith.constant 9223372036854775807 : index
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c2 = arith.constant 2 : index
      %c3 = arith.constant 3 : index
      %c16_i32 = arith.constant 16 : i32
      %c2_i32 = arith.constant 2 : i32
      scf.for %round.1 = %c0 to %c9223372036854775807 step %c1 {
        %part0.2 = aie.objectfifo.acquire @part0(Consume, 1) : memref<16x8xbf16>
        %result0.3 = aie.objectfifo.acquire @result0(Produce, 1) : memref<16x8xbf16>
        %v.4 = memref.load %part0.2[%c0, %c2] : memref<16x8xbf16>
        %v.5 = arith.bitcast %v.4 : bf16 to i16
        %v.6 = arith.extui %v.5 : i16 to i32
        %v.7 = memref.load %part0.2[%c0, %c3] : memref<16x8xbf16>
        %v.8 = arith.bitcast %v.7 : bf16 to i16
        %v.9 = arith.extui %v.8 : i16 to i32
        %v.10 = arith.shli %v.9, %c16_i32 : i32
        %v.11 = arith.ori %v.6, %v.10 : i32
        %v.12 = arith.index_cast %v.11 : i32 to index
        scf.for %round.13 = %c0 to %v.12 step %c1 {
          %part0.14, %part0.15 = aie.objectfifo.acquire @part0(Consume, 2) : memref<16x8xbf16>, memref<16x8xbf16>
          func.call @mix(%part0.15, %result0.3, %table_1_2, %c2_i32) : (memref<16x8xbf16>, memref<16x8xbf16>, memref<3xf32>, i32) -> ()
          aie.objectfifo.release @part0(Consume, 1)
        }
        %v.16 = memref.load %state_1_2[%c2] : memref<4xf32>
        %v.17 = arith.bitcast %v.16 : f32 to i32
        %v.18 = arith.index_cast %v.17 : i32 to index
        scf.index_switch %v.18
        case 1 {
          %part0.19 = aie.objectfifo.acquire @part0(Consume, 1) : memref<16x8xbf16>
          func.call @keep(%part0.19, %state_1_2) : (memref<16x8xbf16>, memref<4xf32>) -> ()
          scf.yield
        }
        case -2 {
          %part0.20, %part0.21 = aie.objectfifo.acquire @part0(Consume, 2) : memref<16x8xbf16>, memref<16x8xbf16>
          aie.objectfifo.release @part0(Consume, 2)
          %part0.22 = aie.objectfifo.acquire @part0(Consume, 1) : memref<16x8xbf16>
          scf.yield
        }
        default {
          scf.yield
        }
        %part0.23 = aie.objectfifo.acquire @part0(Consume, 1) : memref<16x8xbf16>
        %v.24 = memref.load %state_1_2[%c0] : memref<4xf32>
        %v.25 = arith.bitcast %v.24 : f32 to i32
        func.call @mix(%part0.23, %result0.3, %table_1_2, %v.25) : (memref<16x8xbf16>, memref<16x8xbf16>, memref<3xf32>, i32) -> ()
        aie.objectfifo.release @part0(Consume, 1)
        aie.objectfifo.release @result0(Produce, 1)
      }
      aie.end
    } {dynamic_objfifo_lowering = true, stack_size = 1024 : i32}
    %state_1_3 = aie.buffer(%tile_1_3) {sym_name = "state_1_3"} : memref<4xf32> = dense<0.0>
    %table_1_3 = aie.buffer(%tile_1_3) {sym_name = "table_1_3"} : memref<3xf32> = dense<"0x0000803F0000004000004040">
    %core_1_3 = aie.core(%tile_1_3) {
      %c9223372036854775807 = arith.constant 9223372036854775807 : index
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c2 = arith.constant 2 : index
      %c3 = arith.constant 3 : index
      %c16_i32 = arith.constant 16 : i32
      %c2_i32 = arith.constant 2 : i32
      scf.for %round.1 = %c0 to %c9223372036854775807 step %c1 {
        %part1.2 = aie.objectfifo.acquire @part1(Consume, 1) : memref<16x8xbf16>
        %result1.3 = aie.objectfifo.acquire @result1(Produce, 1) : memref<16x8xbf16>
        %v.4 = memref.load %part1.2[%c0, %c2] : memref<16x8xbf16>
        %v.5 = arith.bitcast %v.4 : bf16 to i16
        %v.6 = arith.extui %v.5 : i16 to i32
        %v.7 = memref.load %part1.2[%c0, %c3] : memref<16x8xbf16>
        %v.8 = arith.bitcast %v.7 : bf16 to i16
        %v.9 = arith.extui %v.8 : i16 to i32
        %v.10 = arith.shli %v.9, %c16_i32 : i32
        %v.11 = arith.ori %v.6, %v.10 : i32
        %v.12 = arith.index_cast %v.11 : i32 to index
        scf.for %round.13 = %c0 to %v.12 step %c1 {
          %part1.14, %part1.15 = aie.objectfifo.acquire @part1(Consume, 2) : memref<16x8xbf16>, memref<16x8xbf16>
          func.call @mix(%part1.15, %result1.3, %table_1_3, %c2_i32) : (memref<16x8xbf16>, memref<16x8xbf16>, memref<3xf32>, i32) -> ()
          aie.objectfifo.release @part1(Consume, 1)
        }
        %v.16 = memref.load %state_1_3[%c2] : memref<4xf32>
        %v.17 = arith.bitcast %v.16 : f32 to i32
        %v.18 = arith.index_cast %v.17 : i32 to index
        scf.index_switch %v.18
        case 1 {
          %part1.19 = aie.objectfifo.acquire @part1(Consume, 1) : memref<16x8xbf16>
          func.call @keep(%part1.19, %state_1_3) : (memref<16x8xbf16>, memref<4xf32>) -> ()
          scf.yield
        }
        case -2 {
          %part1.20, %part1.21 = aie.objectfifo.acquire @part1(Consume, 2) : memref<16x8xbf16>, memref<16x8xbf16>
          aie.objectfifo.release @part1(Consume, 2)
          %part1.22 = aie.objectfifo.acquire @part1(Consume, 1) : memref<16x8xbf16>
          scf.yield
        }
        default {
          scf.yield
        }
        %part1.23 = aie.objectfifo.acquire @part1(Consume, 1) : memref<16x8xbf16>
        %v.24 = memref.load %state_1_3[%c0] : memref<4xf32>
        %v.25 = arith.bitcast %v.24 : f32 to i32
        func.call @mix(%part1.23, %result1.3, %table_1_3, %v.25) : (memref<16x8xbf16>, memref<16x8xbf16>, memref<3xf32>, i32) -> ()
        aie.objectfifo.release @part1(Consume, 1)
        aie.objectfifo.release @result1(Produce, 1)
      }
      aie.end
    } {dynamic_objfifo_lowering = true, stack_size = 1024 : i32}
    aie.runtime_sequence @some(%arg_x: memref<8x256xbf16>, %arg_y: memref<8x256xbf16>) {
      %task_0 = aiex.dma_configure_task_for @all {
        aie.dma_bd(%arg_x : memref<8x256xbf16> offset = 0 len = 2048 sizes = [8, 32, 8] strides = [8, 64, 1])
        aie.end
      } {issue_token = true}
      aiex.dma_start_task(%task_0)
      %task_1 = aiex.dma_configure_task_for @results {
        aie.dma_bd(%arg_y : memref<8x256xbf16> offset = 0 len = 2048)
        aie.end
      } {issue_token = true}
      aiex.dma_start_task(%task_1)
      aiex.dma_await_task(%task_1)
      aiex.dma_await_task(%task_0)
    }
  }
}
