"""Speakers: the voice models of this daemon, the voices it knows, and the labels of each session that wants them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

from daemon.config import Config
from daemon.labelling import Labelling
from daemon.listening import Listening
from daemon.session_voices import SessionVoices
from daemon.voice_store import VoiceStore
from npu.voiceprint import Voices, perform
from streaming.channels import ChannelTurns
from streaming.errors import VoicesBroken
from streaming.events import Final, Revise, SpeakerLabel
from streaming.labels import Labels
from streaming.protocol import Start
from streaming.recognition import KnownVoice
from streaming.speakers import Diarizer, DiarizerSettings

logger = logging.getLogger("amanuensis.speakers")


class Speakers:
    """One daemon's. Belongs to the event loop that made it."""

    def __init__(self, config: Config, voices: Voices | None, text_waits: Callable[[], bool]) -> None:
        """voices: the resident models, where they are installed; text_waits: whether someone waits for text."""
        self._config = config.speakers
        self._listening = None if voices is None else Listening(partial(perform, voices), text_waits)
        self.store = VoiceStore.of(config)
        self.heard = SessionVoices()
        self.notes: tuple[str, ...] = ()  # what is wrong with the store, for whoever looks after this daemon
        self.known: tuple[KnownVoice, ...] = ()  # who is recognised, in sessions and in recordings
        self._enrolled: object = None  # as the store was last seen
        self._live: dict[Labelling, str] = {}  # sessions whose voices can be recognised
        self.refresh()

    @property
    def available(self) -> bool:
        """Labels can be had, also where speakers have no channels of their own."""
        return self._listening is not None

    def open(self, session: str, start: Start, sample: int = 0, known: int = 0) -> Labelling | None:
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
        self.refresh()
        diarizer = Diarizer(DiarizerSettings(settle_after_s=settle_s), sample)
        labels = Labels(diarizer, settle_s, known, self.known)
        labelling = Labelling(labels, None, self._listening, self._close)
        self.heard.opened(session, labels)
        self._live[labelling] = session
        return labelling

    def refresh(self) -> None:
        """Looks at the store: who has been enrolled or removed is known, or forgotten, in live sessions as well."""
        if not self._config.recognise:
            return
        try:
            enrolled = self.store.voices()
        except VoicesBroken as error:
            enrolled = ()
            if self.notes != (str(error),):
                self.notes = (str(error),)
                logger.warning("%s", error)
        else:
            self.notes = ()
        if enrolled is self._enrolled or (not enrolled and not self.known):
            return
        self._enrolled = enrolled
        self.known = tuple((voice.name, voice.vector) for voice in enrolled if voice.usable)
        for labelling in tuple(self._live):
            labelling.know(self.known)

    def _close(self, labelling: Labelling) -> None:
        session = self._live.pop(labelling, None)
        if session is not None:
            self.heard.closed(session, labelling.labels)

    def tick(self) -> None:
        """Now and then: text may have ceased to wait, and somebody may have been enrolled."""
        self.refresh()
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
