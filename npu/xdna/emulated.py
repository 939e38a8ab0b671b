"""The NPU emulated in this process, ready to run designs: for tests, and to try what hardware is not there for."""

from __future__ import annotations

from npu.xdna.array import Kernels
from npu.xdna.design import Design
from npu.xdna.emulator import KERNEL, Emulator, Faults, Package, instructions
from npu.xdna.runtime import Built, Npu


def emulated(
    kernels: Kernels, *designs: Design, faults: Faults | None = None, seed: int = 0
) -> tuple[Npu, list[Built]]:
    """The opened NPU, and each design as if it had been built; seed: of the order in which its parts go on."""
    xrt = Emulator({_path(design): Package(design, lambda: kernels) for design in designs}, faults, seed)
    return Npu(xrt), [
        Built(
            design.name,
            _path(design),
            KERNEL,
            {each.name: instructions(design, each.name) for each in design.sequences},
        )
        for design in designs
    ]


def _path(design: Design) -> str:
    return f"{design.name}.xclbin"
