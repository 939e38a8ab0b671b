"""Known voices: which speakers of a recording or session are people whose voiceprints are on file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Voiceprint = NDArray[np.float32]  # [dimensions], of any length but 0

ALIKE = 0.5  # cosine from which a speaker may be a known voice
MARGIN = 0.1  # the next best known voice must be this much less alike


def recognise(
    voices: Mapping[int, Voiceprint], known: Sequence[tuple[str, Voiceprint]]
) -> dict[int, tuple[str, float]]:
    """speaker -> (name, cosine) of those who are recognised; each name goes to the speaker most alike.

    A name may have several voiceprints: the most alike of them counts.
    """
    claims: list[tuple[float, int, str]] = []
    for speaker, voice in voices.items():
        ranked = sorted(alike(voice, known).items(), key=lambda pair: pair[1], reverse=True)
        if ranked and ranked[0][1] >= ALIKE and (len(ranked) == 1 or ranked[0][1] - ranked[1][1] >= MARGIN):
            claims.append((ranked[0][1], speaker, ranked[0][0]))
    found: dict[int, tuple[str, float]] = {}
    taken: set[str] = set()
    for cosine, speaker, name in sorted(claims, reverse=True):
        if name not in taken:
            found[speaker] = (name, cosine)
            taken.add(name)
    return found


def alike(voice: Voiceprint, known: Sequence[tuple[str, Voiceprint]]) -> dict[str, float]:
    """name -> cosine, of the most alike of its voiceprints."""
    if not known:
        return {}
    prints = np.stack([print_ for _, print_ in known])
    norms = np.linalg.norm(prints, axis=1) * np.linalg.norm(voice)
    cosines = np.divide(prints @ voice, norms, out=np.zeros_like(norms), where=norms > 0)
    found: dict[str, float] = {}
    for (name, _), cosine in zip(known, cosines.tolist(), strict=True):
        found[name] = max(found.get(name, -1.0), cosine)
    return found
