"""What the doctor says of machines in several states."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from daemon.doctor import Finding, examine, npu, report
from npu.xdna.emulator import Fault
from npu.xdna.overlay import overlay
from npu.xdna.record import Record, keep

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("CONFIG", "STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _examine(tmp_path: Path, config: str = "", url: str = "http://127.0.0.1:9") -> dict[str, Finding]:
    path = tmp_path / "config.toml"
    path.write_text(config or f"[server]\nport = {_free_port()}\n")
    return {finding.name: finding for finding in examine(url, path)}


def test_this_machine(tmp_path: Path) -> None:
    """Everything that is needed is there, and what is said of it holds something to go by."""
    findings = _examine(tmp_path)
    assert all(finding.ok for finding in findings.values() if finding.needed), findings
    assert "core" in findings["Processor"].says
    assert "cpu" in findings["ONNX Runtime"].says
    assert "verified" in findings["Moonshine tiny"].says and "verified" in findings["Silero VAD"].says
    assert "free for it" in findings["Daemon"].says
    assert all(finding.remedy for finding in findings.values() if not finding.ok)


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    """It is named, with the command that fixes it, and the status says that the daemon cannot run."""
    (tmp_path / "file").write_text("")
    findings = _examine(tmp_path, f'[journal]\npath = "{tmp_path}/file/journal.db"\n')
    assert not findings["Journal"].ok and findings["Journal"].needed
    assert "install -d" in findings["Journal"].remedy
    assert report(iter(findings.values()), Console(file=io.StringIO())) == 1


def test_a_configuration_with_a_mistake(tmp_path: Path) -> None:
    """The key is named; the rest is looked at all the same."""
    findings = _examine(tmp_path, "[server]\nprot = 1\n")
    assert not findings["Configuration"].ok and "prot" in findings["Configuration"].says
    assert "Journal" in findings


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """By a stranger: the daemon cannot run there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        findings = _examine(tmp_path, f"[server]\nport = {port}\n")
    assert not findings["Daemon"].ok and "--port 0" in findings["Daemon"].remedy


def test_a_daemon_that_runs(tmp_path: Path, daemon_process) -> None:
    """It is found at its address."""
    url = daemon_process().url
    assert _examine(tmp_path, url=url)["Daemon"].says == f"runs at {url}"


def test_no_portaudio(tmp_path: Path) -> None:
    """The daemon can run without; the package is named, and the exit status is 0."""
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "COLUMNS": "120"}
    result = subprocess.run(
        [sys.executable, "-m", "daemon", "doctor", "--url", "http://127.0.0.1:9"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "sudo apt install libportaudio2" in result.stdout
    assert result.returncode == (1 if "cannot be had" in result.stdout else 0)


def test_a_wheel_that_differs(tmp_path: Path) -> None:
    """Without the embedded model the daemon cannot run, and the release that has it is named."""
    package = tmp_path / "moonshine_voice"
    package.mkdir()
    (package / "__init__.py").write_text("")
    code = (
        "import sys; from daemon.doctor import examine;"
        "print(*(f.name + '|' + str(f.ok) + '|' + f.remedy for f in examine('http://127.0.0.1:9')), sep='\\n')"
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert "Moonshine tiny|False|pip install moonshine-voice==0.0.73" in result.stdout
    assert "Silero VAD|False|pip install moonshine-voice==0.0.73" in result.stdout


def test_the_table_on_a_narrow_terminal() -> None:
    """Nothing is cut off."""
    console = Console(file=io.StringIO(), width=40)
    finding = Finding("Journal", False, "a long sentence about a folder", "sudo install -d /a/path/to/it")
    assert report(iter([finding]), console) == 1
    shown = "".join(console.file.getvalue().split())
    assert "alongsentenceaboutafolder" in shown and "sudoinstall-d/a/path/to/it" in shown


def test_a_model_that_was_pulled_in_part(tmp_path: Path) -> None:
    """Is named with the command that mends it, and the daemon can do without."""
    (tmp_path / "models" / "whisper-base").mkdir(parents=True)
    findings = _examine(
        tmp_path, f'[server]\nport = {_free_port()}\n[model]\nmodels_dir = "{tmp_path}/models"\n'
    )
    found = findings["whisper-base"]
    assert not found.ok and not found.needed and found.remedy == "amanuensis models pull whisper-base"


def test_a_pull_that_was_interrupted(tmp_path: Path) -> None:
    """Is named beside what is whole; where the configuration names that model, the daemon cannot run."""
    (tmp_path / "models" / ".whisper-base.partial").mkdir(parents=True)
    config = f'[server]\nport = {_free_port()}\n[model]\nmodels_dir = "{tmp_path}/models"\n'
    found = _examine(tmp_path, config)
    assert not found["whisper-base"].ok and "only in part" in found["whisper-base"].says
    assert "Default model" not in found
    default = _examine(tmp_path, f'{config}name = "whisper-base"\n')["Default model"]
    assert not default.ok and default.needed and "amanuensis models pull whisper-base" in default.says


def test_a_folder_as_the_default_model(tmp_path: Path) -> None:
    """Is looked into: one that is whole is named, one that is not there is an obstacle."""
    config = f"[server]\nport = {_free_port()}\n[model]\nname = "
    folder = ROOT / "tests" / "fixtures" / "whisper-small-talk"
    found = _examine(tmp_path, f'{config}"{folder}"\n')["Default model"]
    assert found.ok and str(folder) in found.says
    found = _examine(tmp_path, f'{config}"{tmp_path}/nothing"\n')["Default model"]
    assert not found.ok and found.needed and "no folder" in found.says


def _machine(root: Path, driver: str) -> Path:
    """One with a device file for an accelerator, and the driver that made it."""
    (root / "dev/accel").mkdir(parents=True)
    (root / "dev/accel/accel0").write_text("")
    (root / "drivers" / driver).mkdir(parents=True)
    (root / "sys/class/accel/accel0/device").mkdir(parents=True)
    (root / "sys/class/accel/accel0/device/driver").symlink_to(root / "drivers" / driver)
    return root


def test_no_npu(tmp_path: Path) -> None:
    """Is no mistake: the CPU does the work. Another vendor's is none."""
    finding = npu(tmp_path, tmp_path)
    assert finding.ok and not finding.needed
    assert finding.says == "no NPU found: there is no /dev/accel/accel0; the CPU does the work"
    finding = npu(tmp_path, _machine(tmp_path, "intel_vpu"))
    assert finding.ok and "belongs to intel_vpu" in finding.says


def test_an_npu_that_cannot_be_used(tmp_path: Path) -> None:
    """Comes with what to try first; the daemon can run."""
    finding = npu(tmp_path, _machine(tmp_path, "amdxdna"))
    assert not finding.ok and not finding.needed
    assert "XRT's Python module is not installed" in finding.says
    assert "source /opt/xilinx/xrt/setup.sh" in finding.remedy


def test_an_npu(tmp_path: Path, stand_in: Any) -> None:
    """Is named with its firmware and driver; then comes what is built for it, and whether it was ever brought up."""
    root = _machine(tmp_path, "amdxdna")
    for path, version in (
        ("bus/pci/devices/0000:00:00.0/fw_version", "1.5.5"),
        ("module/amdxdna/version", "2.2"),
    ):
        (root / "sys" / path).parent.mkdir(parents=True)
        (root / "sys" / path).write_text(version)
    finding = npu(tmp_path, root)
    assert finding.says == "RyzenAI-npu1 (emulated), firmware 1.5.5, driver 2.2; no encoder is built for it"
    assert (finding.ok, finding.needed, finding.remedy) == (False, False, "amanuensis npu build")
    stand_in.install(overlay(stand_in.kernels.stacks, ()), tmp_path)
    finding = npu(tmp_path, root)
    assert finding.ok and finding.says.endswith("; never brought up here: amanuensis npu bringup")
    date, packages = "2026-01-02T03:04:05+00:00", {"overlay_bf16": "overlay_bf16-emulated"}
    for model in (("moonshine-tiny", "cpu", "bf16"), ("whisper-base", "npu", "bf16")):
        keep(Record(date, *model, "RyzenAI-npu1", None, None, packages, {}, 0), tmp_path)
    tried = "moonshine-tiny (encoder in bf16) on 2026-01-02, whisper-base (decoder in bf16) on 2026-01-02"
    assert npu(tmp_path, root).says.endswith(f"; brought up: {tried}")
    stand_in.faults.left[Fault.NOT_PERMITTED] = None
    assert "usermod -aG render" in npu(tmp_path, root).remedy
