"""Running designs through XRT's Python module: one code path for hardware and for what stands in for it.

Every state is checked. A command that fails is tried once more on a fresh context; after that the NPU counts as
unavailable, with the reason, and whoever asked does the work on the CPU.
"""

from __future__ import annotations

import gc
import importlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna.failures import NpuUnavailable, explained
from npu.xdna.target import NPU1

logger = logging.getLogger("amanuensis.npu")

Bytes = NDArray[np.uint8]

_OPCODE = 3  # run a stream of control code
_FIRST_BUFFER = 3  # arguments before the buffers: opcode, instructions, their size
_TIMEOUT_MS = 2000
_LISTED = 3  # commands from which on a list pays: XRT's Python module lets no other thread run while it waits for one
_NAMES = ("npu1", "Phoenix")  # what a device of this generation calls itself


@dataclass(frozen=True)
class Built:
    """A design as files: what `amanuensis npu build` makes."""

    name: str
    package: str  # path of the .xclbin
    kernel: str  # its name in there
    instructions: dict[str, NDArray[np.uint32]]  # by sequence


class Shared:
    """A buffer that host and device see; `here` is the host's side."""

    def __init__(self, xrt: Any, bo: Any) -> None:
        self._directions = xrt.xclBOSyncDirection
        self.bo = bo
        self.here: Bytes = np.frombuffer(bo.map(), np.uint8)

    def to_device(self, offset: int = 0, size: int | None = None) -> None:
        """What the host wrote becomes what the device reads; all of it, or so many bytes from an offset on."""
        size = len(self.here) - offset if size is None else size
        self.bo.sync(self._directions.XCL_BO_SYNC_BO_TO_DEVICE, size, offset)

    def to_host(self, offset: int = 0, size: int | None = None) -> None:
        """What the device wrote becomes what the host reads; all of it, or a part."""
        size = len(self.here) - offset if size is None else size
        self.bo.sync(self._directions.XCL_BO_SYNC_BO_FROM_DEVICE, size, offset)


@dataclass(frozen=True)
class Command:
    """A sequence over buffers."""

    sequence: str
    buffers: tuple[Shared, ...]


class Npu:
    """An opened NPU. Commands of several threads wait for each other; contexts are made when they are needed, and kept
    up to the limit.
    """

    def __init__(self, xrt: Any, timeout_ms: int = _TIMEOUT_MS) -> None:
        """NpuUnavailable where there is none, or another generation."""
        self._xrt = xrt
        self._timeout_ms = timeout_ms
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self.recoveries = 0  # contexts that were made anew after a failure
        self.dispatches = 0  # commands that were done
        self._one = threading.Lock()
        try:
            self._device = xrt.device(0)
            self.name = str(self._device.get_info(xrt.xrt_info_device.name))
            self.address = str(self._device.get_info(xrt.xrt_info_device.bdf))  # on the PCI bus
        except Exception as error:  # XRT's exceptions share no narrower base
            raise explained(error) from error
        if not any(name in self.name for name in _NAMES):
            raise NpuUnavailable(f"the kernels are for Phoenix and Hawk Point; this NPU is {self.name!r}")

    @classmethod
    def open(cls) -> Npu:
        """The NPU of this machine; NpuUnavailable says what is missing."""
        try:
            xrt = importlib.import_module("pyxrt")
        except ImportError as error:
            raise explained(error) from error
        return cls(xrt)

    def buffer(self, size: int) -> Shared:
        """Memory that outlives contexts. Allocate once."""
        try:
            return Shared(self._xrt, self._xrt.bo(self._device, size, self._xrt.bo.host_only, _FIRST_BUFFER))
        except Exception as error:
            raise explained(error) from error

    def load(self, built: Built) -> None:
        """Partitions the array for a package and keeps the context for its commands; NpuUnavailable says why not."""
        try:
            with self._one:
                self._context(built)
        except NpuUnavailable:
            raise
        except Exception as error:
            raise explained(error) from error

    def run(self, built: Built, commands: Sequence[Command]) -> None:
        """Has the commands done in order; buffers are synchronised by the caller. NpuUnavailable if it fails twice."""
        with self._one:
            try:
                self._submit(built, commands)
            except NpuUnavailable as error:
                logger.warning("the NPU failed on %s and is tried once more: %s", built.name, error)
                self._drain()
                self.recoveries += 1
                self._submit(built, commands)
            self.dispatches += len(commands)

    def close(self) -> None:
        """Gives its contexts back."""
        with self._one:
            self._drain()

    def _submit(self, built: Built, commands: Sequence[Command]) -> None:
        try:
            loaded = self._context(built)
            if len(commands) >= _LISTED and hasattr(self._xrt, "runlist"):
                for at in range(0, len(commands), NPU1.submitted_runs):
                    self._together(loaded, commands[at : at + NPU1.submitted_runs])
            else:
                for command in commands:
                    run = loaded.run(command)
                    run.start()
                    self._expect_completed(run.wait(self._timeout_ms), command)
        except NpuUnavailable:
            raise
        except Exception as error:
            raise explained(error) from error

    def _together(self, loaded: _Loaded, commands: Sequence[Command]) -> None:
        """As one list: a dispatch costs a fourth."""
        runs = self._xrt.runlist(loaded.context)
        for command in commands:
            runs.add(loaded.run(command))
        runs.execute()
        runs.wait()

    def _expect_completed(self, state: Any, command: Command) -> None:
        states = self._xrt.ert_cmd_state
        if state == states.ERT_CMD_STATE_COMPLETED:
            return
        if state == states.ERT_CMD_STATE_TIMEOUT:
            raise NpuUnavailable(f"{command.sequence} did not end within {self._timeout_ms} ms")
        if state == states.ERT_CMD_STATE_ABORT:
            raise NpuUnavailable(f"{command.sequence} was aborted: the NPU's firmware is too old for it")
        raise NpuUnavailable(f"{command.sequence} ended in state {state}")

    def _context(self, built: Built) -> _Loaded:
        if built.package not in self._loaded:
            if len(self._loaded) >= NPU1.contexts:
                self._drain()  # Phoenix loses the others' commands when one context is replaced
            self._loaded[built.package] = _Loaded(self._xrt, self._device, built)
        return self._loaded[built.package]

    def _drain(self) -> None:
        self._loaded.clear()
        gc.collect()  # contexts end with their last reference


class _Loaded:
    """A package in a context of its own."""

    def __init__(self, xrt: Any, device: Any, built: Built) -> None:
        package = xrt.xclbin(built.package)
        kernels = {each.get_name(): each for each in package.get_kernels()}
        if built.kernel not in kernels:
            raise NpuUnavailable(f"{built.package} names no kernel {built.kernel}: amanuensis npu build")
        self._most_buffers = kernels[built.kernel].get_num_args() - _FIRST_BUFFER
        uuid = device.register_xclbin(package)
        self.context = xrt.hw_context(device, uuid)
        self._xrt = xrt
        self._kernel = xrt.kernel(self.context, built.kernel)
        self._instructions = {
            name: (self._on_device(device, words), words.nbytes) for name, words in built.instructions.items()
        }

    def run(self, command: Command) -> Any:
        """A run of it, not started. Its arguments are set one by one: a call of the kernel would swallow errors."""
        if len(command.buffers) > self._most_buffers:  # XRT would crash
            raise NpuUnavailable(
                f"{command.sequence} has {len(command.buffers)} buffers of {self._most_buffers}"
            )
        code, size = self._instructions[command.sequence]
        run = self._xrt.run(self._kernel)
        for at, value in enumerate((_OPCODE, code, size, *(shared.bo for shared in command.buffers))):
            run.set_arg(at, value)
        return run

    def _on_device(self, device: Any, words: NDArray[np.uint32]) -> Any:
        code = self._xrt.bo(device, words.nbytes, self._xrt.bo.cacheable, self._kernel.group_id(1))
        code.write(words.tobytes(), 0)
        code.sync(self._xrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)
        return code
