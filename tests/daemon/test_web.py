"""The HTTP side of a real daemon: pages, probes, status, errors, and who is let in."""

from __future__ import annotations

import asyncio
import html.parser
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from streaming.errors import JournalError
from streaming.protocol import AudioFormat, Start

START = Start(audio=AudioFormat(encoding="pcm_s16le", sample_rate=16_000))
Test = Callable[[httpx.AsyncClient, Any], Coroutine[Any, Any, None]]


@pytest.fixture
def visit(daemon) -> Callable[..., None]:
    """Runs a test's coroutine with a client and the daemon it talks to."""

    def run(test: Test, **sections: Any) -> None:
        async def main() -> None:
            async with daemon(**sections) as d, httpx.AsyncClient(base_url=d.url) as client:
                await test(client, d)

        asyncio.run(main())

    return run


def _error(response: httpx.Response) -> dict[str, Any]:
    """The error object, complete and alone."""
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


class _Page(html.parser.HTMLParser):
    """What a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def test_the_overview(visit) -> None:
    """Is JSON for programs, a page with links for people, and every link leads somewhere."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        data = (await client.get("/")).json()
        assert data["name"] == "amanuensis" and "/v1/stream" in data["paths"]
        page = await client.get("/", headers={"accept": "text/html,*/*;q=0.8"})
        assert page.headers["content-type"].startswith("text/html")
        links = _Page(page.text).links
        assert {"/web", "/docs"} <= set(links)
        for link in set(links):
            assert (await client.get(link)).status_code in (200, 307), link

    visit(test)


def test_the_docs(visit) -> None:
    """Name every path of the API, need no other host, and link to objects that are there."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        page = await client.get("/docs")
        spec = (await client.get("/openapi.json")).json()
        for path in ("/v1/sessions", "/v1/sessions/{session}/events", "/status", "/v1/tickets"):
            assert path in spec["paths"] and f"<code>{path}</code>" in page.text
        assert "http://" not in page.text and "https://" not in page.text and "<script" not in page.text
        for link in _Page(page.text).links:
            assert link.startswith("/") or f'id="{link[1:]}"' in page.text, link
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy

    visit(test)


def test_the_web_page(visit) -> None:
    """Is served from the package with types, validators and a strict policy; /web keeps the query."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        moved = await client.get("/web?session=talk")
        assert moved.status_code == 307 and moved.headers["location"] == "web/?session=talk"
        for path, kind in (("", "text/html"), ("transcript.js", "text/javascript")):
            answer = await client.get(f"/web/{path}")
            if path == "" and answer.status_code == 404:
                pytest.skip("the page has no index.html yet")
            assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
            assert answer.headers["cache-control"] == "no-cache"
            policy = answer.headers["content-security-policy"]
            assert "script-src 'self'" in policy and "unsafe" not in policy and "http" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = await client.get(f"/web/{path}", headers={"if-none-match": answer.headers["etag"]})
            assert again.status_code == 304 and again.content == b""

    visit(test)


@pytest.mark.parametrize(
    "path",
    [
        "../__init__.py",
        "..%2f__init__.py",
        "%2e%2e/__init__.py",
        "a/../../__init__.py",
        "..%5c__init__.py",
        "/etc/passwd",
        "fonts",
        "nothing.js",
        "transcript.js/x",
        "%00",
        "./transcript.js%00.html",
    ],
)
def test_paths_that_lead_out_of_the_page(visit, path: str) -> None:
    """Are 404, in the one shape."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        host, port = d.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))  # httpx would tidy the path up
        writer.write(f"GET /web/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ")[1] == b"404" and b'{"error":' in answer

    visit(test)


def test_the_probes(visit) -> None:
    """/health is about the process, /ready about the next session: it says why not."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/ready")).json() == {"status": "ready"}
        await d.service.open_session(START)
        full = await client.get("/ready")
        assert full.status_code == 503 and "taken" in _error(full)["message"]
        assert _error(full)["code"] == "not_ready"
        assert (await client.get("/health")).status_code == 200

    visit(test, engine={"capacity": 1})


def test_a_journal_that_cannot_be_written(visit) -> None:
    """/ready says no for as long as it is so, and yes again by itself."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        db = d.service.journal._file._db
        db.execute("PRAGMA query_only = ON")
        with pytest.raises(JournalError):
            await d.service.open_session(START)
        for _ in range(2):
            assert "journal" in _error(await client.get("/ready"))["message"]
        db.execute("PRAGMA query_only = OFF")
        assert (await client.get("/ready")).status_code == 200

    visit(test)


def test_the_status(visit) -> None:
    """Says what runs on what, how many sessions fit and which are live, and whose models these are."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        opened = await d.service.open_session(START.model_copy(update={"session": "talk", "title": "A talk"}))
        d.service.notes.append("Something to know.")
        status = (await client.get("/status")).json()
        assert status["version"] == d.service.version and status["uptime_s"] >= 0
        assert status["models"] == [{"name": "scripted", "device": "script"}]
        assert status["npu"]["state"] == "unavailable" and "not asked for" in status["npu"]["reason"]
        assert status["capacity"] == {"sessions": 16, "free": 15}
        assert status["engine"]["workers"] == 2 and status["engine"]["step_s"] > 0
        assert [s["session"] for s in status["sessions"]] == [opened.record.id]
        assert "Something to know." in status["notes"]
        assert {a["license"] for a in status["attributions"]} == {"MIT", "CC BY 4.0"}

    visit(test)


def test_the_metrics(visit) -> None:
    """Are in Prometheus' form and count what happens."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await d.service.open_session(START)
        await client.get("/v1/sessions/nobody")
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "amanuensis_sessions_opened_total 1.0" in answer.text
        assert 'amanuensis_refusals_total{code="unknown_session"} 1.0' in answer.text

    visit(test)


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "param"),
    [
        ("GET", "/nothing", 404, "not_found", None),
        ("POST", "/health", 405, "method_not_allowed", None),
        ("PUT", "/v1/sessions/talk", 405, "method_not_allowed", None),
        ("GET", "/v1/sessions?limit=many", 422, "bad_message", "limit"),
        ("GET", "/v1/sessions?limit=0", 422, "bad_message", "limit"),
        ("GET", "/v1/sessions/nobody", 404, "unknown_session", None),
        ("DELETE", "/v1/sessions/nobody", 404, "unknown_session", None),
        ("GET", "/v1/sessions/nobody/transcript.srt", 404, "unknown_session", None),
        ("GET", "/v1/sessions/nobody/events", 404, "unknown_session", None),
        ("GET", "/v1/sessions/a%20b%00'%3B--", 404, "unknown_session", None),
        ("GET", "/v1/sessions/talk/events?after=-1", 400, "bad_message", None),
        ("HEAD", "/v1/sessions/talk/events", 405, "method_not_allowed", None),
    ],
)
def test_errors(visit, method: str, path: str, status: int, code: str, param: str | None) -> None:
    """All have the one shape, also those made by the framework."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        await d.service.open_session(START.model_copy(update={"session": "talk"}))
        answer = await client.request(method, path)
        assert answer.status_code == status
        if method != "HEAD":
            error = _error(answer)
            assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error")
            assert len(error["message"]) > 10

    visit(test)


def test_a_fault_of_ours(visit, caplog) -> None:
    """Is a 500 in the same shape that tells nothing of the inside; the next request is served."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        journal = d.service.journal
        d.service.journal = None
        try:
            answer = await client.get("/v1/sessions")
        finally:
            d.service.journal = journal
        assert answer.status_code == 500 and _error(answer)["type"] == "server_error"
        assert "NoneType" not in answer.text
        assert (await client.get("/v1/sessions")).status_code == 200

    visit(test)


def test_head(visit) -> None:
    """Is GET without the body."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        for path in ("/", "/health", "/ready", "/docs", "/status", "/v1/sessions", "/web/transcript.js"):
            head, get = await client.head(path), await client.get(path)
            assert head.status_code == 200 and head.content == b""
            assert head.headers["content-type"] == get.headers["content-type"]

    visit(test)


def test_every_answer(visit) -> None:
    """Carries the headers that keep a browser from misusing it."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        for path in ("/", "/docs", "/web/transcript.js", "/v1/sessions", "/nothing"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["referrer-policy"] == "no-referrer", path
            assert "default-src 'none'" in headers["content-security-policy"], path
            assert "frame-ancestors 'none'" in headers["content-security-policy"], path
            assert "server" not in headers, path

    visit(test)


def test_tokens(visit) -> None:
    """Guard what is inside; pages and probes are open; a ticket admits once and begets no other."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        for path in ("/", "/docs", "/openapi.json", "/health", "/ready", "/web/transcript.js"):
            assert (await client.get(path)).status_code == 200, path
        for path in ("/status", "/metrics", "/v1/sessions", "/v1/sessions/x", "/v1/sessions/x/events"):
            refused = await client.get(path)
            assert refused.status_code == 401 and _error(refused)["code"] == "unauthorized", path
            assert refused.headers["www-authenticate"] == "Bearer"
            wrong = await client.get(path, headers={"authorization": "Bearer wrong"})
            assert wrong.status_code == 401
        for verb, path in (
            ("POST", "/v1/tickets"),
            ("DELETE", "/v1/sessions/x"),
            ("PATCH", "/v1/sessions/x"),
        ):
            assert (await client.request(verb, path, json={})).status_code == 401
        bearer = {"authorization": "Bearer secret"}
        assert (await client.get("/v1/sessions", headers=bearer)).status_code == 200
        for path, first in (("/v1/sessions", 200), ("/v1/sessions/x/transcript.txt", 404)):
            ticket = (await client.post("/v1/tickets", headers=bearer)).json()["ticket"]
            assert (await client.get(path, params={"ticket": ticket})).status_code == first
            assert (await client.get(path, params={"ticket": ticket})).status_code == 401
        ticket = (await client.post("/v1/tickets", headers=bearer)).json()["ticket"]
        assert (await client.post("/v1/tickets", params={"ticket": ticket})).status_code == 401

    visit(test, auth={"tokens": ["secret"]})


def test_pages_of_other_sites(visit) -> None:
    """Are refused, on every path, before anything else is looked at."""

    async def test(client: httpx.AsyncClient, d: Any) -> None:
        own = d.url.removeprefix("http://")
        for path in ("/", "/health", "/v1/sessions", "/nothing"):
            for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}, {"origin": "null"}):
                refused = await client.get(path, headers=headers)
                assert refused.status_code == 403 and _error(refused)["code"] == "forbidden_origin"
        for headers in ({"origin": d.url}, {"origin": "http://localhost:3000"}, {"host": own}, {}):
            assert (await client.get("/v1/sessions", headers=headers)).status_code == 200
        refused = await client.delete("/v1/sessions/x", headers={"origin": "https://evil.example"})
        assert refused.status_code == 403

    visit(test)


def test_an_allowed_origin(visit) -> None:
    """Gets the headers that let its page read the answer; others do not."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        page = {"origin": "https://captions.example"}
        answer = await client.get("/v1/sessions", headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://captions.example"
        preflight = await client.options(
            "/v1/sessions/x", headers=page | {"access-control-request-method": "PATCH"}
        )
        assert preflight.status_code == 200 and "PATCH" in preflight.headers["access-control-allow-methods"]
        assert "access-control-allow-origin" not in (await client.get("/v1/sessions")).headers

    visit(test, server={"allowed_origins": ["https://captions.example"]})


def test_the_openapi_document(visit) -> None:
    """Has a summary and a unique name for every operation, and refers to nothing that is missing."""

    async def test(client: httpx.AsyncClient, _: Any) -> None:
        spec = (await client.get("/openapi.json")).json()
        operations = [operation for verbs in spec["paths"].values() for operation in verbs.values()]
        names = [operation["operationId"] for operation in operations]
        assert len(names) == len(set(names)) >= 9
        assert all(operation["summary"] for operation in operations)
        for name in re.findall(r"#/components/schemas/(\w+)", json.dumps(spec)):
            assert name in spec["components"]["schemas"]

    visit(test)
