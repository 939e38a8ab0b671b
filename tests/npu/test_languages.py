"""Languages by code, tag and name."""

from __future__ import annotations

import pytest

from npu.languages import NAMES, code_of, name_of


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("en", "en"),
        ("EN-gb", "en"),
        ("pt_BR", "pt"),
        ("German", "de"),
        ("  haitian   Creole ", "ht"),
        ("Mandarin", "zh"),
        ("zh-Hant-TW", "zh"),
        ("jv", "jw"),
        ("yue", "yue"),
        ("Klingon", "klingon"),
    ],
)
def test_what_people_write(written: str, code: str) -> None:
    """Becomes the code that models use; what nobody knows stays."""
    assert code_of(written) == code


def test_the_table() -> None:
    """Holds the hundred languages of Whisper, and goes both ways."""
    assert len(NAMES) == len(set(NAMES.values())) == 100
    assert all(code_of(name) == code == code_of(code) for code, name in NAMES.items())
    assert name_of("de") == "german" and name_of("xx") == "xx"
