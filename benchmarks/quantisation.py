"""Moonshine in the NPU's 8 bits against float32: cosines, and word errors, with its encoder, its decoder or both so.

    python benchmarks/quantisation.py [--clips 0] [--output FILE]

The encoder's arithmetic is that of the kernels to the last bit, on this machine's CPU; of the decoder, what is rounded is
weights and the keys and values of windows. Two of the package's recordings calibrate;
the evaluation set and the meeting beside it are scored, none of which is among those two. Where there are no reference
words, what counts is how many words are others than those in float32.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from clips import EVALSET, SAMPLE_RATE, SHARED, Clip, evaluation_set, normalise, packaged, read

from npu.catalog import EMBEDDED, resolve
from npu.word_errors import word_errors
from npu.xdna.float_model import float_model
from npu.xdna.quant_model import pieces, quantise_model
from npu.xdna.quant_report import closeness
from npu.xdna.quant_trial import READINGS, Heard, Trial

CALIBRATION = ("beckett", "endgame")  # begin the names of recordings that are not scored
COMPARED = 8  # every so manieth clip is compared operator by operator
TEXTS = ("float32", *READINGS)  # of what was heard
DRAWS = 10_000  # of the clips, for the interval of what the difference is


def meeting() -> list[Clip]:
    """The turns of the meeting, cut apart."""
    audio = read(SHARED / "meetings" / "m2.flac")
    turns = [line.split(maxsplit=5) for line in (SHARED / "meetings" / "m2.stm").read_text().splitlines()]
    return [
        Clip(
            f"m2 {at}",
            audio[int(float(start) * SAMPLE_RATE) : int(float(end) * SAMPLE_RATE)],
            normalise(words),
        )
        for at, (_, _, _, start, end, words) in enumerate(turns)
    ]


def without_words() -> list[Clip]:
    """English clips of the evaluation set without reference words."""
    with (EVALSET / "manifest.tsv").open(encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        files = [
            row["file"] for row in rows if row["lang"] == "en" and row["tier"] == "A" and row["text"] == "-"
        ]
    wanted = [name for name in files if not any(each in name for each in CALIBRATION)]
    return [Clip(name, read(EVALSET / name), ()) for name in wanted]


def score(clips: list[Clip], heard: list[Heard]) -> dict[str, Any]:
    """Word errors of every reading, and how sure the differences are."""
    wrong = np.array(
        [
            [
                word_errors(clip.words, normalise(said))
                for said in (each.in_float, *(each.in_eight[name] for name in READINGS))
            ]
            for clip, each in zip(clips, heard, strict=True)
        ]
    )  # [clips, texts]
    words = np.array([len(clip.words) for clip in clips])
    drawn = np.random.default_rng(0).integers(0, len(clips), (DRAWS, len(clips)))
    rates = wrong.sum(axis=0) / words.sum() * 100
    found: dict[str, Any] = {
        "clips": len(clips),
        "seconds": round(sum(clip.seconds for clip in clips), 1),
        "words": int(words.sum()),
    }
    for at, name in enumerate(TEXTS):
        found[name] = {"errors": int(wrong[:, at].sum()), "rate": round(float(rates[at]), 2)}
        if at:
            apart = (wrong[:, at] - wrong[:, 0])[drawn].sum(axis=1) / words[drawn].sum(axis=1) * 100
            found[name]["points_apart"] = round(float(rates[at] - rates[0]), 3)
            found[name]["points_apart_95"] = np.percentile(apart, [2.5, 97.5]).round(2).tolist()
    return found


def changes(clips: list[Clip], heard: list[Heard]) -> dict[str, Any]:
    """Words that are others than in float32."""
    return {
        "clips": len(clips),
        "seconds": round(sum(clip.seconds for clip in clips), 1),
        "words": sum(each.words for each in heard),
        "changed": {name: sum(each.changed(name) for each in heard) for name in READINGS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=0, help="only so many of each kind; 0: all of them")
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    most = arguments.clips or None
    model = float_model(resolve(EMBEDDED))
    calibration = [clip for clip in packaged() if clip.name.startswith(CALIBRATION)]
    spoken = [piece for clip in calibration for piece in pieces(clip.samples, model)]
    quantised = quantise_model(model, spoken, print)
    scored, meetings, others = evaluation_set()[:most], meeting()[:most], without_words()[:most]
    close = closeness(model, quantised, [clip.samples for clip in scored[::COMPARED]])
    trial, heard, begun = Trial(model, quantised), [], time.perf_counter()
    everything = [*scored, *meetings, *others]
    for clip in everything:
        heard.append(trial.hear(clip.samples))
        changed = ", ".join(f"{name} {heard[-1].changed(name)}" for name in READINGS)
        print(f"{clip.name}: of {heard[-1].words} words are others: {changed}", flush=True)
    took = time.perf_counter() - begun
    said = len(scored) + len(meetings)
    found = {
        "model": EMBEDDED,
        "calibrated_s": round(sum(clip.seconds for clip in calibration), 1),
        "compared_s": round(close.seconds, 1),
        "lowest_operators": {
            name: round(min(each[name] for each in close.layers), 6) for name in close.layers[0]
        },
        "sound": round(close.sound, 6),
        "states": round(close.states, 6),
        "logits": {name: round(value, 6) for name, value in close.logits.items()},
        "same_choice": {name: round(value, 4) for name, value in close.chosen.items()},
        "evaluation_set": score(scored, heard[: len(scored)]),
        "meeting": score(meetings, heard[len(scored) : said]),
        "scored": score([*scored, *meetings], heard[:said]),
        "changes": {"all": changes(everything, heard), "without_words": changes(others, heard[said:])},
        "took_s": round(took),
    }
    result = json.dumps(found, indent=2)
    print(result)
    if arguments.output:
        arguments.output.write_text(result + "\n")


if __name__ == "__main__":
    main()
