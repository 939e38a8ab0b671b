"""Jobs: recordings whose transcripts are fetched later, with a model that the test holds up."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import httpx
import pytest

from daemon.jobs import Job
from npu.scripted import ScriptedTranscriber
from streaming.window import Hypothesis, Window

Test = Callable[[httpx.AsyncClient, Any], Coroutine[Any, Any, None]]


SCRIPT = [(0.4 * i, 0.4 * i + 0.3, f"word{i}") for i in range(1_500)]


class Held(ScriptedTranscriber):
    """Decodes recordings only while the gate is open."""

    def __init__(self) -> None:
        super().__init__(SCRIPT)
        self.gate = threading.Event()
        self.batches = 0

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        self.batches += 1
        assert self.gate.wait(20)
        return super().transcribe_all(windows)


async def _until(client: httpx.AsyncClient, url: str, *states: str) -> dict[str, Any]:
    for _ in range(500):
        job: dict[str, Any] = (await client.get(url)).json()
        if job["state"] in states:
            return job
        await asyncio.sleep(0.03)
    raise TimeoutError(job)


async def _begun(client: httpx.AsyncClient, speech: dict[str, Any], **fields: str) -> str:
    answer = await client.post("/v1/jobs", files=speech, data=fields)
    assert answer.status_code == 202, answer.text
    url: str = answer.headers["location"]
    assert url == answer.json()["url"] == f"/v1/jobs/{answer.json()['id']}"
    return url


async def _events(response: httpx.Response) -> AsyncIterator[tuple[int | None, str, Any]]:
    """(id, event, data) as they come; comments as events without a name."""
    number, kind = None, ""
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            number = int(value)
        elif name == "event":
            kind = value
        elif name == "data":
            yield number, kind, json.loads(value)
        elif not name and value:
            yield None, "", value


def test_a_job(visit, speech) -> None:
    """Is accepted at once, says how far it is, and has in the end what /transcribe would have answered."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        fields = {"word_timestamps": "true", "diarization": "true"}
        asked = (await client.post("/transcribe", files=speech, data=fields)).json()
        url = await _begun(client, speech, **fields)
        job = await _until(client, url, "done")
        assert job["result"] == asked and job["error"] is None and job["position"] is None
        assert job["file"] == "beckett.wav" and job["model"] == "scripted"
        assert job["created"] <= job["ended"]
        progress = job["progress"]
        assert progress["phase"] == "over" and progress["share"] == 1 and progress["remaining_s"] == 0
        assert progress["duration_s"] == pytest.approx(asked["duration"], abs=0.1)
        assert progress["read_s"] == pytest.approx(asked["duration"], abs=0.1)
        assert progress["diarized"] == 1
        (listed,) = (await client.get("/v1/jobs")).json()["jobs"]
        assert listed == {key: value for key, value in job.items() if key != "result"}
        assert (await client.delete(url)).status_code == 204
        gone = await client.get(url)
        assert gone.status_code == 404 and gone.json()["error"]["code"] == "unknown_job"

    visit(test)


@pytest.mark.parametrize("path", ["/transcribe", "/api/transcribe"])
def test_a_job_by_the_other_path(visit, speech, path: str) -> None:
    """`async=true` makes one of it."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        answer = await client.post(path, files=speech, data={"async": "true"})
        assert answer.status_code == 202
        assert (await _until(client, answer.headers["location"], "done"))["result"]["text"]
        assert "text" in (await client.post(path, files=speech, data={"async": "false"})).json()

    visit(test)


def test_the_queue(visit, speech, eventually) -> None:
    """Each job knows its place; jobs and requests share the places, and beyond them it is 429."""
    held = Held()

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        urls = [await _begun(client, speech) for _ in range(3)]
        await eventually(lambda: held.batches == 1)
        jobs = [(await client.get(url)).json() for url in urls]
        assert [job["state"] for job in jobs] == ["running", "queued", "queued"]
        assert [job["position"] for job in jobs] == [None, 1, 2]
        assert jobs[0]["progress"]["phase"] == "transcribing" and jobs[0]["progress"]["share"] == 0
        assert jobs[0]["progress"]["read_s"] > 5.0 and jobs[1]["progress"]["phase"] == "waiting"
        for path in ("/v1/jobs", "/transcribe"):
            full = await client.post(path, files=speech)
            assert full.status_code == 429 and int(full.headers["retry-after"]) > 0
        assert (await client.delete(urls[1])).status_code == 204
        assert (await client.get(urls[2])).json()["position"] == 1
        url = await _begun(client, speech)  # the place is free again
        held.gate.set()
        for each in (urls[0], urls[2], url):
            await _until(client, each, "done")
        assert held.batches == 3

    visit(test, held, uploads={"waiting": 2})


def test_cancelling(visit, speech, eventually) -> None:
    """Ends the work with the batch in hand; its place is free then, and whoever watches is told."""
    held = Held()

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        url = await _begun(client, speech)
        await eventually(lambda: held.batches == 1)
        async with client.stream("GET", f"{url}/events") as response:
            events = _events(response)
            assert (await anext(events))[1] == "progress"
            assert (await client.delete(url)).status_code == 204
            seen = [each async for each in events]
        assert seen[-1][1] == "error" and seen[-1][2]["error"]["code"] == "cancelled"
        assert seen[-1][2]["state"] == "cancelled" and seen[-1][2]["result"] is None
        assert (await client.get(url)).status_code == 404
        assert (await client.get("/v1/jobs")).json() == {"jobs": []}
        held.gate.set()
        assert (await client.post("/transcribe", files=speech)).status_code == 200
        first = d.service.models._first
        await eventually(lambda: first.users == 0 and not d.service._errands)

    visit(test, held, uploads={"waiting": 1})


def test_events(visit, speech, eventually) -> None:
    """Progress, then the result; who comes back with the last id gets what is newer, and in the end nothing at all."""
    held = Held()

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        url = await _begun(client, speech)
        await eventually(lambda: held.batches == 1)
        async with client.stream("GET", f"{url}/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            events = _events(response)
            number, kind, job = await anext(events)
            assert kind == "progress" and job["state"] == "running" and "result" not in job
        async with client.stream("GET", f"{url}/events", headers={"last-event-id": str(number)}) as response:
            held.gate.set()
            seen = [each async for each in _events(response)]
        numbers = [each[0] for each in seen]
        assert numbers == sorted(set(numbers)) and numbers[0] > number
        assert [kind for _, kind, _ in seen[:-1]] == ["progress"] * (len(seen) - 1)
        last, kind, job = seen[-1]
        assert kind == "done" and job["result"]["text"] == (await client.get(url)).json()["result"]["text"]
        again = await client.get(f"{url}/events", headers={"last-event-id": str(last)})
        assert again.status_code == 204
        assert (await client.get(f"{url}/events?after=x")).status_code == 400
        assert (await client.get("/v1/jobs/none/events")).status_code == 404

    visit(test, held)


def test_signs_of_life(visit, speech, eventually, monkeypatch) -> None:
    """Come while nothing happens."""
    monkeypatch.setattr("daemon.event_stream.KEEP_ALIVE_S", 0.1)
    held = Held()

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        url = await _begun(client, speech)
        await eventually(lambda: held.batches == 1)
        async with client.stream("GET", f"{url}/events") as response:
            events = _events(response)
            assert (await anext(events))[1] == "progress"
            async with asyncio.timeout(5):
                while (await anext(events))[2] != "still here":
                    pass
        held.gate.set()
        await _until(client, url, "done")

    visit(test, held)


def test_a_job_that_fails(visit) -> None:
    """Has the error that the request would have had; what can be known beforehand is refused at once."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        noise = {"file": ("notes.txt", b"not audio at all" * 100)}
        url = await _begun(client, noise)
        job = await _until(client, url, "failed")
        assert job["error"]["param"] == "file" and job["error"]["code"] == "bad_message"
        assert job["result"] is None
        async with client.stream("GET", f"{url}/events") as response:
            ((_, kind, told),) = [each async for each in _events(response)]
        assert kind == "error" and told == job
        for fields, status, param in (
            ({"model": "enormous"}, 404, "model"),
            ({"language": "Klingon"}, 400, "language"),
            ({"task": "translate"}, 400, "model"),
            ({"beam": "0"}, 400, "beam"),
        ):
            refused = await client.post("/v1/jobs", files=noise, data=fields)
            assert refused.status_code == status and refused.json()["error"]["param"] == param

    visit(test)


@pytest.mark.parametrize("limits", [{"keep_jobs": 2}, {"keep_jobs_bytes": 1 << 20}])
def test_results_that_are_forgotten(visit, speech, monkeypatch, limits: dict[str, int]) -> None:
    """The oldest go when there are too many, or too much of them."""
    if "keep_jobs_bytes" in limits:
        monkeypatch.setattr(Job, "receive_transcript", _large)

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        urls = [await _begun(client, speech) for _ in range(3)]
        for url in urls[1:]:
            await _until(client, url, "done")
        assert (await client.get(urls[0])).status_code == 404
        assert len((await client.get("/v1/jobs")).json()["jobs"]) == 2

    visit(test, uploads=limits)


_received = Job.receive_transcript


def _large(job: Job, standing: Any, transcript: Any) -> None:
    _received(job, standing, transcript)
    job.result = b'"' + b"x" * 500_000 + b'"'


def test_results_that_expire(visit, speech, eventually) -> None:
    """After a while."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        url = await _begun(client, speech)
        await _until(client, url, "done")

        async def gone() -> bool:
            return (await client.get(url)).status_code == 404

        await eventually(gone)

    visit(test, uploads={"keep_jobs_s": 0.5})


def test_a_shutdown(daemon, speech, eventually) -> None:
    """Waits for no job."""
    held = Held()

    async def main() -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            async with daemon(held) as d:
                client.base_url = d.url
                for _ in range(2):
                    await _begun(client, speech)
                await eventually(lambda: held.batches == 1)
                begun = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - begun < 5
            held.gate.set()

    asyncio.run(main())


def test_the_token(visit, speech) -> None:
    """Is asked for by every path; a ticket will do for the events."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        assert (await client.post("/v1/jobs", files=speech)).status_code == 401
        good = {"authorization": "Bearer secret"}
        answer = await client.post("/v1/jobs", files=speech, headers=good)
        url = answer.headers["location"]
        for path in ("/v1/jobs", url, f"{url}/events"):
            assert (await client.get(path)).status_code == 401
        assert (await client.delete(url)).status_code == 401
        ticket = (await client.post("/v1/tickets", headers=good)).json()["ticket"]
        async with client.stream("GET", f"{url}/events?ticket={ticket}") as response:
            assert response.status_code == 200
            assert [each async for each in _events(response)][-1][1] == "done"

    visit(test, auth={"tokens": ["secret"]})
