"""Running models: weights, graphs, tokenizers, decoding. No asyncio, no network."""
