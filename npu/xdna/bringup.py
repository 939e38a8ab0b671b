"""Bringing an NPU up, one step after the other, each of which needs what the steps before it have shown.

A step is a small object; what it stands on is a bench: an opened NPU, and the packages of designs. On hardware the
packages are those of `amanuensis npu build`; emulated they are designs, and nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from npu.xdna.array import Kernels
from npu.xdna.design import Design
from npu.xdna.emulated import emulated as on_emulator
from npu.xdna.emulator import Faults
from npu.xdna.failures import UNWRITTEN, NpuUnavailable, must_equal
from npu.xdna.gemm import Shape, gemm, header
from npu.xdna.packages import built, key_of
from npu.xdna.passthrough import WORDS, passthrough
from npu.xdna.record import Record, versions
from npu.xdna.runtime import Built, Command, Npu
from npu.xdna.single_core import OUT, ordered, product, single_core
from npu.xdna.speech_steps import Candidate, speech_steps

_SHAPE = Shape(256, 128, 256)  # of the canary's product


class Bench:
    """What the steps stand on."""

    def __init__(self, opens: Callable[[], Npu], built: Callable[[Design], Built]) -> None:
        self._opens = opens
        self._built = built
        self._npu: Npu | None = None
        self._packages: dict[str, Built] = {}

    @property
    def npu(self) -> Npu:
        """Opened when it is first needed; NpuUnavailable where it cannot be."""
        if self._npu is None:
            self._npu = self._opens()
        return self._npu

    def package(self, design: Design) -> Built:
        """Of a design; NpuUnavailable where there is none."""
        if design.name not in self._packages:
            self._packages[design.name] = self._built(design)
        return self._packages[design.name]

    @property
    def keys(self) -> dict[str, str]:
        """What tells the packages that were taken from all others, by design."""
        return {name: key_of(package) for name, package in self._packages.items()}

    def run(self, design: Design, inputs: Mapping[str, NDArray[Any]], output: str) -> NDArray[np.uint8]:
        """One dispatch of a design's only sequence -> the bytes of an argument. What is no input is marked before."""
        package, (sequence,) = self.package(design), design.sequences
        buffers = {name: self.npu.buffer(block.bytes) for name, block in sequence.arguments.items()}
        for name, buffer in buffers.items():
            given = inputs.get(name)
            buffer.here[:] = (
                UNWRITTEN if given is None else np.ascontiguousarray(given).view(np.uint8).ravel()
            )
            buffer.to_device()
        self.npu.run(package, [Command(sequence.name, tuple(buffers.values()))])
        buffers[output].to_host()
        return buffers[output].here.copy()

    @property
    def recoveries(self) -> int:
        """Contexts that were made anew after a failure."""
        return 0 if self._npu is None else self._npu.recoveries

    def close(self) -> None:
        """Gives the NPU back."""
        if self._npu is not None:
            self._npu.close()


class Step(Protocol):
    """One thing that is tried."""

    @property
    def name(self) -> str:
        """In a word or two."""

    @property
    def does(self) -> str:
        """What is tried, for whoever watches."""

    @property
    def designs(self) -> tuple[Design, ...]:
        """What must have been built for it."""

    def take(self, bench: Bench) -> str:
        """What was seen; NpuUnavailable where it fails."""


@dataclass(frozen=True)
class OpenDevice:
    """Driver, XRT and the right to use them."""

    name: str = "device"
    does: str = "opens the NPU through XRT"
    designs: tuple[Design, ...] = ()

    def take(self, bench: Bench) -> str:
        """Its name."""
        return bench.npu.name


@dataclass(frozen=True)
class LoadPackage:
    """A context on the hardware, and a package that XRT takes."""

    designs: tuple[Design]
    name: str = "context"
    does: str = "loads a package, makes a hardware context and finds the kernel in it"

    def take(self, bench: Bench) -> str:
        """Which package."""
        (design,) = self.designs
        bench.npu.load(bench.package(design))
        return f"{design.name} is loaded"


@dataclass(frozen=True)
class PassThrough:
    """Data movement alone."""

    designs: tuple[Design]
    name: str = "pass-through"
    does: str = "moves numbers through the shim and memory tile of every column; no core takes part"

    def take(self, bench: Bench) -> str:
        """How much came back."""
        numbers = np.random.default_rng(1).integers(1, 2**31, WORDS.shape, np.int32)
        found = bench.run(self.designs[0], {"x": numbers}, "y").view(np.int32).reshape(WORDS.shape)
        must_equal("what came back", found, numbers)
        return f"{numbers.nbytes // 1024} KiB came back as they were"


@dataclass(frozen=True)
class OneKernel:
    """The code of one core."""

    designs: tuple[Design]
    name: str = "one kernel"
    does: str = "multiplies two tiles of 64 x 64 on one core"

    def take(self, bench: Bench) -> str:
        """That it is exact."""
        a, b = _bytes(2, (64, 64)), _bytes(3, (64, 64))
        laid_a, laid_b = ordered(a, b)
        found = bench.run(self.designs[0], {"a": laid_a, "b": laid_b}, "c").view(np.int32)
        must_equal("the product", found, product(a, b))
        return f"{OUT.count} sums are NumPy's"


@dataclass(frozen=True)
class Canary:
    """The whole array on a product in 8 bits whose answer is known."""

    designs: tuple[Design]
    name: str = "canary"
    does: str = f"multiplies {_SHAPE.m} x {_SHAPE.k} x {_SHAPE.n} in 8 bits on all sixteen cores"

    def take(self, bench: Bench) -> str:
        """That it is exact."""
        a, b = _bytes(4, (_SHAPE.m, _SHAPE.k)), _bytes(5, (_SHAPE.k, _SHAPE.n))
        inputs = {"header": header(_SHAPE), "a": a, "b": b}
        found = bench.run(self.designs[0], inputs, "c").view(np.int32).reshape(_SHAPE.m, _SHAPE.n)
        must_equal("the product", found, a.astype(np.int32) @ b.astype(np.int32))
        return f"{found.size} sums are NumPy's"


def steps_of(stacks: Mapping[str, int], candidate: Candidate) -> tuple[Step, ...]:
    """All of them in order; stacks: what the kernels need, bytes by name; candidate: the model that is to run."""
    passing = passthrough()
    return (
        OpenDevice(),
        LoadPackage((passing,)),
        PassThrough((passing,)),
        OneKernel((single_core(stacks),)),
        Canary((gemm(stacks, (_SHAPE,)),)),
        *speech_steps(candidate, stacks),
    )


def designs_of(steps: Sequence[Step]) -> tuple[Design, ...]:
    """What must be built for them, each once."""
    found = {design.name: design for step in steps for design in step.designs}
    return tuple(found.values())


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    step: str
    seconds: float
    seen: str = ""  # where it passed
    failure: NpuUnavailable | None = None
    recoveries: int = 0  # contexts that were made anew for it


def attempt(step: Step, bench: Bench, clock: Callable[[], float] = perf_counter) -> Outcome:
    """Takes a step."""
    before, start = bench.recoveries, clock()
    try:
        seen = step.take(bench)
    except NpuUnavailable as error:
        return Outcome(step.name, clock() - start, failure=error)
    return Outcome(step.name, clock() - start, seen, recoveries=bench.recoveries - before)


def hardware(cache_dir: Path | None = None) -> Bench:
    """The NPU of this machine, with the packages that were built."""
    return Bench(Npu.open, lambda design: built(design, cache_dir))


def emulated(designs: Sequence[Design], kernels: Kernels, faults: Faults | None = None) -> Bench:
    """The emulator, with designs as packages."""

    @cache
    def opened() -> tuple[Npu, dict[str, Built]]:
        npu, packages = on_emulator(kernels, *designs, faults=faults)
        return npu, {each.name: each for each in packages}

    return Bench(lambda: opened()[0], lambda design: opened()[1][design.name])


def record_of(bench: Bench, candidate: Candidate, outcomes: Sequence[Outcome]) -> Record:
    """What is kept of a walk that passed on hardware."""
    firmware, driver = versions(bench.npu.address)
    return Record(
        datetime.now(UTC).isoformat(timespec="seconds"),
        candidate.name,
        candidate.mode.decoder,
        candidate.mode.precision,
        bench.npu.name,
        firmware,
        driver,
        bench.keys,
        {outcome.step: round(outcome.seconds, 6) for outcome in outcomes},
        bench.recoveries,
    )


def _bytes(seed: int, shape: tuple[int, int]) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, shape, np.int8)
