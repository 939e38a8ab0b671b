"""What this machine can do, what is missing, and the command that fixes it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clients.address import Address
from clients.inquiry import is_there
from clients.microphone import list_microphones
from daemon.config import Config
from daemon.model_section import Model
from daemon.port import bind_error, reachable
from npu.backends.onnx import provider_of
from npu.catalog import resolve
from npu.embedded import (
    DECODER,
    ENCODER,
    SEGMENTATION,
    SILERO,
    TOKENIZER,
    VOICEPRINT,
    Blob,
    default_cache_dir,
    extracted,
    shipped,
)
from npu.store import Installed, Store, folder_of
from npu.xdna.failures import NpuUnavailable, trials
from npu.xdna.overlay import NAME as OVERLAY
from npu.xdna.packages import folder_of_packages, is_current
from npu.xdna.presence import without_npu
from npu.xdna.record import measured, versions
from npu.xdna.runtime import Npu
from streaming.errors import AmanuensisError, CaptureError, ConfigError, ModelError, Unreachable

PACKAGES = (
    "av",
    "fastapi",
    "huggingface_hub",
    "moonshine-voice",
    "numpy",
    "onnxruntime",
    "soxr",
    "transformers",
    "uvicorn",
    "websockets",
)
# Instructions that int8 models gain from, best first, and what they are called in /proc/cpuinfo
CPU_FEATURES = ("amx_int8", "avx512_vnni", "avx_vnni", "avx2", "asimddp", "i8mm")
ACCELERATORS = ("cuda", "openvino", "directml", "vitisai")
LEAST_DISK_MB = 200  # the models' graphs, and a year of text


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    says: str
    remedy: str = ""  # the command or the step that fixes it
    needed: bool = True  # without it the daemon cannot run


def examine(url: str, config_path: Path | None = None) -> Iterator[Finding]:
    """Looks at one thing after the other; never raises."""
    yield _python()
    yield _packages()
    yield _processor()
    config, finding = _config(config_path)
    yield finding
    cache = Path(config.model.cache_dir).expanduser() if config.model.cache_dir else None
    yield from _cache(cache)
    yield _runtime()
    yield npu(cache)
    yield _model()
    yield from _pulled(Store.of(config.model.models_path))
    yield from _default(config.model)
    yield _embedded(
        "Silero VAD", (SILERO,), cache, "Speech detection runs without it, so more noise becomes text."
    )
    yield _embedded(
        "Speaker labels",
        (SEGMENTATION, VOICEPRINT),
        cache,
        "Nobody is told who said what; the text comes as ever.",
    )
    yield _microphones()
    yield _journal(config.journal.resolved())
    yield _disk(config.journal.resolved())
    yield _address(url, config)


def report(findings: Iterator[Finding], console: Console | None = None) -> int:
    """Prints a table -> exit status: 0 if the daemon can run."""
    console = console or Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    able = True
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]missing[/]" if finding.needed else "[yellow]missing[/]"
        table.add_row(mark, finding.name, Text(finding.says))
        if finding.remedy and not finding.ok:
            table.add_row("", "", Text(finding.remedy, style="bold"))
        able = able and (finding.ok or not finding.needed)
    console.print(table)
    console.print(
        "\nThe daemon can run." if able else "\nThe daemon cannot run yet; see what is missing above."
    )
    return 0 if able else 1


def _python() -> Finding:
    version = platform.python_version()
    return Finding(
        "Python",
        sys.version_info >= (3, 11),
        f"{version} on {platform.system()} {platform.machine()}",
        "Install Python 3.11 or later: sudo apt install python3 python3-venv",
    )


def _packages() -> Finding:
    found, missing = [], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    says = f"not installed: {', '.join(missing)}" if missing else ", ".join(found)
    return Finding("Packages", not missing, says, f"pip install {' '.join(missing)}")


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    features = [feature for feature in CPU_FEATURES if feature in _cpu_flags()]
    says = f"{cores} core{'s' if cores > 1 else ''}"
    if features:
        return Finding("Processor", True, f"{says}, {', '.join(features)}", needed=False)
    return Finding("Processor", True, f"{says}; none of the instructions that speed int8 up", needed=False)


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}


def _config(path: Path | None) -> tuple[Config, Finding]:
    try:
        return Config.load(path), Finding("Configuration", True, str(path) if path else "as it should be")
    except AmanuensisError as error:
        return Config(), Finding("Configuration", False, str(error), "Correct it, or leave it out.")


def _cache(cache: Path | None) -> Iterator[Finding]:
    warnings: list[str] = []
    folder = cache or default_cache_dir(warnings.append)
    trouble = warnings[0] if warnings else _cannot_write(folder)
    says = trouble or str(folder)
    yield Finding("Model cache", not trouble, says, f"mkdir -p {folder}; chmod u+w {folder}", needed=False)


def _runtime() -> Finding:
    devices = ["cpu", *filter(_runs_on, ACCELERATORS)]
    return Finding("ONNX Runtime", True, f"{metadata.version('onnxruntime')}, runs on {', '.join(devices)}")


def _runs_on(device: str) -> bool:
    try:
        provider_of(device)
    except ModelError:
        return False
    return True


def npu(cache: Path | None = None, root: Path = Path("/")) -> Finding:
    """The NPU, which the daemon can do without; root: where `dev` and `sys` are."""
    try:
        found = Npu.open()
    except NpuUnavailable as error:
        absent = without_npu(root)
        if absent:
            return Finding("NPU", True, f"no NPU found: {absent}; the CPU does the work", needed=False)
        return Finding("NPU", False, f"{error}. The CPU does the work.", trials(error)[0], needed=False)
    firmware, driver = versions(found.address, root / "sys")
    says = found.name + "".join(
        f", {what} {version}" for what, version in (("firmware", firmware), ("driver", driver)) if version
    )
    if not any(is_current(folder.name, cache) for folder in folder_of_packages(cache).glob(f"{OVERLAY}-*")):
        remedy = "amanuensis npu build"
        return Finding("NPU", False, f"{says}; no encoder is built for it", remedy, needed=False)
    records = measured(cache)
    if not records:
        return Finding("NPU", True, f"{says}; never brought up here: amanuensis npu bringup", needed=False)
    tried = ", ".join(f"{each.model} ({each.mode}) on {each.date[:10]}" for each in records)
    return Finding("NPU", True, f"{says}; brought up: {tried}", needed=False)


def _model() -> Finding:
    try:
        for file in (ENCODER, DECODER, TOKENIZER):
            shipped(file)
    except ModelError as error:
        return Finding("Moonshine tiny", False, str(error), "pip install moonshine-voice==0.0.73")
    return Finding("Moonshine tiny", True, "verified by its hashes")


def _default(section: Model) -> Iterator[Finding]:
    """The model of the configuration, unless it is the embedded one: the daemon starts with no other in its place."""
    try:
        named = resolve(section.name)
        if not named.embedded:
            folder = folder_of(named, section.models_path)
            says = str(folder) if named.folder is not None else f"{named.name}, in {folder}"
            yield Finding("Default model", True, says)
    except ModelError as error:
        yield Finding(
            "Default model", False, str(error), "Correct name in [model] of config.toml, or pull it."
        )


def _pulled(store: Store) -> Iterator[Finding]:
    """Models of the hub, by their sizes; hashes take `amanuensis models verify`."""
    whole = [each.named if isinstance(each, Installed) else each for each in store.installed()]
    for named in dict.fromkeys([*whole, *store.unfinished()]):
        try:
            store.require(named)
        except ModelError as error:
            remedy = f"amanuensis models pull {named.name}"
            yield Finding(named.name, False, str(error), remedy, needed=False)
        else:
            yield Finding(named.name, True, f"pulled into {store.path(named)}")


def _embedded(what: str, blobs: tuple[Blob, ...], cache: Path | None, without: str) -> Finding:
    """Models that the daemon can do without."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            for blob in blobs:
                extracted(blob, cache or Path(folder))
    except ModelError as error:
        remedy = "pip install moonshine-voice==0.0.73"
        return Finding(what, False, f"{error}. {without}", remedy, needed=False)
    return Finding(what, True, "verified by its hash")


def _microphones() -> Finding:
    try:
        microphones = list_microphones()
    except CaptureError as error:
        return Finding("Microphones", False, str(error), "sudo apt install libportaudio2", needed=False)
    if not microphones:
        return Finding(
            "Microphones", False, "PortAudio is there, a microphone is not.", "Plug one in.", needed=False
        )
    return Finding("Microphones", True, ", ".join(microphone.name for microphone in microphones))


def _journal(path: Path) -> Finding:
    trouble = _cannot_write(path.parent)
    if trouble:
        return Finding(
            "Journal", False, trouble, f"sudo install -d -o {os.environ.get('USER', '$USER')} {path.parent}"
        )
    return Finding("Journal", True, str(path))


def _cannot_write(folder: Path) -> str | None:
    """Why nothing can be written there (the folder is made if it is not there); None if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"{folder} cannot be written: {(error.strerror or str(error)).lower()}."


def _disk(path: Path) -> Finding:
    there = next(folder for folder in (path.parent, *path.parents) if folder.exists())
    free = shutil.disk_usage(there).free // 1_000_000  # MB
    size = f"{free / 1000:.1f} GB" if free >= 1000 else f"{free} MB"
    return Finding(
        "Free disk",
        free >= LEAST_DISK_MB,
        f"{size} where the journal is",
        f"Make room on the disk of {there}.",
    )


def _address(url: str, config: Config) -> Finding:
    remedy = "Use another port: amanuensis serve --port 0"
    host, port = config.server.host, config.server.port
    trouble = bind_error(host, port) if port else None
    try:
        for address in (Address.parse(url), Address.parse(f"http://{reachable(host)}:{port}")):
            if address.port and is_there(address):
                return Finding("Daemon", True, f"runs at {address.http}")
    except ConfigError as error:
        return Finding("Daemon", False, str(error), "Correct --url.", needed=False)
    except Unreachable as error:
        return Finding("Daemon", False, str(error), remedy, needed=trouble is not None)
    if trouble:
        return Finding("Daemon", False, f"{host}:{port} cannot be had: {trouble}", remedy)
    return Finding("Daemon", True, f"does not run; {host}:{port} is free for it: amanuensis serve")
