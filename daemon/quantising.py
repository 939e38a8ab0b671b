"""What `models quantize` does: an encoder in the NPU's 8 bits, kept in the cache, and a report of how close a model is
with its encoder, its decoder or both in 8 bits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from daemon.config import Config
from daemon.media import Recording, find
from npu.catalog import resolve
from npu.embedded import default_cache_dir, package_folder
from npu.xdna.float_model import float_model
from npu.xdna.quant_file import kept_encoder
from npu.xdna.quant_model import pieces
from npu.xdna.quant_report import END_GOAL, OPERATOR_GOAL, OPERATORS, Closeness, closeness
from npu.xdna.quant_trial import BOTH, DECODER, ENCODER, READINGS, Heard, Trial
from streaming.audio import Samples
from streaming.errors import AudioError, ModelError
from streaming.window import SAMPLE_RATE

_CALIBRATION, _AUDIO = ("beckett.wav", "endgame_nagg_nell.wav"), ("two_cities.wav",)  # of the package
_SAID = {ENCODER: "encoder in 8 bits", DECODER: "decoder in 8 bits", BOTH: "both in 8 bits"}
_SHORT = {"attention": "attend", "network": "up"}  # so that a row fits in 80 columns
_CALIBRATED_S = 60  # of each recording, at most


@dataclass(frozen=True)
class Report:
    """What there is to say of a quantised model."""

    model: str
    file: Path
    closeness: Closeness
    heard: dict[str, Heard]  # by recording

    @property
    def words(self) -> int:
        """In float32."""
        return sum(each.words for each in self.heard.values())

    def changed(self, reading: str) -> int:
        """Words that are others than in float32."""
        return sum(each.changed(reading) for each in self.heard.values())

    def as_json(self) -> dict[str, Any]:
        """Everything, with the texts."""
        close = self.closeness
        return {
            "model": self.model,
            "file": str(self.file),
            "seconds": round(close.seconds, 1),
            "cosines": {
                "layers": [dict(layer) for layer in close.layers],
                "sound": close.sound,
                "states": close.states,
                "logits": dict(close.logits),
            },
            "same_choice": dict(close.chosen),
            "words": {"float32": self.words, "changed": {name: self.changed(name) for name in READINGS}},
            "texts": {name: {"float32": each.in_float, **each.in_eight} for name, each in self.heard.items()},
        }


def quantize(
    name: str, audio: Sequence[str], calibration: Sequence[str], report: Path | None, config_path: Path | None
) -> None:
    """Quantises, compares and says so; AudioError, ModelError or ConfigError where something is not as it must be."""
    config = Config.load(config_path)
    named = resolve(name)
    console = Console(stderr=True, highlight=False)
    with console.status(f"Reading {named.name}") as status:

        def progress(line: str) -> None:
            status.update(Text(line))

        spoken = {each.shown: _samples(each) for each in _recordings(audio, _AUDIO)}
        seconds = sum(len(each) for each in spoken.values()) / SAMPLE_RATE
        calibrated = [_samples(each) for each in _recordings(calibration, _CALIBRATION)]
        model = float_model(named, config.model.models_path)
        calibration_pieces = [
            piece for each in calibrated for piece in pieces(each[: _CALIBRATED_S * SAMPLE_RATE], model)
        ]
        cache = config.model.cache_path or default_cache_dir(progress)
        quantised, file = kept_encoder(model, calibration_pieces, cache, progress)
        progress(f"Comparing {seconds:.0f} s operator by operator")
        close = closeness(
            model, quantised, [piece for each in spoken.values() for piece in pieces(each, model)]
        )
        trial, heard = Trial(model, quantised), {}
        for at, (shown, samples) in enumerate(spoken.items(), 1):
            progress(f"Listening to {shown} ({at} of {len(spoken)})")
            heard[shown] = trial.hear(samples)
    found = Report(named.name, file, close, heard)
    _show(found)
    if report is not None:
        _write(report, found)


def _show(report: Report) -> None:
    console, close = Console(highlight=False, soft_wrap=True), report.closeness
    table = Table(box=None, pad_edge=False)
    for name in ("Layer", *OPERATORS):
        table.add_column(_SHORT.get(name, name), justify="right", no_wrap=True)
    for at, layer in enumerate(close.layers, 1):
        table.add_row(str(at), *(_cosine(layer[name], OPERATOR_GOAL) for name in OPERATORS))
    console.print(table)
    console.print(
        f"\nCosines against float32 over {close.seconds:.0f} s of speech; 1 is the same, and each should reach"
        f" {OPERATOR_GOAL}. Every operator is given what float32 gives it, so a figure is its own error: of a norm and the"
        " three products behind it, of attention and the product behind that, of the network's product up with GELU and"
        " the one down, and of the layer as a whole.\n"
    )
    lowest, lowest_layer, lowest_name = close.lowest
    lines = Table(box=None, pad_edge=False, show_header=False)
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(justify="right", no_wrap=True)
    lines.add_column(overflow="fold")
    lines.add_row("Lowest", _cosine(lowest, OPERATOR_GOAL), f"{lowest_name} of layer {lowest_layer + 1}")
    lines.add_row("First frames", _cosine(close.sound, OPERATOR_GOAL), "what the first layer sees")
    lines.add_row(
        "States", _cosine(close.states, END_GOAL), f"the encoder as a whole; {END_GOAL} is the goal"
    )
    console.print(lines)
    _show_readings(console, report)
    console.print(Text(f"\nThe encoder of {report.model} in 8 bits is in {report.file}"))
    console.print(
        "The encoder's arithmetic is that of the NPU's kernels to the last bit; of the decoder, weights and the keys and"
        " values of windows are rounded as on the NPU, and nothing else. All of it was done by the CPU: nothing here was"
        " measured on an NPU."
    )


def _show_readings(console: Console, report: Report) -> None:
    close = report.closeness
    table = Table(box=None, pad_edge=False)
    table.add_column("The model as a whole", no_wrap=True)
    for name in ("logits", "same choice", "words changed"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, said in _SAID.items():
        changed = f"{report.changed(name)} of {report.words}"
        table.add_row(said, _cosine(close.logits[name], END_GOAL), f"{close.chosen[name]:.1%}", changed)
    console.print()
    console.print(table)
    console.print(
        "\nAgainst float32: logits and the most probable token over the text that is heard in float32, and words of what"
        " is heard. What is not in 8 bits is in float32."
    )


def _cosine(value: float, goal: float) -> Text:
    """Five digits without the leading zero."""
    rounded = f"{value:.5f}".lstrip("0")
    return Text("1" if rounded == "1.00000" else rounded, style="" if value >= goal else "red")


def _write(path: Path, report: Report) -> None:
    try:
        path.write_text(json.dumps(report.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ModelError(
            f"The report cannot be written to {path} ({error.strerror}); choose another place."
        ) from error


def _recordings(named: Sequence[str], packaged: Sequence[str]) -> list[Recording]:
    """Those that were named, or the package's."""
    return (
        find(named) if named else [Recording(name, package_folder() / "assets" / name) for name in packaged]
    )


def _samples(recording: Recording) -> Samples:
    """All of it [n] at 16 kHz."""
    try:
        blocks = list(recording.reading())
    except AudioError as error:
        raise AudioError(f"{recording.shown}: {error}") from error
    if not blocks:
        raise AudioError(f"{recording.shown}: there is no audio in it; name another recording.")
    return np.concatenate(blocks)
