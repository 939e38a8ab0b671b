"""From a window of audio to a hypothesis: the one thing the rest of the system asks of a model."""

from __future__ import annotations

from typing import Protocol

from streaming.window import Hypothesis, Window


class Transcriber(Protocol):
    """A resident model with its tokenizer. Shared by all sessions, safe to call from several threads at once."""

    name: str  # model, e.g. "moonshine-tiny"
    device: str  # what it runs on, e.g. "cpu (onnxruntime 1.31.1)"

    def transcribe(self, window: Window) -> Hypothesis:
        """Decodes the window, beginning with `window.forced`; blocks until done.

        Audio shorter than a tenth of a second gives the forced words alone.
        """
