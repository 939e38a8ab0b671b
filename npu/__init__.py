"""Running models: weights, graphs, tokenizers, decoding. No asyncio, no network."""

import os

# ONNX Runtime's own builds report their use to its maker unless told otherwise before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
