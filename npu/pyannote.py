"""pyannote.audio, where it is installed: its pipelines as diarizers of recordings.

https://github.com/pyannote/pyannote-audio, 4.0. It brings torch and is never needed: see docs/recordings.md.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from streaming.audio import Samples
from streaming.errors import ModelError
from streaming.turns import Turn
from streaming.window import SAMPLE_RATE

DEFAULT_MODEL = "pyannote/speaker-diarization-community-1"
HUB = "https://huggingface.co"
_QUIET = {"PYANNOTE_METRICS_ENABLED": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}  # it would report every recording


class PyannoteDiarizer:
    """A resident pipeline. Recordings are given to it as samples, so none of its own audio readers is used."""

    def __init__(self, pipeline: Any, name: str) -> None:
        """pipeline: anything that is called as pyannote's are; see `load`."""
        self.name = f"pyannote ({name})"
        self._pipeline = pipeline

    @classmethod
    def load(cls, model: str, pipeline_class: Any = None) -> Self:
        """A pipeline out of a folder, or from the hub by its id; ModelError says in a sentence what is missing.

        A folder's models are pickles: load only what you trust. pipeline_class: None takes pyannote's.
        """
        pipeline_class = pipeline_class or _pipeline_class()
        folder = Path(model).expanduser()
        if folder.exists():
            return cls(_from_folder(pipeline_class, folder), folder.name)
        if model.startswith((".", "/", "~")) or model.count("/") != 1:
            raise ModelError(
                f"{model} does not exist; name the folder of a pipeline, or one of the hub such as {DEFAULT_MODEL}."
            )
        return cls(_from_hub(pipeline_class, model), model)

    def turns(
        self,
        audio: Samples,
        min_speakers: int | None,
        max_speakers: int | None,
        speech: Sequence[tuple[int, int]] | None = None,
        watch: Callable[[float], None] | None = None,
    ) -> list[Turn]:
        """audio [n] at 16 kHz -> turns in order of time, without overlaps where the pipeline offers that.

        It finds speech by itself, and cannot be watched.
        """
        import torch

        bounds = {"min_speakers": min_speakers, "max_speakers": max_speakers}
        wanted = {name: bound for name, bound in bounds.items() if bound is not None}
        recording = {"waveform": torch.from_numpy(audio)[None], "sample_rate": SAMPLE_RATE}
        try:
            with _without_remarks():
                found = self._pipeline(recording, **wanted)
        except Exception as error:  # whatever it throws concerns this recording
            raise ModelError(f"{self.name} failed on this recording: {error}") from error
        return _turns(found)


def _turns(found: Any) -> list[Turn]:
    """A DiarizeOutput, or what older pipelines return: an annotation."""
    for name in ("exclusive_speaker_diarization", "speaker_diarization"):
        annotation = getattr(found, name, None)
        if annotation is not None:
            break
    else:
        annotation = found
    number = {label: at for at, label in enumerate(annotation.labels())}
    return [
        Turn(
            start=round(segment.start * SAMPLE_RATE),
            end=round(segment.end * SAMPLE_RATE),
            speaker=number[label],
            settled=True,
            confidence=None,
        )
        for segment, _, label in annotation.itertracks(yield_label=True)
    ]


def _pipeline_class() -> Any:
    if find_spec("pyannote") is None or find_spec("pyannote.audio") is None:
        raise ModelError(
            "pyannote.audio is not installed; install it with: pip install 'amanuensis[pyannote]'"
            " (https://github.com/pyannote/pyannote-audio)."
        )
    os.environ.update(_QUIET)  # read when it is imported
    try:
        with _without_remarks():
            from pyannote.audio import Pipeline
    except (ImportError, OSError) as error:
        raise ModelError(
            f"pyannote.audio is installed but does not load ({_first_line(error)}); torch and torchaudio must be"
            " builds that belong together, for instance both from https://download.pytorch.org/whl/cpu."
        ) from error
    return Pipeline


def _from_folder(pipeline_class: Any, folder: Path) -> Any:
    try:
        with _without_remarks():
            return pipeline_class.from_pretrained(folder)
    except Exception as error:  # missing files, foreign pickles, other versions: all its own exceptions
        raise ModelError(
            f"{folder} is no pipeline that pyannote.audio can load ({_first_line(error)}); it should be a copy of"
            f" {HUB}/{DEFAULT_MODEL}."
        ) from error


def _from_hub(pipeline_class: Any, model: str) -> Any:
    from huggingface_hub import get_token
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each attempt
    token = get_token()  # HF_TOKEN, or what `hf auth login` has stored
    try:
        with _without_remarks():
            pipeline = pipeline_class.from_pretrained(model, token=token)
    except HfHubHTTPError as error:
        raise ModelError(_refused(model, token, error.response.status_code)) from error
    except Exception as error:
        offline = isinstance(error, LocalEntryNotFoundError | ConnectionError)
        why = "it cannot be reached" if offline else _first_line(error)
        raise ModelError(
            f"{model} could not be had from {HUB} ({why}); without a network, name a folder that"
            " holds a copy of it: --diarizer-model PATH."
        ) from error
    if pipeline is None:
        raise ModelError(_refused(model, token, None))
    return pipeline


def _refused(model: str, token: str | None, status: int | None) -> str:
    """What to do about the hub's refusal."""
    if token is None:
        return (
            f"{model} needs an account: accept its conditions at {HUB}/{model}, make a token at"
            f" {HUB}/settings/tokens and set HF_TOKEN to it."
        )
    if status == 401:
        return f"The hub does not know the token in HF_TOKEN; make another at {HUB}/settings/tokens."
    if status == 403:
        return (
            f"Accept the conditions of {model} at {HUB}/{model}, with the account that HF_TOKEN belongs to."
        )
    return f"The hub has no {model} for the account of HF_TOKEN; look at {HUB}/{model}."


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """What it prints would end up in a transcript; what it warns of concerns readers that we do not use."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
