"""Nothing is reported to anyone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LOAD = """
from npu.backends.onnx import load_session
from npu.embedded import ENCODER, shipped
load_session(shipped(ENCODER))
"""


def test_the_runtime_makes_no_identity_for_this_machine(tmp_path: Path) -> None:
    """Loading a model leaves nothing in the home folder: no device id, no queue of events to send."""
    env = {key: value for key, value in os.environ.items() if key not in ("CI", "ORT_DISABLE_TELEMETRY")}
    env |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", LOAD], env=env, check=True, timeout=60)
    assert not list(tmp_path.rglob("*"))
