"""Models as shapes alone are as large as the models."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from npu.catalog import CATALOG, EMBEDDED, Named, resolve
from npu.lean import shipped_weights
from npu.untrained import BASE
from npu.xdna.shapes import moonshine_weights, whisper_parts, whisper_sizes, whisper_weights
from streaming.errors import ModelError

FIXTURE = Path(__file__).parents[2] / "fixtures" / "whisper-small-talk"


def shapes(of: Any) -> Any:
    """Of all arrays in a tree of dataclasses; matrices are what they multiply by, however stored."""
    if hasattr(of, "dense"):
        return of.shape
    if is_dataclass(of):
        return {field.name: shapes(getattr(of, field.name)) for field in fields(of)}
    if isinstance(of, tuple):
        return tuple(map(shapes, of))
    return getattr(of, "shape", of)


def test_every_model_of_the_catalogue() -> None:
    """Has sizes, and about as many parameters as its makers say."""
    for entry in CATALOG:
        sizes = whisper_sizes(resolve(entry.name))
        if entry.name == EMBEDDED:
            assert sizes is None
            continue
        assert sizes is not None
        d, up = sizes.width, 2 * sizes.width
        matrices = sizes.encoder_layers * (4 * d * d + up * sizes.encoder_hidden)
        matrices += sizes.decoder_layers * (8 * d * d + up * sizes.decoder_hidden)
        matrices += (sizes.vocabulary + sizes.states + sizes.tokens + 3 * d + 3 * sizes.bins) * d
        assert matrices / 1e6 == pytest.approx(entry.parameters, rel=0.04)
    assert whisper_sizes(resolve("whisper-base")) == BASE


def test_a_folder() -> None:
    """Says itself what its sizes are."""
    sizes = whisper_sizes(Named("small talk", folder=FIXTURE))
    assert sizes is not None and sizes.width < BASE.width


def test_a_stranger() -> None:
    """Is told that a pulled one has sizes."""
    with pytest.raises(ModelError, match=r"owner/name are not known here: pull it"):
        whisper_sizes(resolve("owner/name"))


def test_moonshine() -> None:
    """It has the shapes of the one that is installed with the package."""
    ours, real = moonshine_weights(), shipped_weights()
    assert shapes(ours) == shapes(real)


def test_whisper() -> None:
    """Any layer has the shapes that the sizes say, and nothing in it."""
    layer = whisper_weights(BASE).encoder_layer(5)
    assert layer.up.shape == (BASE.width, BASE.encoder_hidden)
    assert layer.down.bias is not None and not layer.down.bias.any()


def test_a_decoder() -> None:
    """It has the sizes of the model, and no tokens."""
    parts = whisper_parts(BASE)
    assert (parts.layers, parts.width, parts.vocabulary) == (BASE.decoder_layers, BASE.width, BASE.vocabulary)
    with pytest.raises(NotImplementedError):
        parts.embedded([0], [0])
