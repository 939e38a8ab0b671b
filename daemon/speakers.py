"""Speakers: the voice models of this daemon, and the labels of each session that wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from daemon.config import Config
from daemon.labelling import Labelling
from daemon.listening import Listening
from npu.voiceprint import Voices, perform
from streaming.channels import ChannelTurns
from streaming.events import Final, Revise, SpeakerLabel
from streaming.labels import Labels
from streaming.protocol import Start
from streaming.speakers import Diarizer, DiarizerSettings


class Speakers:
    """One daemon's. Belongs to the event loop that made it."""

    def __init__(self, config: Config, voices: Voices | None, text_waits: Callable[[], bool]) -> None:
        """voices: the resident models, where they are installed; text_waits: whether someone waits for text."""
        self._config = config.speakers
        self._listening = None if voices is None else Listening(partial(perform, voices), text_waits)

    @property
    def available(self) -> bool:
        """Labels can be had, also where speakers have no channels of their own."""
        return self._listening is not None

    def open(self, start: Start, sample: int = 0, known: int = 0) -> Labelling | None:
        """The labels of a session that goes on from a sample and has had `known` speakers; None for none."""
        wanted = self._config.label if start.diarize is None else start.diarize
        if not wanted:
            return None
        settle_s = self._config.settle_after_s
        if start.channels == "speakers" and start.audio.channels > 1:
            channels = ChannelTurns(start.audio.channels, sample)
            return Labelling(Labels(channels, settle_s), channels, None)
        if self._listening is None:
            return None
        diarizer = Diarizer(DiarizerSettings(settle_after_s=settle_s), sample)
        return Labelling(Labels(diarizer, settle_s, known), None, self._listening)

    def tick(self) -> None:
        """Now and then: text may have ceased to wait."""
        if self._listening is not None:
            self._listening.dispatch()

    async def close(self) -> None:
        """No more labels; returns when the thread has ended."""
        if self._listening is not None:
            await self._listening.close()


def known_speakers(events: Iterable[object]) -> int:
    """The highest number a speaker has had in a session's durable events."""
    labels: list[SpeakerLabel | None] = []
    for event in events:
        if isinstance(event, Final | Revise):
            labels.append(event.speaker)
        if isinstance(event, Revise):
            labels += [line.speaker for line in event.split or ()]
    return max((int(label.id.removeprefix("S")) for label in labels if label is not None), default=0)
