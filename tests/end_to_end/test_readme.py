"""What the README shows works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_the_python_example(daemon_process, pcm, tmp_path: Path) -> None:
    """It prints the finals of a recording."""
    with wave.open(str(tmp_path / "talk.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(pcm("beckett.wav", 4))
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    url = daemon_process().url
    for shown, here in (("talk.wav", str(tmp_path / "talk.wav")), ("http://127.0.0.1:9004", url)):
        assert shown in code
        code = code.replace(shown, here)
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0 and "word" in result.stdout, result.stderr


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)h][^)]*)\)", README))))
def test_links_lead_somewhere(path: str) -> None:
    """Each file the README links to is there."""
    assert (ROOT / path).exists()
