"""config.toml as it comes with the daemon: every default, under the docstring that explains it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from daemon.config import LISTS, Config
from daemon.section import Section


def render() -> str:
    """config.toml: all defaults, each under its docstring. Lists of blocks stand as comments."""
    lines = list(_comment(Config.__doc__ or ""))
    for name, section in vars(Config()).items():
        lines.append("")
        if name in LISTS:
            lines += _comment(LISTS[name].__doc__ or "")
            block = [f"[[{name}]]", *_keys(LISTS[name]())]
            lines += [f"# {line}" for line in block]
        else:
            lines += [*_comment(section.__doc__ or ""), f"[{name}]", *_keys(section)]
    return "\n".join(lines) + "\n"


def _keys(section: Section) -> Iterator[str]:
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if value is not None:
            yield from _comment(field.description or "")
            yield f"{key} = {_toml(value)}"


def _comment(text: str) -> Iterator[str]:
    for paragraph in textwrap.dedent(text).strip().split("\n\n"):
        yield from (f"# {line}" for line in textwrap.wrap(" ".join(paragraph.split()), 100))


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
