"""The pages the daemon draws itself: the overview at `/`, and `/docs`, which needs nothing from any other host."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from starlette.responses import HTMLResponse

_STYLE = """
:root { color-scheme: light dark; --dim: #666; --line: #ccc; --mark: #0b57d0; }
@media (prefers-color-scheme: dark) { :root { --dim: #aaa; --line: #444; --mark: #8ab4f8; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid var(--line); }
a { color: var(--mark); } code, pre { font: 0.9em ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.5rem; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top;
padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid var(--line); } .dim { color: var(--dim); }
summary { cursor: pointer; padding: 0.35rem 0; } .verb { display: inline-block; min-width: 4.5em;
font-weight: 600; color: var(--mark); } details > div { margin: 0 0 1rem 1.25rem; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)

PATHS = {
    "/web": "the web page: captions in a browser",
    "/docs": "what every path takes and gives",
    "/openapi.json": "the same for programs",
    "/status": "model, device, NPU, load, sessions",
    "/health": "alive",
    "/ready": "can take a session",
    "/metrics": "Prometheus",
    "/v1/stream": "WebSocket: audio in, events out",
    "/v1/sessions": "sessions",
    "/v1/sessions/{session}": "one session: GET, PATCH, DELETE",
    "/v1/sessions/{session}/events": "its events: WebSocket or Server-Sent Events",
    "/v1/sessions/{session}/transcript.{json,srt,vtt,txt,md}": "its text so far",
    "/v1/models": "models that can be named",
    "/v1/models/{model}": "one of them",
    "/transcribe": "POST: a recording in, its transcript out",
    "/v1/jobs": "POST: the same, to be asked for later; GET: all jobs",
    "/v1/jobs/{job}": "one job: GET, DELETE",
    "/v1/jobs/{job}/events": "how far it is: Server-Sent Events",
    "/v1/audio/transcriptions": "POST: a recording, as OpenAI's clients do it",
    "/v1/audio/translations": "POST: the same, into English",
    "/v1/voices": "people who are labelled by name: GET, POST",
    "/v1/voices/{name}": "one of them: DELETE",
    "/v1/tickets": "POST: admits a browser's WebSocket once",
}


def overview(version: str) -> HTMLResponse:
    """The paths, as links where they are pages."""
    rows = "".join(f"<tr><td>{_link(path)}</td><td>{escape(what)}</td></tr>" for path, what in PATHS.items())
    body = (
        f"<p>Live transcription, version {escape(version)}."
        ' Open <a href="/web">the web page</a> to see captions, or read <a href="/docs">the API</a>.</p>'
        f"<table>{rows}</table>"
    )
    return _page("Amanuensis", body)


def reference(spec: dict[str, Any]) -> HTMLResponse:
    """An OpenAPI document as a page: paths by tag, what they take, what they give."""
    schemas = spec.get("components", {}).get("schemas", {})
    by_tag: dict[str, list[str]] = {}
    for path, verbs in spec["paths"].items():
        for verb, operation in verbs.items():
            tag = (operation.get("tags") or ["daemon"])[0]
            by_tag.setdefault(tag, []).append(_operation(verb, path, operation))
    parts = [
        '<p><a href="/openapi.json">openapi.json</a> · <a href="/">overview</a></p>',
        "<p>Audio goes in over the WebSocket <code>/v1/stream</code>, subprotocol"
        " <code>amanuensis.v1</code>. An error is"
        ' <code>{"error": {"message", "type", "param", "code"}}</code>.</p>',
    ]
    for tag, operations in by_tag.items():
        parts.append(f"<h2>{escape(tag)}</h2>" + "".join(operations))
    parts.append("<h2>Objects</h2>" + "".join(_schema(name, schema) for name, schema in schemas.items()))
    return _page(f"{spec['info']['title']} {spec['info']['version']}", "".join(parts))


def _page(title: str, body: str) -> HTMLResponse:
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(html, headers={"content-security-policy": _POLICY, "cache-control": "no-cache"})


def _link(path: str) -> str:
    shown = f"<code>{escape(path)}</code>"
    is_page = "{" not in path and path != "/v1/stream" and not PATHS[path].startswith("POST")
    return f'<a href="{escape(path)}">{shown}</a>' if is_page else shown


def _operation(verb: str, path: str, operation: dict[str, Any]) -> str:
    inner = "".join(_operation_parts(operation))
    return (
        f'<details><summary><span class="verb">{escape(verb.upper())}</span> <code>{escape(path)}</code>'
        f' <span class="dim">{escape(operation.get("summary", ""))}</span></summary><div>{inner}</div></details>'
    )


def _operation_parts(operation: dict[str, Any]) -> Iterator[str]:
    if parameters := operation.get("parameters"):
        rows = (
            (f"{item['name']} ({item['in']})", _kind(item.get("schema", {})), item.get("description", ""))
            for item in parameters
        )
        yield _table(rows)
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Takes <code>{escape(media_type)}</code>: {_kind(content.get('schema', {}))}</p>"
        if properties := content.get("schema", {}).get("properties"):
            yield _table((name, _kind(schema), "") for name, schema in properties.items())
    for status, response in operation.get("responses", {}).items():
        kinds = [
            f"<code>{escape(media_type)}</code> {_kind(content.get('schema', {}))}"
            for media_type, content in response.get("content", {}).items()
        ]
        yield f"<p>{escape(status)}: {', '.join(kinds) or escape(response.get('description', ''))}</p>"


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = (
        (field if field in required else f"{field}?", _kind(kind), kind.get("description", ""))
        for field, kind in schema.get("properties", {}).items()
    )
    return (
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code>'
        f' <span class="dim">{escape(schema.get("description", ""))}</span></summary>'
        f"<div>{_table(rows)}</div></details>"
    )


def _kind(schema: dict[str, Any]) -> str:
    """A type, in a word or two of HTML."""
    if reference := schema.get("$ref"):
        name = escape(reference.rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_kind(option) for option in options)
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if values := schema.get("enum"):
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in values)
    return escape(str(schema.get("type", "anything")))


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    """rows: name (text), type (HTML), description (text)."""
    return (
        "<table>"
        + "".join(
            f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{escape(text)}</td></tr>"
            for name, kind, text in rows
        )
        + "</table>"
    )
