"""Which family a model is of is known to its own modules, the backends and the catalogue, and to nobody else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FAMILIES = ("whisper", "moonshine")
OWN = {  # what may speak of a family in its code
    "npu/backends/*.py", "npu/moonshine*.py", "npu/whisper*.py", "npu/tokens.py", "npu/hf_tokens.py", "npu/catalog.py",
    "npu/loading.py", "npu/lean.py", "npu/embedded.py", "npu/weights.py", "npu/checkpoint*.py", "npu/untrained.py",
    "npu/xdna/*.py",  # the NPU's part of the backends
}  # fmt: skip
SAID = {  # what others say of one: names that users, clients and packages are known by
    "daemon/adapters/openai_requests.py",  # OpenAI's "whisper-1" gets the model that is there
    "daemon/cli.py",  # examples in the help
    "daemon/models_cli.py",
    "daemon/npu_commands.py",
    "daemon/model_section.py",  # the default's name
    "daemon/transcribing.py",  # advice which model can do what this one cannot
    "daemon/calibration.py",  # a recording of the wheel
    "daemon/doctor.py",  # what the wheel brings, and how to install it
    "daemon/web.py",  # whose the models are
}


def mentions(path: Path) -> Iterator[str]:
    """Names and texts of its code that speak of a family; docstrings are not code."""
    tree = ast.parse(path.read_text("utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            text = node.value
        elif isinstance(node, ast.Name):
            text = node.id
        elif isinstance(node, ast.Attribute):
            text = node.attr
        if any(family in text.lower() for family in FAMILIES):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {text[:60]!r}"  # type: ignore[attr-defined]


def test_no_branch_elsewhere() -> None:
    """The code of all other modules mentions no family."""
    own = {path for pattern in OWN for path in ROOT.glob(pattern)} | {ROOT / path for path in SAID}
    found = [
        mention
        for package in ("streaming", "npu", "daemon", "clients")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path not in own
        for mention in mentions(path)
    ]
    assert not found, "\n".join(found)
