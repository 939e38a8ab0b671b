"""XRT's Python module, emulated: the calls of `pyxrt` that the runtime makes, on an array of tiles in this process.

It stands where `import pyxrt` would, so what runs on it is the code that runs on hardware. A buffer has two sides, and
only `sync` moves bytes between them; errors have the words of XRT; failures that hardware shows can be asked for. What
it shows is emulated: no time, no arbitration, no routing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.acceleration import Evidence
from npu.xdna.array import Array, Kernels
from npu.xdna.design import Design, Start
from npu.xdna.design import Sequence as HostSequence
from npu.xdna.target import NPU1
from streaming.errors import ModelError

_MAGIC = 0x414D414E  # first word of an emulated instruction stream
_OPCODE = 3  # argument 0 of a kernel: run a stream of control code
FIRST_BUFFER = 3  # arguments before it: opcode, instructions, their size

KERNEL = "MLIR_AIE"  # what mlir-aie calls the kernel of every design


class ert_cmd_state(Enum):  # noqa: N801 (XRT's name)
    """What became of a command."""

    ERT_CMD_STATE_NEW = 1
    ERT_CMD_STATE_COMPLETED = 4
    ERT_CMD_STATE_ERROR = 5
    ERT_CMD_STATE_ABORT = 6
    ERT_CMD_STATE_TIMEOUT = 8


class xclBOSyncDirection(Enum):  # noqa: N801
    """Which side of a buffer is brought up to date."""

    XCL_BO_SYNC_BO_TO_DEVICE = 0
    XCL_BO_SYNC_BO_FROM_DEVICE = 1


class xrt_info_device:  # noqa: N801
    """What can be asked of a device."""

    bdf = "bdf"
    name = "name"


class Fault(Enum):
    """A failure of the catalogue, to be shown on demand."""

    NO_DEVICE = "no device"
    NOT_PERMITTED = "the device file cannot be opened"
    NO_MEMORY = "memory cannot be locked"
    NO_CONTEXT = "no context is left"
    NO_KERNEL = "the package names no kernel"
    TIMEOUT = "a command never ends"
    ABORT = "the firmware gives up a command"
    ZEROS = "every output is zero"
    LOST_CONTEXT = "the context is gone when a command is submitted"


@dataclass(frozen=True)
class Package:
    """What a package file would hold: a design and the code of its cores."""

    design: Design
    kernels: Callable[[], Kernels]


@dataclass
class Faults:
    """Which failures are shown, and how often from here on; None: always."""

    left: dict[Fault, int | None] = field(default_factory=dict)

    def strikes(self, fault: Fault) -> bool:
        """Whether it happens this time."""
        if fault not in self.left:
            return False
        times = self.left[fault]
        if times is None:
            return True
        self.left[fault] = times - 1
        if times <= 1:
            del self.left[fault]
        return times > 0


def instructions(design: Design, sequence: str) -> NDArray[np.uint32]:
    """The instruction stream of a sequence, as the emulator reads it."""
    names = [each.name for each in design.sequences]
    return np.array([_MAGIC, names.index(sequence), 0, 0], np.uint32)


class Emulator:
    """The module `pyxrt`. Its attributes are classes, as there."""

    def __init__(self, packages: Mapping[str, Package], faults: Faults | None = None, seed: int = 0) -> None:
        """packages: by the path that `xclbin` is given."""
        self._packages = packages
        self._faults = faults or Faults()
        self._seed = seed
        self._contexts = 0
        self.ert_cmd_state = ert_cmd_state
        self.xclBOSyncDirection = xclBOSyncDirection
        self.xrt_info_device = xrt_info_device
        self.kernel = Kernel
        self.run = Run
        self.runlist = RunList

    # what pyxrt has at its top level

    def device(self, index: int) -> Device:
        """Opens a device."""
        if index != 0 or self._faults.strikes(Fault.NO_DEVICE):
            raise RuntimeError(f" No such device with index '{index}'")
        if self._faults.strikes(Fault.NOT_PERMITTED):
            raise RuntimeError("Open /dev/accel/accel0 failed: Permission denied")
        return Device()

    def xclbin(self, path: str) -> Xclbin:
        """Reads a package."""
        if path not in self._packages:
            raise RuntimeError(f"Failed to open file '{path}' for reading")
        return Xclbin(self._packages[path], [] if self._faults.strikes(Fault.NO_KERNEL) else [KERNEL])

    def hw_context(self, device: Device, uuid: Package) -> Context:
        """Partitions the array for a package."""
        if self._contexts >= NPU1.contexts or self._faults.strikes(Fault.NO_CONTEXT):
            raise RuntimeError("Failed to create context: No such file or directory")
        if uuid not in device.registered:
            raise RuntimeError("xclbin is not registered with the device")
        self._contexts += 1
        return Context(uuid, self._faults, self._seed, self._closed)

    @property
    def bo(self) -> type[Buffer]:
        """The class of buffers, which fails to allocate where that is asked for."""
        faults = self._faults

        class _Buffer(Buffer):
            def __init__(self, *arguments: Any) -> None:
                if faults.strikes(Fault.NO_MEMORY):
                    raise RuntimeError("mmap(len=4096, prot=3, flags=8193, offset=0) failed (err=11)")
                super().__init__(*arguments)

        return _Buffer

    def _closed(self) -> None:
        self._contexts -= 1


class Device:
    """An opened NPU."""

    def __init__(self) -> None:
        self.registered: list[Package] = []

    def get_info(self, what: str) -> str:
        """A fact as text."""
        return {
            xrt_info_device.name: f"RyzenAI-npu1 ({Evidence.EMULATED})",
            xrt_info_device.bdf: "0000:00:00.0",
        }[what]

    def register_xclbin(self, xclbin: Xclbin) -> Package:
        """Makes a package known -> its id."""
        self.registered.append(xclbin.package)
        return xclbin.package


class Xclbin:
    """A package that was read."""

    def __init__(self, package: Package, kernels: Sequence[str]) -> None:
        self.package = package
        self._kernels = [_KernelInfo(name, package.design) for name in kernels]

    def get_uuid(self) -> Package:
        """Its id."""
        return self.package

    def get_kernels(self) -> list[_KernelInfo]:
        """What it offers."""
        return self._kernels


class _KernelInfo:
    def __init__(self, name: str, design: Design) -> None:
        self._name = name
        self._arguments = max((len(each.arguments) for each in design.sequences), default=0)

    def get_name(self) -> str:
        """As it is called."""
        return self._name

    def get_num_args(self) -> int:
        """Arguments, opcode and instructions included."""
        return FIRST_BUFFER + self._arguments


class Context:
    """A design loaded on the array. It ends when nothing refers to it any more."""

    def __init__(self, package: Package, faults: Faults, seed: int, closed: Callable[[], None]) -> None:
        self.package = package
        self.faults = faults
        self.array = Array(package.design, package.kernels(), NPU1, seed)
        self._closed = closed

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self._closed()


class Kernel:
    """What runs are made of."""

    def __init__(self, context: Context, name: str) -> None:
        if name != KERNEL:
            raise RuntimeError(f"No compute units matching '{name}'")
        self.context = context

    def group_id(self, argument: int) -> int:
        """Where a buffer for an argument is allocated."""
        return argument

    def __call__(self, *arguments: Any) -> Run:
        """Starts a run; an argument of a wrong type is left out without a word, as in XRT."""
        run = Run(self)
        for at, value in enumerate(arguments):
            try:
                run.set_arg(at, value)
            except TypeError:
                continue
        run.start()
        return run


class Buffer:
    """Memory that host and device share: two sides, which `sync` makes equal."""

    cacheable = "cacheable"
    host_only = "host_only"

    host: NDArray[np.uint8]
    device: NDArray[np.uint8]

    def __init__(self, owner: Any, size: int, flags_or_offset: Any = None, group: int = 0) -> None:
        if isinstance(owner, Buffer):  # a part of another
            if not isinstance(flags_or_offset, int) or flags_or_offset + size > owner.host.size:
                raise RuntimeError("sub-buffer is outside its parent")
            span = slice(flags_or_offset, flags_or_offset + size)
            self.host, self.device = owner.host[span], owner.device[span]
            return
        self.host = np.zeros(size, np.uint8)
        self.device = np.random.default_rng(size).integers(0, 256, size, np.uint8)  # whatever lay there

    def size(self) -> int:
        """Bytes."""
        return int(self.host.size)

    def map(self) -> memoryview:
        """The host's side."""
        return self.host.data

    def write(self, data: Any, seek: int) -> None:
        """Bytes into the host's side."""
        given = np.frombuffer(data, np.uint8)
        self.host[seek : seek + given.size] = given

    def read(self, size: int, skip: int) -> NDArray[np.uint8]:
        """Bytes of the host's side."""
        found: NDArray[np.uint8] = self.host[skip : skip + size].copy()
        return found

    def sync(self, direction: xclBOSyncDirection, size: int | None = None, offset: int = 0) -> None:
        """Makes one side like the other, all of it or a part."""
        span = slice(offset, self.host.size if size is None else offset + size)
        if direction is xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE:
            self.device[span] = self.host[span]
        else:
            self.host[span] = self.device[span]


class Run:
    """One dispatch."""

    def __init__(self, kernel: Kernel) -> None:
        self._context = kernel.context
        self._arguments: dict[int, Any] = {}
        self.listed = False
        self._state = ert_cmd_state.ERT_CMD_STATE_NEW

    def set_arg(self, at: int, value: Any) -> None:
        """A buffer or an integer."""
        if not isinstance(value, Buffer | int):
            raise TypeError("set_arg(): incompatible function arguments")
        self._arguments[at] = value

    def start(self) -> None:
        """Submits it."""
        if self.listed:
            raise RuntimeError("run object is part of a runlist and cannot be explicitly started")
        self.execute()

    def wait(self, timeout_ms: int = 0) -> ert_cmd_state:
        """How it ended."""
        return self._state

    def state(self) -> ert_cmd_state:
        """How it stands."""
        return self._state

    def execute(self) -> ert_cmd_state:
        """Does the work; also what a list calls."""
        faults = self._context.faults
        if faults.strikes(Fault.LOST_CONTEXT):
            raise RuntimeError("DRM_IOCTL_AMDXDNA_EXEC_CMD IOCTL failed (err=-2): No such file or directory")
        for fault, state in (
            (Fault.TIMEOUT, ert_cmd_state.ERT_CMD_STATE_TIMEOUT),
            (Fault.ABORT, ert_cmd_state.ERT_CMD_STATE_ABORT),
        ):
            if faults.strikes(fault):
                self._state = state
                return state
        try:
            self._work(faults.strikes(Fault.ZEROS))
            self._state = ert_cmd_state.ERT_CMD_STATE_COMPLETED
        except ModelError:
            self._state = ert_cmd_state.ERT_CMD_STATE_TIMEOUT  # a deadlock: hardware only never answers
        return self._state

    def _work(self, zeros: bool) -> None:
        design = self._context.package.design
        opcode, code, size = (self._arguments.get(at) for at in range(FIRST_BUFFER))
        if opcode != _OPCODE or not isinstance(code, Buffer) or not size:
            raise ModelError("the run has no instructions")
        words = code.device.view(np.uint32)
        if words[0] != _MAGIC:
            raise ModelError("the instructions did not reach the device")
        sequence = design.sequences[int(words[1])]
        buffers = [self._arguments.get(FIRST_BUFFER + at) for at in range(len(sequence.arguments))]
        if len(self._arguments) > FIRST_BUFFER + len(sequence.arguments):
            raise SystemError("more buffers than the package declares: XRT would crash here")
        memory = {}
        for (name, block), buffer in zip(sequence.arguments.items(), buffers, strict=True):
            if not isinstance(buffer, Buffer) or buffer.device.size < block.bytes:
                raise ModelError(f"argument {name} is missing or too small")
            memory[name] = buffer.device[: block.bytes]
        self._context.array.run(sequence.name, memory)
        if zeros:
            _clear_outputs(design, sequence, memory)


def _clear_outputs(design: Design, sequence: HostSequence, memory: Mapping[str, NDArray[np.uint8]]) -> None:
    """Zeros what the array moved to the host."""
    for step in sequence.steps:
        if isinstance(step, Start) and any(tile.row == 0 for tile in design.fifo(step.fifo).consumers):
            rounds = np.arange(step.repeat, dtype=np.int64) * step.step
            elements = memory[step.argument].reshape(-1, sequence.arguments[step.argument].element.bytes)
            elements[(rounds[:, None] + step.pattern.indices()).ravel()] = 0


class RunList:
    """Runs that are submitted together, and done in order."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._runs: list[Run] = []
        self._failed: Run | None = None

    class command_error(RuntimeError):  # noqa: N801
        """A run of the list did not complete."""

    def add(self, run: Run) -> None:
        """At the end."""
        run.listed = True
        self._runs.append(run)

    def execute(self) -> None:
        """Submits them."""
        self._failed = None
        for run in self._runs:
            if run.execute() is not ert_cmd_state.ERT_CMD_STATE_COMPLETED:
                self._failed = run
                return

    def wait(self, timeout: timedelta | None = None) -> None:
        """Returns when all are done; command_error where one failed."""
        if self._failed is not None:
            raise self.command_error(f"runlist failed execution: {self._failed.state().name}")
