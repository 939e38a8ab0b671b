"""A small Whisper that speaks, beside the embedded model, in a daemon process: sessions, uploads, OpenAI's client."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import jiwer
import numpy as np
import openai
import pytest

from npu.catalog import resolve
from npu.manifest import FileRecord, Manifest, sha256_of
from npu.store import Store
from streaming.containers import decode_container

FIXTURES = Path(__file__).parent.parent / "fixtures"
SPEECH = FIXTURES / "speech"
MODEL = "small/talk"
SENTENCES: dict[str, Any] = json.loads((SPEECH / "sentences.json").read_text())


@pytest.fixture(scope="module")
def daemon(lasting_daemon_process, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """With the fixture as if it had been pulled."""
    store, named = Store(tmp_path_factory.mktemp("models")), resolve(MODEL)
    folder = shutil.copytree(FIXTURES / "whisper-small-talk", store.path(named))
    files = {f.name: FileRecord(f.stat().st_size, sha256_of(f)) for f in sorted(folder.iterdir())}
    Manifest(MODEL, "0" * 40, files).write(folder)
    return lasting_daemon_process(scripted=False, model={"models_dir": str(store.root)})


@pytest.fixture(scope="module")
def client(daemon: Any) -> Any:
    """OpenAI's."""
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def errors(name: str, heard: str, field: str = "text") -> float:
    """Word error rate against what was said, or what that means in English."""
    said = " ".join(sentence[field] for sentence in SENTENCES[name]["sentences"])
    plain = jiwer.Compose(
        [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.Strip(), jiwer.ReduceToListOfListOfWords()]
    )
    return float(jiwer.wer(said, heard, reference_transform=plain, hypothesis_transform=plain))


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI's client says so of translations
def test_by_openai(client: Any, daemon: Any) -> None:
    """Both languages without being told, translation, and a stream; a model that cannot translate says so."""
    models = {each.id for each in client.models.list()}
    assert models == {"moonshine-tiny", MODEL}
    create = client.audio.transcriptions.create
    for name, language in (("english-pair.flac", "english"), ("spanish-three.flac", "spanish")):
        found = create(
            model=MODEL,
            file=SPEECH / name,
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
        assert errors(name, found.text) <= 0.1 and found.language == language
        assert found.segments[0].avg_logprob < 0 and found.segments[0].tokens
        first = SENTENCES[name]["sentences"][0]
        assert abs(found.words[0].start - first["start"]) < 0.4
    english = client.audio.translations.create(model=MODEL, file=SPEECH / "spanish-three.flac")
    assert errors("spanish-three.flac", english.text, "english") <= 0.1
    events = list(create(model=MODEL, file=SPEECH / "english-talk.flac", stream=True, language="en"))
    assert events[-1].type == "transcript.text.done" and errors("english-talk.flac", events[-1].text) <= 0.1
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert len(deltas) > 1 and "".join(deltas) == events[-1].text
    with pytest.raises(openai.BadRequestError, match="translate"):
        client.audio.translations.create(model="moonshine-tiny", file=SPEECH / "spanish-three.flac")
    with pytest.raises(openai.BadRequestError, match="es"):
        create(model=MODEL, file=SPEECH / "english-1.flac", language="ja")


def test_a_session_of_another_model(daemon: Any, producer: Any) -> None:
    """Live partials and finals of it, while a session of the default model goes on."""
    with (SPEECH / "english-talk.flac").open("rb") as file:
        samples = np.concatenate(list(decode_container(file)))
    pcm = (samples[: 16 * 16_000] * 32_767).astype("<i2").tobytes()

    async def talk(**more: Any) -> list[dict[str, Any]]:
        async with producer(daemon.url) as p:
            started = await p.start(**more)
            assert started["model"] == more.get("model", "moonshine-tiny")
            await p.send(pcm, pause_s=0.01)
            await p.say(type="stop")
            await p.until("stopped", 40)
            return p.events

    async def both() -> list[list[dict[str, Any]]]:
        return await asyncio.gather(talk(model=MODEL), talk())

    ours, others = asyncio.run(both())
    finals = [event for event in ours if event["type"] == "final"]
    said = [s["text"] for s in SENTENCES["english-talk.flac"]["sentences"] if s["end"] < 16]
    heard = " ".join(final["text"] for final in finals)
    assert jiwer.wer(" ".join(said), " ".join(heard.split()[: len(" ".join(said).split())])) <= 0.1
    assert {final["language"] for final in finals} == {"en"}
    texts: dict[int, str] = {}
    for event in ours:
        if event["type"] in ("partial", "final"):
            assert event["text"].startswith(texts.get(event["utterance"], ""))
            texts[event["utterance"]] = event["text"]
    assert any(event["type"] == "partial" and event["text"] + event["tentative"] for event in ours)
    assert any(event["type"] == "final" for event in others)


def test_live_languages(daemon: Any, producer: Any) -> None:
    """Each is found out, and spoken Spanish comes as English text where that is asked for; partials come before."""

    async def talk(name: str, **more: Any) -> list[dict[str, Any]]:
        with (SPEECH / name).open("rb") as file:
            samples = np.concatenate(list(decode_container(file)))
        async with producer(daemon.url) as p:
            assert (await p.start(model=MODEL, **more))["model"] == MODEL
            await p.send((samples * 32_767).astype("<i2").tobytes(), pause_s=0.01)
            await p.say(type="stop")
            await p.until("stopped", 40)
            events: list[dict[str, Any]] = p.events
        return events

    async def main() -> None:
        for name, language, field, more in (
            ("english-pair.flac", "en", "text", {}),
            ("spanish-1.flac", "es", "text", {}),
            ("spanish-1.flac", "es", "english", {"task": "translate"}),
        ):
            events = await talk(name, **more)
            finals = [event for event in events if event["type"] == "final"]
            assert {final["language"] for final in finals} == {language}
            text = " ".join(final["text"] for final in finals)
            assert errors(name, text, field) <= 0.1, text
            shown = {e["text"] + e["tentative"] for e in events if e["type"] == "partial"}
            assert set(" ".join(shown).lower().split()) & set(text.lower().split()), shown

    asyncio.run(main())


def test_a_job(daemon: Any) -> None:
    """Is accepted, says how far it is, and holds its result."""
    with httpx.Client(base_url=daemon.url, timeout=30) as http:
        with (SPEECH / "english-talk.flac").open("rb") as file:
            accepted = http.post("/transcribe", files={"file": file}, data={"model": MODEL, "async": "true"})
        assert accepted.status_code == 202, accepted.text
        url = accepted.headers["location"]
        with http.stream("GET", f"{url}/events") as stream:
            kinds = [
                line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event:")
            ]
        assert kinds[-1] == "done" and set(kinds) <= {"progress", "done"}
        result = http.get(url).json()["result"]
        assert errors("english-talk.flac", result["text"]) <= 0.1
        assert http.delete(url).status_code == 204 and http.get(url).status_code == 404
