"""What `models quantize` does: a model in the NPU's 8 bits, kept in the cache, and a report of how close it is."""

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
from npu.xdna.quant_file import kept_model
from npu.xdna.quant_model import pieces
from npu.xdna.quant_report import END_GOAL, OPERATOR_GOAL, OPERATORS, Closeness, closeness
from npu.xdna.quant_trial import Heard, Trial
from streaming.audio import Samples
from streaming.errors import AudioError, ModelError
from streaming.window import SAMPLE_RATE

_CALIBRATION, _AUDIO = ("beckett.wav", "endgame_nagg_nell.wav"), ("two_cities.wav",)  # of the package
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

    @property
    def changed_by_encoder(self) -> int:
        """Words that are others with the encoder in 8 bits."""
        return sum(each.changed_by_encoder for each in self.heard.values())

    @property
    def changed(self) -> int:
        """Words that are others with all of the model in 8 bits."""
        return sum(each.changed for each in self.heard.values())

    def as_json(self) -> dict[str, Any]:
        """Everything, with the texts."""
        close = self.closeness
        return {
            "model": self.model,
            "file": str(self.file),
            "seconds": round(close.seconds, 1),
            "cosines": {
                "layers": [dict(layer) for layer in close.layers],
                "decoder_layers": list(close.decoder),
                "sound": close.sound,
                "states": close.states,
                "cross": close.cross,
                "logits": close.logits,
            },
            "same_choice": close.chosen,
            "words": {
                "float32": self.words,
                "changed_by_encoder": self.changed_by_encoder,
                "changed": self.changed,
            },
            "texts": {
                name: {"float32": each.in_float, "encoder": each.encoder, "whole": each.whole}
                for name, each in self.heard.items()
            },
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
        quantised, file = kept_model(model, calibration_pieces, cache, progress)
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
    lines.add_row("Keys and values", _cosine(close.cross, END_GOAL), "what the decoder makes of them")
    decoder = min(close.decoder)
    where = f"layer {close.decoder.index(decoder) + 1} of the decoder, the lowest"
    lines.add_row("Decoder", _cosine(decoder, OPERATOR_GOAL), where)
    lines.add_row("Logits", _cosine(close.logits, END_GOAL), "the model as a whole, over the text in float32")
    lines.add_row("Same choice", f"{close.chosen:.1%}", "of the tokens there")
    by_encoder, by_all = (f"{n} of {report.words}" for n in (report.changed_by_encoder, report.changed))
    lines.add_row("Words changed", by_encoder, "with the encoder in 8 bits, the decoder in float32")
    lines.add_row("", by_all, "with both in 8 bits")
    console.print(lines)
    console.print(Text(f"\n{report.model} in 8 bits is in {report.file}"))
    console.print(
        "The arithmetic is that of the NPU's kernels to the last bit, done by the CPU; nothing here was measured on an NPU."
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
