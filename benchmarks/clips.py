"""The recordings that benchmarks run on, and the words in them."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streaming.containers import decode_container

SAMPLE_RATE = 16_000
SHARED = Path(os.environ.get("AMANUENSIS_SHARED", Path(__file__).parents[2] / "shared"))
EVALSET = SHARED / "evalset"
PACKAGE_CLIPS = ("two_cities.wav", "endgame_nagg_nell.wav", "beckett.wav")


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording."""

    name: str
    samples: NDArray[np.float32]  # [n] at 16 kHz
    words: tuple[str, ...]  # reference, normalised; empty where there is none

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def normalise(text: str) -> tuple[str, ...]:
    """Lower case, no punctuation, typographic apostrophes folded."""
    return tuple(re.sub(r"[^a-z0-9' ]", " ", text.lower().replace("’", "'")).split())


def read(path: Path) -> NDArray[np.float32]:
    """A file's samples, [n] at 16 kHz."""
    with path.open("rb") as file:
        return np.concatenate(list(decode_container(file)))


def packaged() -> list[Clip]:
    """The recordings that the embedded model's package ships."""
    spec = find_spec("moonshine_voice")
    assert spec is not None and spec.origin is not None
    return [Clip(name, read(Path(spec.origin).parent / "assets" / name), ()) for name in PACKAGE_CLIPS]


def evaluation_set() -> list[Clip]:
    """The English clips with reference words, where the evaluation set lies beside the project."""
    manifest = EVALSET / "manifest.tsv"
    if not manifest.is_file():
        raise SystemExit(
            f"The evaluation set is not at {EVALSET.parent.name}/{EVALSET.name}: nothing to measure on."
        )
    with manifest.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    wanted = [
        row for row in rows if row["lang"] == "en" and row["text"] not in ("", "-") and row["tier"] == "A"
    ]
    return [Clip(row["file"], read(EVALSET / row["file"]), normalise(row["text"])) for row in wanted]
