"""Durations as people write them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """M:SS, or H:MM:SS."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
