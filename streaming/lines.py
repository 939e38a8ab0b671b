"""Lines of a transcript by speaker: utterances are cut where the speaker changes, and say who it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from streaming.attribution import attribute
from streaming.events import SpeakerLabel, Utterance
from streaming.spacing import joined
from streaming.turns import Turn

SHORTEST_S = 0.01  # of a line; word times are not exact, and may leave one nothing


def by_speaker(
    utterances: Iterable[Utterance],
    turns: Sequence[Turn],
    names: Mapping[int, tuple[str, float]] | None = None,
) -> list[Utterance]:
    """The utterances, which have word times, cut at changes of speaker and numbered anew; order stays.

    Speakers become S1, S2 ... as they appear. names: speaker -> (name, confidence) of those who are known.
    """
    labels: dict[int, SpeakerLabel] = {}

    def label(speaker: int | None) -> SpeakerLabel | None:
        if speaker is not None and speaker not in labels:
            name, confidence = (names or {}).get(speaker, (None, None))
            number = len(labels) + 1
            labels[speaker] = SpeakerLabel(id=f"S{number}", name=name, confidence=confidence, settled=True)
        return None if speaker is None else labels[speaker]

    lines: list[Utterance] = []
    for utterance in utterances:
        for speaker, line in _cut(utterance, turns):
            change = {"utterance": len(lines) + 1, "speaker": label(speaker)}
            lines.append(line.model_copy(update=change))
    return lines


def speakers(lines: Iterable[Utterance]) -> list[SpeakerLabel]:
    """Who speaks in them, in order of appearance."""
    return list({line.speaker.id: line.speaker for line in lines if line.speaker is not None}.values())


def _cut(utterance: Utterance, turns: Sequence[Turn]) -> Iterator[tuple[int | None, Utterance]]:
    """What each speaker said of an utterance; at its ends speech was detected for longer than words were found."""
    parts = attribute(utterance.words or (), turns)
    if len(parts) < 2:
        yield parts[0].speaker if parts else None, utterance
        return
    for part in parts:
        start = min(utterance.start, part.words[0].start) if part is parts[0] else part.words[0].start
        end = max(utterance.end, part.words[-1].end) if part is parts[-1] else part.words[-1].end
        change = {
            "start": start,
            "end": max(end, start + SHORTEST_S),
            "text": joined(word.text for word in part.words),
            "words": part.words,
            "evidence": None,  # it is of the whole
        }
        yield part.speaker, utterance.model_copy(update=change)
