"""The section of the configuration about the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from daemon.section import Section
from npu.acceleration import DecoderPlace, Mode, NpuPrecision

Precision = Literal["int8", "fp16", "fp32"]
LiveContext = Literal["full", "window"]


class Model(Section):
    """What turns speech into text."""

    name: str = "moonshine-tiny"
    """Name of the model, owner/name of one of the hub, or the folder of a checkpoint; see `amanuensis models list`."""

    device: str = "auto"
    """What it runs on: "auto", "cpu" or "npu".

    "auto" is the NPU where one is there, has its package and proves itself, and the CPU otherwise; "npu" is the same,
    and warns where it is the CPU.
    """

    npu_decoder: DecoderPlace = "cpu"
    """Where the decoder of a model runs whose encoder is on the NPU.

    "cpu" is for live speech; "npu" for recordings, many windows of which share its steps there.
    """

    npu_precision: NpuPrecision = "bf16"
    """Numbers on the NPU: "bf16", or "int8" for less to move.

    With the decoder on the CPU "int8" is for the encoder's layers, and wants `amanuensis models quantize MODEL` first, for
    each model that is to use it. With the decoder on the NPU it is for the decoder: fastest for recordings.
    """

    precision: Precision = "int8"
    """Weights of pulled models: "int8" is fastest, "fp32" is what the checkpoint says, "fp16" takes half the memory."""

    threads: int = Field(default=1, ge=1, le=64)
    """Cores for one run of a pulled model. [engine] workers run several at once: more is for few sessions."""

    live_context: LiveContext = "full"
    """Context of live speech: "full" pads it to what the model was trained on; "window" does not, and is faster.

    How accurate a model is on short contexts is the checkpoint's.
    """

    cache_dir: str = ""
    """Where prepared models are kept; empty means the user's cache directory."""

    models_dir: str = ""
    """Where pulled models are kept; empty means amanuensis/models in the user's data directory."""

    idle_unload_s: float = Field(default=600.0, ge=0)
    """Another model, which a session or request has named, leaves memory once nobody has used it for this long; 0 keeps
    it. The one above stays in any case: whoever names none must not wait for it."""

    most_resident: int = Field(default=3, ge=1, le=64)
    """Models in memory at once, the one above among them. Where all are in use, another one is refused."""

    @property
    def npu(self) -> Mode:
        """What the NPU does."""
        return Mode(self.npu_decoder, self.npu_precision)

    @property
    def cache_path(self) -> Path | None:
        """The directory of prepared models, None for the user's."""
        return Path(self.cache_dir).expanduser() if self.cache_dir else None

    @property
    def models_path(self) -> Path | None:
        """The directory of pulled models, None for the user's."""
        return Path(self.models_dir).expanduser() if self.models_dir else None

    @property
    def loading(self) -> dict[str, Any]:
        """What `npu.loading.load_transcriber` takes besides the name of a model and the progress."""
        return {
            "device": self.device,
            "cache_dir": self.cache_path,
            "precision": self.precision,
            "threads": self.threads,
            "live_context": self.live_context,
            "models_dir": self.models_path,
            "npu": self.npu,
        }
