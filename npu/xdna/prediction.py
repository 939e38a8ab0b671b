"""A model of the catalogue on the NPU, predicted: its encoder composed for a window's length without its weights, priced
on every machine that the cost model knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from npu.catalog import resolve
from npu.checkpoint import Sizes
from npu.mel import HOP
from npu.moonshine import HEADS, STATE_SAMPLES, TINY, WIDTH
from npu.whisper_weights import FRAMES_PER_STATE
from npu.xdna.composition import Constants
from npu.xdna.cost import EXPECTED, KERNELS, MACHINES, Machine, StageCost, price
from npu.xdna.encoders import Plan, moonshine, whisper
from npu.xdna.forecast import TOKENS_A_SECOND, Decoder, Encoding, Precision, Transcription
from npu.xdna.gemm import SPAN
from npu.xdna.mel_design import Window, mel_design
from npu.xdna.mel_design import stages as mel_stages
from npu.xdna.overlay import Bits, overlay
from npu.xdna.shapes import MOONSHINE_HIDDEN, moonshine_weights, whisper_sizes, whisper_weights
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

LIVE_S = 5.0  # of a window of Moonshine's
_UNSEEN_STATES = 2  # of Moonshine's last span
_NO_STACKS = dict.fromkeys(KERNELS, 0)  # bytes: designs are priced here, not checked
_LAYER = re.compile(r"layer \d+ ")


@dataclass(frozen=True)
class Question:
    """What is to be predicted."""

    model: str  # a name of the catalogue, or a folder
    seconds: float | None = None  # of a window; None: 30 of Whisper's, 5 of Moonshine's
    precision: Precision = Precision.BF16  # of the decoder
    batch: int = 8  # windows decoded side by side
    tokens: int | None = None  # of a window; None: three a second


@dataclass(frozen=True)
class Prediction:
    """The answer, machine by machine."""

    model: str
    seconds: float
    states: int  # of the encoder
    found: tuple[Transcription, ...]  # on each of MACHINES
    features: StageCost | None  # log-mel on Hawk Point, by an overlay of its own; in none of the sums

    def on(self, machine: Machine) -> Transcription:
        """On one of them."""
        return next(each for each in self.found if each.encoding.machine is machine)

    @property
    def expected(self) -> Transcription:
        """On Hawk Point."""
        return self.on(EXPECTED)


def predict(question: Question) -> Prediction:
    """ModelError where the model is not known, or its windows are never so long."""
    named = resolve(question.model)
    sizes = whisper_sizes(named)
    seconds = _seconds(named.name, sizes, question.seconds)
    tokens = max(1, round(seconds * TOKENS_A_SECOND)) if question.tokens is None else question.tokens
    states = ceil(seconds * SAMPLE_RATE / (STATE_SAMPLES if sizes is None else FRAMES_PER_STATE * HOP))
    plan, decoder = _moonshine(states, tokens) if sizes is None else _whisper(sizes, states, tokens)
    found = []
    for machine in MACHINES:
        encoding = Encoding(machine, _costs(plan, machine), len(plan.dispatches()), len(plan.units))
        found.append(Transcription(encoding, decoder, seconds, tokens, question.batch, question.precision))
    features = None if sizes is None else _features(Window(states * FRAMES_PER_STATE, sizes.bins))
    return Prediction(named.name, seconds, states, tuple(found), features)


def _seconds(name: str, sizes: Sizes | None, asked: float | None) -> float:
    if sizes is None:
        longest, usual = TINY.most_samples / SAMPLE_RATE, LIVE_S
    else:
        longest = usual = sizes.states * FRAMES_PER_STATE * HOP / SAMPLE_RATE
    seconds = usual if asked is None else asked
    if not 0 < seconds <= longest:
        raise ModelError(
            f"A window of {name} is at most {longest:.0f} s long, and {seconds:g} s were asked for: longer"
            " recordings are cut into such windows, and take in proportion"
        )
    return seconds


def _moonshine(states: int, tokens: int) -> tuple[Plan, Decoder]:
    spans = ceil((states + _UNSEEN_STATES) / SPAN)
    plan = moonshine(moonshine_weights(), HEADS, _Places(), spans)
    sizes = (WIDTH, TINY.layers, MOONSHINE_HIDDEN, TINY.vocabulary)
    return plan, Decoder.of(*sizes, states, tokens, gated=True)


def _whisper(sizes: Sizes, states: int, tokens: int) -> tuple[Plan, Decoder]:
    plan = whisper(whisper_weights(sizes), _Places(), ceil(states / SPAN))
    of_decoder = (sizes.width, sizes.decoder_layers, sizes.decoder_hidden, sizes.vocabulary)
    return plan, Decoder.of(*of_decoder, states, tokens, gated=False)


def _features(window: Window) -> StageCost:
    (stage,) = mel_stages(window)
    return price(mel_design(_NO_STACKS, (window,)), stage, window.arguments, EXPECTED)


def _costs(plan: Plan, machine: Machine) -> tuple[StageCost, ...]:
    composer = plan.composer
    arguments = composer.arguments(composer.work)
    design = overlay(_NO_STACKS, ())
    stages = (stage for unit in plan.units for stage in composer.units[unit])
    return tuple(price(design, stage, arguments, machine) for stage in stages)


class _Places(Constants):
    """Where constants would lie. One layer is as large as another, and only one is laid out."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[tuple[object, ...], int] = {}

    def place(self, key: tuple[object, ...], made: Callable[[], Bits]) -> int:
        """Where it begins."""
        if key in self._places:
            return self._places[key]
        alike = tuple(_LAYER.sub("", part) if isinstance(part, str) else part for part in key)
        if alike not in self._sizes:
            self._sizes[alike] = made().size
        self._places[key] = self.size
        self.size += self._sizes[alike]
        return self._places[key]
