"""The vocabulary of a Hugging Face checkpoint folder, and its signals. Nothing else imports transformers.

It is imported when a vocabulary is first read: it takes a second, and needs no torch for this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.tokens import Signals, spelled_words
from streaming.errors import ModelError
from streaming.spacing import begins_word

_SIGNAL = ("<|", "|>")  # around the name of a token that is no text
_REMEDY = "pull the model again, or name a folder with all files of a Hugging Face checkpoint"


class HuggingFaceTokenizer:
    """A byte-level vocabulary, as transformers reads it from a checkpoint's own files."""

    def __init__(self, tokenizer: Any, signals: Signals, vocabulary: int) -> None:
        """tokenizer: transformers' own. vocabulary: tokens the model knows."""
        self.signals = signals
        self.languages: tuple[str, ...] = tuple(signals.languages) or ("en",)
        self._tokenizer = tokenizer
        self._table = _table(tokenizer, vocabulary)
        self.word_starts: NDArray[np.bool_] = np.array([begins_word(entry) for entry in self._table])

    @classmethod
    def read(cls, folder: Path) -> HuggingFaceTokenizer:
        """Reads the tokenizer's files, `config.json` and `generation_config.json`; ModelError where they are no use."""
        transformers = _transformers()
        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            if (folder / "generation_config.json").is_file():
                said = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
            else:
                said = transformers.GenerationConfig.from_model_config(config)
        except Exception as error:  # what a broken file raises shares no narrower base
            raise ModelError(
                f"the tokenizer of {folder} cannot be read ({_first_line(error)}); {_REMEDY}"
            ) from error
        if len(tokenizer) <= 1:
            raise ModelError(f"{folder} holds no tokenizer.json, nor vocab.json and merges.txt; {_REMEDY}")
        if not isinstance(getattr(config, "vocab_size", None), int):
            raise ModelError(f"{folder / 'config.json'} does not say how many tokens there are; {_REMEDY}")
        return cls(tokenizer, _signals(config, said, tokenizer, folder), config.vocab_size)

    def __len__(self) -> int:
        return len(self._table)

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens spell; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self._table[token] for token in tokens).decode("utf-8", "replace").strip()

    def words(self, tokens: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
        """The words with the tokens that spell them; in a script without spaces each token is one, or nearly."""
        return spelled_words(self._table, tokens)

    def spell(self, text: str) -> tuple[int, ...]:
        """The checkpoint's own merges; the text is never read as a signal."""
        encoded = self._tokenizer.backend_tokenizer.encode
        pieces = text.split(_SIGNAL[0])  # a signal that somebody typed is text like any other
        found: list[int] = []
        for at, piece in enumerate(pieces):
            if at:
                found += encoded("<", add_special_tokens=False).ids
                piece = _SIGNAL[0][1:] + piece
            found += encoded(piece, add_special_tokens=False).ids
        return tuple(found)

    def normalised(self, text: str, language: str = "en") -> str:
        """The text without what scores should not count: case, punctuation, and in English the ways to write a number."""
        return str(self._normalisers()[language != "en"](text)).strip()

    def _normalisers(self) -> tuple[Any, Any]:
        """For English, with the spellings of the checkpoint's `normalizer.json`, and for all other languages."""
        from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

        spellings = getattr(self._tokenizer, "english_spelling_normalizer", None) or {}
        return EnglishTextNormalizer(spellings), BasicTextNormalizer()


@cache
def _transformers() -> Any:
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it need not have torch
    import transformers

    return transformers


def _signals(config: Any, said: Any, tokenizer: Any, folder: Path) -> Signals:
    """Everything from the checkpoint: what its generation config says, else its config, else the tokens' names."""
    named = {str(name): int(token) for name, token in tokenizer.get_added_vocab().items()}

    def value(name: str) -> Any:
        found = getattr(said, name, None)
        return getattr(config, name, None) if found is None else found

    def token(key: str, *names: str) -> int | None:
        found = value(key) if key else None
        if isinstance(found, list):
            found = found[0] if found else None
        for name in names:
            found = named.get(f"{_SIGNAL[0]}{name}{_SIGNAL[1]}") if found is None else found
        return None if found is None else int(found)

    start, end = token("decoder_start_token_id", "startoftranscript"), token("eos_token_id", "endoftext")
    if start is None or end is None:
        raise ModelError(f"{folder} does not say which tokens begin and end a text; {_REMEDY}")
    untimed = token("no_timestamps_token_id", "notimestamps")
    languages = _languages(value, named)
    first_time = token("", "0.00")
    if first_time is None and untimed is not None and untimed + 1 < int(config.vocab_size):
        first_time = untimed + 1
    return Signals(
        start=start,
        end=end,
        languages=languages,
        tasks=_tasks(value, named) if languages else {},
        before=token("prev_sot_token_id", "startofprev"),
        silent=token("", "nospeech", "nocaptions"),
        untimed=untimed,
        first_time=first_time,
        latest_first_time=value("max_initial_timestamp_index"),
        never=tuple(value("suppress_tokens") or ()),
        never_first=tuple(value("begin_suppress_tokens") or ()),
    )


def _languages(value: Any, named: Mapping[str, int]) -> dict[str, int]:
    """By code; none for a model that knows one language only."""
    if value("is_multilingual") is False:
        return {}
    if listed := value("lang_to_id"):
        return {_bare(name): int(token) for name, token in listed.items()}
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    codes = {_bare(name): token for name, token in named.items() if _bare(name) in LANGUAGES}
    forced = {token for _, token in value("forced_decoder_ids") or ()}
    return codes if forced & set(codes.values()) or value("is_multilingual") else {}


def _tasks(value: Any, named: Mapping[str, int]) -> dict[str, int]:
    if listed := value("task_to_id"):
        return {str(name): int(token) for name, token in listed.items()}
    names = ("transcribe", "translate")
    return {name: named[each] for name in names if (each := f"{_SIGNAL[0]}{name}{_SIGNAL[1]}") in named}


def _bare(name: str) -> str:
    return name.removeprefix(_SIGNAL[0]).removesuffix(_SIGNAL[1])


def _table(tokenizer: Any, vocabulary: int) -> list[bytes]:
    """What each token spells; signals and tokens that nobody named spell nothing."""
    decoded = _bytes_of_characters()
    added = {int(token): str(name) for name, token in tokenizer.get_added_vocab().items()}
    table = [b""] * vocabulary
    for name, token in tokenizer.get_vocab().items():
        if token >= vocabulary:
            continue
        if token in added:
            signal = name.startswith(_SIGNAL[0]) and name.endswith(_SIGNAL[1])
            table[token] = b"" if signal else name.encode()
        else:
            table[token] = b"".join(decoded.get(c) or c.encode() for c in name)
    return table


def _bytes_of_characters() -> dict[str, bytes]:
    """Byte-level vocabularies write each byte as one printable character: itself, or one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in printable]
    named = {chr(byte): bytes([byte]) for byte in printable}
    return named | {chr(0x100 + at): bytes([byte]) for at, byte in enumerate(hidden)}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
