"""The producer: whoever sends a session its audio, seen from the session."""

from __future__ import annotations

from typing import Protocol

from streaming.errors import ProtocolError
from streaming.events import Event


class Producer(Protocol):
    """Where a session's audio comes from. Neither call may block."""

    def deliver(self, event: Event) -> None:
        """An event of the session, already durable where it has to be."""

    def dismiss(self, error: ProtocolError | None) -> None:
        """Nothing more will come: the session is over (None), or the producer has to go."""
