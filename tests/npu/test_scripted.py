from __future__ import annotations

import numpy as np

from npu.scripted import ScriptedTranscriber
from streaming.window import Purpose, Window

SCRIPT = [(0.0, 0.5, "one"), (0.5, 1.0, "two"), (1.0, 1.5, "two"), (2.0, 2.5, "three")]


def window(start_s: float, end_s: float, forced: tuple[int, ...] = ()) -> Window:
    audio = np.zeros(round((end_s - start_s) * 16_000), np.float32)
    return Window(0, round(start_s * 16_000), audio, forced, (), Purpose.PARTIAL)


def test_windows_side_by_side() -> None:
    """Each word is heard once, in the window that holds its middle."""
    model = ScriptedTranscriber(SCRIPT)
    first, second = model.transcribe(window(0, 1.2)), model.transcribe(window(1.2, 3))
    assert [word.text for word in first.words] == ["one", "two"]
    assert [(word.text, word.start) for word in second.words] == [("two", 1.0), ("three", 2.0)]


def test_forced_words() -> None:
    """The hypothesis begins with them and goes on with what follows."""
    model = ScriptedTranscriber(SCRIPT)
    whole = model.transcribe(window(0, 3)).words
    forced = whole[0].tokens + whole[1].tokens
    assert model.transcribe(window(0, 3, forced)).words == whole
    assert model.transcribe(window(1, 3, whole[3].tokens)).words[0].text == "three"
