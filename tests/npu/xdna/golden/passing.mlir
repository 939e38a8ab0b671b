module @passing {
  aie.device(npu1) {
    %tile_0_0 = aie.tile(0, 0)
    %tile_0_1 = aie.tile(0, 1)
    %tile_0_2 = aie.tile(0, 2)
    aie.objectfifo @in(%tile_0_0, {%tile_0_1}, [2, 2]) : !aie.objectfifo<memref<16xi32>>
    aie.objectfifo @arrives(%tile_0_1 dimensionsToStream [<size = 4, stride = 1>, <size = 4, stride = 4>, <size = 1, stride = 1>], {%tile_0_2}, [2, 2]) : !aie.objectfifo<memref<16xi32>>
    aie.objectfifo @leaves(%tile_0_2, {%tile_0_0}, [2, 2]) : !aie.objectfifo<memref<16xi32>>
    aie.objectfifo.link [@in] -> [@arrives]([] [])
    func.func private @count(memref<16xi32>, memref<16xi32>, i32) attributes {link_with = "counting.o"}
    %core_0_2 = aie.core(%tile_0_2) {
      %c9223372036854775807 = arith.constant 9223372036854775807 : index
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c7_i32 = arith.constant 7 : i32
      scf.for %round.1 = %c0 to %c9223372036854775807 step %c1 {
        %arrives.2 = aie.objectfifo.acquire @arrives(Consume, 1) : memref<16xi32>
        %leaves.3 = aie.objectfifo.acquire @leaves(Produce, 1) : memref<16xi32>
        func.call @count(%arrives.2, %leaves.3, %c7_i32) : (memref<16xi32>, memref<16xi32>, i32) -> ()
        aie.objectfifo.release @arrives(Consume, 1)
        aie.objectfifo.release @leaves(Produce, 1)
      }
      aie.end
    } {dynamic_objfifo_lowering = true, stack_size = 1024 : i32}
    aie.runtime_sequence @all(%arg_x: memref<4x64xi32>, %arg_y: memref<4x64xi32>) {
      %task_0 = aiex.dma_configure_task_for @in {
        aie.dma_bd(%arg_x : memref<4x64xi32> offset = 0 len = 256)
        aie.end
      } {issue_token = true}
      aiex.dma_start_task(%task_0)
      %task_1 = aiex.dma_configure_task_for @leaves {
        aie.dma_bd(%arg_y : memref<4x64xi32> offset = 0 len = 16 sizes = [4, 1, 1, 16] strides = [64, 0, 0, 1])
        aie.end
      } {repeat_count = 3 : i32}
      aiex.dma_start_task(%task_1)
      %task_2 = aiex.dma_configure_task_for @leaves {
        aie.dma_bd(%arg_y : memref<4x64xi32> offset = 64 len = 96 sizes = [6, 16] strides = [16, 1])
        aie.end
      } {issue_token = true}
      aiex.dma_start_task(%task_2)
      %task_3 = aiex.dma_configure_task_for @leaves {
        aie.dma_bd(%arg_y : memref<4x64xi32> offset = 160 len = 96 sizes = [6, 16] strides = [16, 1])
        aie.end
      } {issue_token = true}
      aiex.dma_start_task(%task_3)
      aiex.dma_await_task(%task_2)
      aiex.dma_free_task(%task_1)
      aiex.dma_await_task(%task_3)
      aiex.dma_await_task(%task_0)
    }
  }
}
