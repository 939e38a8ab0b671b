from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu.hf_tokens import HuggingFaceTokenizer
from streaming.errors import ModelError

VOCABULARY = 800

Lay = Callable[..., Path]


@pytest.fixture(scope="module")
def several(lay_vocabulary: Lay, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTokenizer:
    """Of a model that knows languages and tasks."""
    return HuggingFaceTokenizer.read(lay_vocabulary(tmp_path_factory.mktemp("several")))


def token(tokenizer: HuggingFaceTokenizer, name: str) -> int:
    return int(tokenizer._tokenizer.convert_tokens_to_ids(name))


def test_signals(several: HuggingFaceTokenizer) -> None:
    """They are those of the checkpoint's files."""
    signals = several.signals
    assert signals.start == token(several, "<|startoftranscript|>")
    assert signals.end == token(several, "<|endoftext|>")
    assert signals.languages == {code: token(several, f"<|{code}|>") for code in ("en", "de", "zh")}
    assert several.languages == ("en", "de", "zh")
    assert signals.tasks == {task: token(several, f"<|{task}|>") for task in ("transcribe", "translate")}
    assert signals.before == token(several, "<|startofprev|>")
    assert signals.silent == token(several, "<|nospeech|>")
    assert signals.untimed == token(several, "<|notimestamps|>")
    assert signals.first_time == token(several, "<|0.00|>")
    assert (signals.latest_first_time, signals.never, signals.never_first) == (50, (1, 2), (220, signals.end))
    assert len(several) == len(several.word_starts) == VOCABULARY


def test_a_model_of_one_language(lay_vocabulary: Lay, tmp_path: Path) -> None:
    """It is told neither language nor task, although its vocabulary names some."""
    tokenizer = HuggingFaceTokenizer.read(lay_vocabulary(tmp_path, multilingual=False))
    assert tokenizer.languages == ("en",)
    signals = tokenizer.signals
    assert signals.opening("en", "transcribe") == (signals.start, signals.untimed)


@pytest.mark.parametrize("forced", [True, False])
def test_a_checkpoint_from_before_generation_configs(
    forced: bool, several: HuggingFaceTokenizer, lay_vocabulary: Lay, tmp_path: Path
) -> None:
    """The names of its tokens say what its files do not; what its openings are forced to, whether there are languages."""
    lay_vocabulary(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    if forced:
        config["forced_decoder_ids"] = [[1, several.signals.languages["en"]], [2, 5], [3, 6]]
    (tmp_path / "config.json").write_text(json.dumps(config))
    signals = HuggingFaceTokenizer.read(tmp_path).signals
    assert (signals.start, signals.end) == (several.signals.start, several.signals.end)
    assert signals.languages == (several.signals.languages if forced else {})
    assert signals.tasks == (several.signals.tasks if forced else {})
    assert signals.untimed == several.signals.untimed
    assert signals.first_time == several.signals.first_time


TEXTS = [
    " Zoë's café, (really) 3.5!",
    "今天天气很好。「你好」 AI",
    " <|en|> and <| more",
    "  two  spaces ",
    "สวัสดี ครับ",
    "안녕 하세요",
]


@pytest.mark.parametrize("text", TEXTS)
def test_spelling(text: str, several: HuggingFaceTokenizer) -> None:
    """Tokens that spell a text spell it back; what looks like a signal is text."""
    tokens = several.spell(text)
    assert several.text(tokens) == text.strip()
    assert not set(tokens) & {several.signals.start, *several.signals.languages.values()}


def test_words(several: HuggingFaceTokenizer) -> None:
    """One for each stretch between spaces, and for each character of a script without."""

    def texts(text: str) -> list[str]:
        return [word for word, _ in several.words(several.spell(text))]

    assert texts(" It's the end, (truly) so.") == ["It's", "the", "end,", "(truly)", "so."]
    assert texts("今天很好。「你好」 AI is") == ["今", "天", "很", "好。", "「你", "好」", "AI", "is"]
    signals = several.signals
    assert signals.first_time is not None
    timed = [signals.first_time, *several.spell(" the end"), signals.first_time + 9, signals.end]
    assert [word for word, _ in several.words(timed)] == ["the", "end"]


@given(tokens=st.lists(st.integers(0, VOCABULARY - 1), max_size=30))
def test_any_tokens(tokens: list[int], several: HuggingFaceTokenizer) -> None:
    """The words' tokens are the tokens up to the last that spells; without their spaces they are the text."""
    words = several.words(tokens)
    joined = [token for _, spelling in words for token in spelling]
    assert joined == tokens[: len(joined)]
    assert not several.text(tokens[len(joined) :])
    assert all(text for text, _ in words)
    if b"\xef\xbf\xbd".decode() not in several.text(tokens):
        assert "".join("".join(text for text, _ in words).split()) == "".join(several.text(tokens).split())


@given(tokens=st.lists(st.integers(0, 300), max_size=20), more=st.lists(st.integers(0, 300), max_size=20))
def test_words_before_a_word_start(tokens: list[int], more: list[int], several: HuggingFaceTokenizer) -> None:
    """Words that are whole stay as they are, whatever word begins after them."""
    words = [spelling for _, spelling in several.words(tokens)]
    whole = [token for spelling in words for token in spelling]
    grown = [spelling for _, spelling in several.words([*whole, *several.spell(" the"), *more])]
    assert grown[: len(words)] == words


def test_normalised_text(several: HuggingFaceTokenizer) -> None:
    """What scores do not count is gone."""
    assert several.normalised("Mr. Twenty-One, okay?") == "mister 21 okay"
    assert several.normalised("¡Hola, señor!", "es") == "hola señor"


def test_files_that_are_no_use(lay_vocabulary: Lay, tmp_path: Path) -> None:
    """They are refused, and the sentence says what to do."""
    with pytest.raises(ModelError, match="pull the model again"):
        HuggingFaceTokenizer.read(tmp_path / "nowhere")
    folder = lay_vocabulary(tmp_path / "a")
    for name in ("tokenizer.json", "config.json", "generation_config.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelError, match="pull the model again"):
            HuggingFaceTokenizer.read(folder)
        (folder / name).write_bytes(whole)
    for path in folder.glob("*tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="pull the model again"):
        HuggingFaceTokenizer.read(folder)


def test_import() -> None:
    """Who uses no such checkpoint never pays for transformers."""
    code = "import sys, npu.hf_tokens, npu.loading; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
