"""Between one session's labels and the thread that listens for voices."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from daemon.listening import Listening
from streaming.audio import Samples
from streaming.channels import ChannelTurns
from streaming.errors import StateError
from streaming.events import Error, Event, SpeakerLabel
from streaming.labels import Labels
from streaming.recognition import KnownVoice

_STOPPED = "Speaker labels have stopped: the voice models failed. The text goes on; the log has more."
LAST_LABELS_S = 10.0  # how long the end of a session waits for them


class Labelling:
    """The labels of a live session. All methods belong to the event loop."""

    def __init__(
        self,
        labels: Labels,
        channels: ChannelTurns | None,
        listening: Listening | None,
        closed: Callable[[Labelling], None] = lambda _labelling: None,
    ) -> None:
        """channels: the source of the labels where speakers have channels of their own; no models are needed then.

        closed: called when the session is over.
        """
        self.labels = labels
        self.channels = channels
        self._listening = listening
        self._closed = closed
        self._arrived: Callable[[int], float] = lambda _sample: 0.0
        self._changed: Callable[[], None] = lambda: None
        self._tell: Callable[[Event], None] = lambda _event: None
        self._finishing_since: float | None = None

    def start(
        self,
        arrived: Callable[[int], float],
        changed: Callable[[], None],
        tell: Callable[[Event], None],
    ) -> None:
        """arrived: when a sample came, monotonic; changed: the session looks at its labels; tell: the producer."""
        self._arrived, self._changed, self._tell = arrived, changed, tell

    def wake(self) -> None:
        """More audio came, or something else that may make a job due."""
        if self._listening is not None:
            self._listening.wake(self)

    def receive_levels(self, levels: Samples) -> None:
        """How loud the channels were, [hops, channels], where they are the speakers."""
        if self.channels is not None:
            self.channels.receive_levels(levels)

    def rename(self, speaker: str, name: str | None) -> SpeakerLabel:
        """A person says who it is; StateError where there is no such speaker."""
        try:
            label = self.labels.rename(speaker, name)
        except KeyError as error:
            raise StateError(f"rename: {speaker} has not spoken since the daemon started.") from error
        self._changed()
        return label

    def know(self, voices: Sequence[KnownVoice]) -> None:
        """Others are labelled by name from now on."""
        self.labels.know(voices)
        self._changed()

    def tick(self, finishing: bool) -> None:
        """Now and then: a session that is over does not wait for its labels for ever."""
        if not finishing or self.labels.idle:
            return
        now = time.monotonic()
        self._finishing_since = self._finishing_since or now
        if now - self._finishing_since > LAST_LABELS_S:
            self.labels.give_up()
            self._changed()

    def close(self) -> None:
        """The session is over."""
        if self._listening is not None:
            self._listening.remove(self)
        self._closed(self)

    # the listening thread's side

    def voices_due(self) -> float | None:
        """See Listener."""
        due = self.labels.demand()
        return None if due is None else self._arrived(due)

    def next_voices(self) -> Any:
        """See Listener."""
        return self.labels.next_job()

    def receive_voices(self, job: Any, heard: Any | None) -> None:
        """See Listener."""
        if heard is None:
            self.labels.give_up()
            self._tell(Error(code="not_available", message=_STOPPED, fatal=False))
        else:
            self.labels.receive_heard(job, heard)
        self._changed()
        self.wake()
