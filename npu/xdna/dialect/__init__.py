"""A small model of the AIE dialect for xdsl: the operations that `npu.xdna.mlir` writes, each with the rules it has to
keep. xdsl is installed with the extra `test`; nothing that runs needs it.
"""
