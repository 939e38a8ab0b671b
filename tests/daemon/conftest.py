"""What tests of the daemon over HTTP share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

Test = Callable[[httpx.AsyncClient, Any], Coroutine[Any, Any, None]]


@pytest.fixture
def visit(daemon) -> Callable[..., None]:
    """Runs a test's coroutine with a client and the daemon it talks to."""

    def run(test: Test, transcriber: Any = None, **sections: Any) -> None:
        async def main() -> None:
            async with (
                daemon(transcriber, **sections) as d,
                httpx.AsyncClient(base_url=d.url, timeout=30) as client,
            ):
                await test(client, d)

        asyncio.run(main())

    return run


@pytest.fixture
def speech(assets: Path) -> dict[str, Any]:
    """A form with a recording."""
    return {"file": ("beckett.wav", (assets / "beckett.wav").read_bytes(), "audio/wav")}
