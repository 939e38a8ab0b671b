"""A model of the catalogue on the NPU, predicted: its encoder and decoder composed for a window's length without its
weights, priced on every machine that the cost model knows.
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
from npu.xdna import overlay_i8
from npu.xdna.composer import Composer
from npu.xdna.composition import Composition, Constants, Values
from npu.xdna.cost import EXPECTED, KERNELS, MACHINES, Machine, StageCost, price
from npu.xdna.decoder_forecast import DecoderStages
from npu.xdna.decoders import Parts
from npu.xdna.encoders import STEM, Plan, moonshine, whisper
from npu.xdna.forecast import (
    TOKENS_A_SECOND,
    Encoding,
    Lockstep,
    Precision,
    Transcription,
)
from npu.xdna.gemm import SPAN, TILE
from npu.xdna.layers_i8 import layers_plan
from npu.xdna.lockstep import fewer_in_lockstep
from npu.xdna.overlay import overlay
from npu.xdna.quant import QuantisedEncoder
from npu.xdna.shapes import (
    ENGLISH_ONLY,
    MOONSHINE_HIDDEN,
    moonshine_weights,
    quantised_layers,
    whisper_parts,
    whisper_sizes,
    whisper_weights,
)
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

LIVE_S = 5.0  # of a window of Moonshine's
_UNSEEN_STATES = 2  # of Moonshine's last span
_NO_STACKS = dict.fromkeys(KERNELS, 0)  # bytes: designs are priced here, not checked
_BF16, _I8 = overlay(_NO_STACKS, ()), overlay_i8.overlay(_NO_STACKS, ())
_LAYER = re.compile(r"layer \d+ ")
MOST_AT_ONCE = {
    Precision.BF16: TILE,
    Precision.INT8: 1,
}  # tokens of a window that a pass of the decoder takes
_EXCHANGES = (
    2  # of overlays for a window, where its layers are in 8 bits and what is before and after them is not
)


@dataclass(frozen=True)
class Question:
    """What is to be predicted."""

    model: str  # a name of the catalogue, or a folder
    seconds: float | None = None  # of a window; None: 30 of Whisper's, 5 of Moonshine's
    precision: Precision = Precision.BF16  # of the encoder's layers
    batch: int = 8  # windows decoded side by side
    tokens: int | None = None  # of a window; None: three a second
    decoder: Precision | None = None  # None: as the encoder


@dataclass(frozen=True)
class Prediction:
    """The answer, machine by machine."""

    model: str
    seconds: float
    precision: Precision  # of the encoder's layers
    decoder: Precision
    lockstep: Lockstep
    found: tuple[Transcription, ...]  # on each of MACHINES

    def on(self, machine: Machine) -> Transcription:
        """On one of them."""
        return next(each for each in self.found if each.encoding.machine is machine)

    @property
    def expected(self) -> Transcription:
        """On Hawk Point."""
        return self.on(EXPECTED)


@dataclass(frozen=True)
class _Model:
    """Either family's, as far as it is priced."""

    plan: Plan  # of its encoder
    layers: QuantisedEncoder  # in 8 bits
    parts: Parts  # of its decoder
    opening: int  # tokens that are known before the first
    asked: tuple[int, ...]  # and how many of them go in at a time: for language and silence, and for the rest

    @classmethod
    def moonshine(cls, states: int) -> _Model:
        weights = moonshine_weights()
        plan = moonshine(weights, HEADS, _Places(), ceil((states + _UNSEEN_STATES) / SPAN))
        return cls(
            plan,
            quantised_layers(WIDTH, MOONSHINE_HIDDEN, HEADS, TINY.layers, turned=True),
            Parts.moonshine(weights, TINY),
            opening=0,
            asked=(),
        )

    @classmethod
    def whisper(cls, sizes: Sizes, states: int) -> _Model:
        of_encoder = (sizes.width, sizes.encoder_hidden, sizes.encoder_heads, sizes.encoder_layers)
        several = sizes.vocabulary != ENGLISH_ONLY  # languages: they and the task have tokens
        return cls(
            whisper(whisper_weights(sizes), _Places(), ceil(states / SPAN)),
            quantised_layers(*of_encoder, turned=False),
            whisper_parts(sizes),
            opening=3 if several else 1,
            asked=(1, 2) if several else (1,),
        )


def predict(question: Question) -> Prediction:
    """ModelError where the model is not known, or its windows are never so long."""
    named = resolve(question.model)
    sizes = whisper_sizes(named)
    seconds = _seconds(named.name, sizes, question.seconds)
    tokens = max(1, round(seconds * TOKENS_A_SECOND)) if question.tokens is None else question.tokens
    states = ceil(seconds * SAMPLE_RATE / (STATE_SAMPLES if sizes is None else FRAMES_PER_STATE * HOP))
    model = _Model.moonshine(states) if sizes is None else _Model.whisper(sizes, states)
    decoder = question.decoder or question.precision
    openings = _openings(model.asked, question.batch, MOST_AT_ONCE[decoder])
    lockstep = Lockstep(states, tokens, question.batch, model.opening, *openings)
    encoding, decoding = (
        _encoding(model, question.precision),
        DecoderStages(model.parts, lockstep, _Places(), decoder),
    )
    found = tuple(Transcription(encoding(each), decoding.decoding(each), seconds) for each in MACHINES)
    return Prediction(named.name, seconds, question.precision, decoder, lockstep, found)


def _openings(asked: tuple[int, ...], batch: int, at_once: int) -> tuple[int, int]:
    """Passes that each window has for itself, and those of all: what a window is not asked for comes with its text.

    at_once: tokens of a window that a pass takes.
    """
    if batch == 1:
        return len(asked[:1]), 0
    shared = [tokens for tokens in asked if fewer_in_lockstep(tokens, batch, at_once)]
    return len(asked) - len(shared), sum(shared)


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


def _encoding(model: _Model, precision: Precision) -> Callable[[Machine], Encoding]:
    plan = model.plan
    if precision is Precision.BF16:
        units, dispatches = plan.units, tuple(plan.dispatches().values())
        return lambda machine: Encoding(
            machine,
            tuple(cost for each in dispatches for cost in _costs(plan.composer, each, machine)),
            len(dispatches),
            len(units),
        )
    stem = plan.dispatches()[STEM]
    layers = layers_plan(model.layers, _Places(), ceil(plan.out.rows / SPAN)).composer

    def encoding(machine: Machine) -> Encoding:
        stages = _costs(plan.composer, stem, machine) + _costs(layers, tuple(layers.units), machine)
        return Encoding(machine, stages, 2, len(stem) + len(layers.units), _EXCHANGES)

    return encoding


def _costs(composer: Composition, units: tuple[str, ...], machine: Machine) -> tuple[StageCost, ...]:
    """Of one dispatch."""
    arguments = composer.arguments(composer.work)
    design = _BF16 if isinstance(composer, Composer) else _I8
    stages = [stage for unit in units for stage in composer.units[unit]]
    return tuple(
        price(design, stage, arguments, machine, before=before)
        for before, stage in zip([None, *stages], stages, strict=False)
    )


class _Places(Constants):
    """Where constants would lie. One layer is as large as another, and only one is laid out."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[tuple[object, ...], int] = {}

    def place(self, key: tuple[object, ...], made: Callable[[], Values]) -> int:
        """Where it begins."""
        if key in self._places:
            return self._places[key]
        alike = tuple(_LAYER.sub("", part) if isinstance(part, str) else part for part in key)
        if alike not in self._sizes:
            self._sizes[alike] = made().size
        self._places[key] = self.size
        self.size += self._sizes[alike]
        return self._places[key]
