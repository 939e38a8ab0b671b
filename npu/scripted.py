"""A transcriber that reads from a script: the twin of a resident model, for tests of what is above it."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator, Sequence

from npu.acceleration import NOT_ASKED
from streaming.audio import Samples
from streaming.errors import ModelError
from streaming.events import Utterance
from streaming.window import SAMPLE_RATE, Hypothesis, Manner, Window, Word

_FIRST_TOKEN = 1000  # below it are no words, as in a real vocabulary


def _token(text: str) -> int:
    """The word's stable token id: the same in every process."""
    return _FIRST_TOKEN + zlib.crc32(text.encode()) % (1 << 30)


class ScriptedTranscriber:
    """Hears, in every window, the words of the script whose midpoint lies inside it.

    `script` holds (start, end, word) in session seconds, in order of time. `delay_s` is slept in each call, in
    place of the model's work. The hypothesis begins with `window.forced`, whatever the script says.
    """

    name = "scripted"
    device = "script"
    acceleration = NOT_ASKED
    languages = ("en",)
    translates = False
    context_s: float | None = None

    def __init__(self, script: Sequence[tuple[float, float, str]], delay_s: float = 0.0) -> None:
        self._script = tuple(Word(text, (_token(text),), start, end, 1.0) for start, end, text in script)
        self._by_token = {word.tokens[0]: word for word in self._script}
        self._delay_s = delay_s

    def transcribe(self, window: Window) -> Hypothesis:
        """The forced words, then the scripted ones of this window that follow them."""
        if self._delay_s:
            time.sleep(self._delay_s)
        heard = [word for word in self._script if self._inside(word, window)]
        words = self._forced(window.forced, heard) + heard[len(window.forced) :]
        return Hypothesis(words=tuple(words), decode_s=self._delay_s)

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        """Each as if it were the only one."""
        return [self.transcribe(window) for window in windows]

    def follow(self, blocks: Iterable[Samples], manner: Manner, words: bool) -> Iterator[Utterance]:
        """A script needs windows."""
        raise ModelError(f"{self.name} tells no times, so it cannot go through a recording by itself.")

    @staticmethod
    def _inside(word: Word, window: Window) -> bool:
        middle = (word.start + word.end) / 2 * SAMPLE_RATE
        return window.start <= middle < window.end

    def _forced(self, tokens: tuple[int, ...], heard: list[Word]) -> list[Word]:
        """One word per forced token, with the script's times where the token stands at its scripted place."""
        places = [word.tokens[0] for word in heard]
        return [
            heard[i] if i < len(places) and places[i] == token else self._by_token[token]
            for i, token in enumerate(tokens)
        ]
