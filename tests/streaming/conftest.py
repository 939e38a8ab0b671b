"""Real speech for the core's tests."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streaming.containers import decode_container

Load = Callable[[str], NDArray[np.float32]]


@pytest.fixture(scope="session")
def recording() -> Load:
    """Loads one of the recordings that the embedded model's package ships: [n] at 16 kHz."""
    spec = find_spec("moonshine_voice")
    assert spec is not None and spec.origin is not None
    assets = Path(spec.origin).parent / "assets"
    loaded: dict[str, NDArray[np.float32]] = {}

    def load(name: str) -> NDArray[np.float32]:
        if name not in loaded:
            with (assets / name).open("rb") as file:
                loaded[name] = np.concatenate(list(decode_container(file)))
        return loaded[name]

    return load
