"""Write what transformers says of the fixture's clips: `python tests/npu/golden/make.py`. Needs torch and transformers.

The tests beside this folder hold our decoding to it on machines that have no torch.
"""

import json
from pathlib import Path

import av
import numpy as np
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

HERE = Path(__file__).parent
FIXTURES = HERE.parent.parent / "fixtures"
CLIPS = {"english-1": "en", "english-pair": "en", "spanish-1": "es", "spanish-three": "es"}
BEAM = 3


def samples(name: str) -> np.ndarray:
    """A clip, 16 kHz, -1..1."""
    with av.open(str(FIXTURES / "speech" / f"{name}.flac")) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(frames, axis=1)[0].astype(np.float32) / 32768


def main() -> None:
    """Greedy and beam of short clips, with timestamps and without; the segments of the long one."""
    folder = FIXTURES / "whisper-small-talk"
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    extractor = WhisperFeatureExtractor.from_pretrained(folder)

    def generated(name: str, language: str, **asked: object) -> list[int]:
        given = extractor(samples(name), sampling_rate=16_000, return_tensors="pt").input_features
        with torch.no_grad():
            found = model.generate(
                given, language=language, task="transcribe", force_unique_generate_call=True, **asked
            )
        return [int(token) for token in found[0]]

    windows = {
        name: {
            "language": language,
            "greedy": generated(name, language, return_timestamps=False),
            "timed": generated(name, language, return_timestamps=True),
            "beam": generated(name, language, return_timestamps=False, num_beams=BEAM),
        }
        for name, language in CLIPS.items()
    }
    talk = extractor(
        samples("english-talk"), sampling_rate=16_000, return_tensors="pt", truncation=False,
        padding="longest", return_attention_mask=True,
    )  # fmt: skip
    with torch.no_grad():
        found = model.generate(
            talk.input_features, attention_mask=talk.attention_mask, language="en", task="transcribe",
            return_timestamps=True, return_segments=True,
        )  # fmt: skip
    segments = [
        {
            "start": round(float(each["start"]), 4),
            "end": round(float(each["end"]), 4),
            "tokens": [int(token) for token in each["tokens"]],
        }
        for each in found["segments"][0]
    ]
    text = json.dumps({"beam": BEAM, "windows": windows, "english-talk": segments}, separators=(",", ":"))
    (HERE / "small_talk.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
