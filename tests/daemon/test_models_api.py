"""Models over HTTP, in OpenAI's shape and ours."""

from __future__ import annotations

import asyncio

import httpx
import openai

from npu.scripted import ScriptedTranscriber


class Other(ScriptedTranscriber):
    """A second scripted model."""

    name = "owner/other"
    languages = ("de", "fr")
    translates = True


def test_the_list(daemon) -> None:
    """The default model first; of one that is not resident only that is said which is known."""

    async def main() -> None:
        others = {"owner/other": Other([])}
        async with daemon(others=others) as d, httpx.AsyncClient(base_url=d.url) as client:
            for path in ("/v1/models", "/models"):
                body = (await client.get(path)).json()
                assert body["object"] == "list"
                first, second = body["data"]
                assert first == {
                    "id": "scripted",
                    "object": "model",
                    "created": 0,
                    "owned_by": "amanuensis",
                    "installed": True,
                    "resident": True,
                    "default": True,
                    "languages": ["en"],
                    "translates": False,
                }
                assert second["id"] == "owner/other" and not second["resident"] and not second["default"]
                assert second["languages"] == [] and second["translates"] is None
            (await d.service.models.lease("owner/other")).release()
            for path in ("/v1/models/owner/other", "/models/owner/other", "/v1/models/owner%2Fother"):
                one = (await client.get(path)).json()
                assert one["resident"] and one["languages"] == ["de", "fr"] and one["translates"]
            missing = await client.get("/v1/models/whisper-9")
            assert missing.status_code == 404
            error = missing.json()["error"]
            assert error["code"] == "model_not_found" and "scripted, owner/other" in error["message"]

    asyncio.run(main())


def test_openais_client(daemon) -> None:
    """Lists and retrieves them."""

    async def main() -> None:
        async with (
            daemon(others={"owner/other": Other([])}) as d,
            openai.AsyncOpenAI(base_url=f"{d.url}/v1", api_key="none", max_retries=0) as client,
        ):
            assert [model.id async for model in client.models.list()] == ["scripted", "owner/other"]
            model = await client.models.retrieve("scripted")
            assert model.object == "model" and model.owned_by == "amanuensis"
            assert (await client.models.retrieve("owner/other")).id == "owner/other"

    asyncio.run(main())


def test_the_token(daemon) -> None:
    """Is asked for."""

    async def main() -> None:
        async with daemon(auth={"tokens": ["secret"]}) as d, httpx.AsyncClient(base_url=d.url) as client:
            assert (await client.get("/v1/models")).status_code == 401
            good = {"authorization": "Bearer secret"}
            assert (await client.get("/v1/models", headers=good)).status_code == 200

    asyncio.run(main())
