"""How far a text is from another, word by word."""

from __future__ import annotations

import re
from collections.abc import Sequence


def plain_words(text: str) -> tuple[str, ...]:
    """Words in lower case, without punctuation, typographic apostrophes folded; letters of any script."""
    return tuple(re.sub(r"[^\w' ]|_", " ", text.lower().replace("’", "'")).split())


def word_errors(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Substitutions, deletions and insertions: Levenshtein distance over words."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(reference, 1):
        above, row = row, [i]
        for j, other in enumerate(heard, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (word != other)))
    return row[-1]
