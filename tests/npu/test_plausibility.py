from __future__ import annotations

import numpy as np
import pytest

from npu.decoding import Decoding, Ending
from npu.plausibility import Thresholds, compression_ratio, judged

SAID = "It was the best of times, it was the worst of times."
NOWHERE = np.zeros((0, 0), np.float32)


def decoding(log_prob: float, ending: Ending = Ending.END) -> Decoding:
    """Of nine tokens and the end, all of one log-probability."""
    end = log_prob if ending is Ending.END else 0.0
    return Decoding(tuple(range(9)), np.full(9, log_prob, np.float32), NOWHERE, 10, ending, end)


@pytest.mark.parametrize(
    ("found", "text", "silence", "doubt", "again"),
    [
        (decoding(-0.3), SAID, 0.9, None, False),  # sure of its words, whatever it says of silence
        (decoding(-1.4), SAID, 0.9, "silence", False),
        (decoding(-1.4), SAID, 0.2, None, True),
        (decoding(-0.1), "thank you " * 20, 0.0, "repetition", True),
        (decoding(-0.1, Ending.LOOP), SAID, 0.0, "repetition", True),
        (decoding(-0.1, Ending.FULL), SAID, 0.0, "density", True),
        (decoding(-0.1), "", 0.0, None, False),
    ],
)
def test_judgements(found: Decoding, text: str, silence: float, doubt: str | None, again: bool) -> None:
    """Words are withheld for what they are, and tried again where that may help."""
    judgement = judged(found, text, silence, Thresholds())
    assert (judgement.doubt, judgement.again) == (doubt, again)


def test_compression() -> None:
    """Speech compresses little in any script, repetition a lot."""
    assert compression_ratio(SAID) < 1.5
    assert compression_ratio("今天天气很好，我们去公园散步，然后回家吃饭。") < 1.5
    assert compression_ratio("谢谢观看" * 20) > 2.4
    assert compression_ratio("") == 0.0
