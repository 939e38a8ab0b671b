"""The files of the web page, out of the `clients` package: names, types, caching, and what they may do."""

from __future__ import annotations

import hashlib
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

INDEX = "index.html"
# Fixed here: what the system's own table says of .js differs from machine to machine.
MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "md": "text/markdown; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
    "wav": "audio/wav",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}
# Scripts, styles and connections of our own origin only; nothing inline, no frames around us.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
        " connect-src 'self'; media-src 'self' blob:; worker-src 'self'; manifest-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # may be kept, but is asked about each time: an update shows at once
}


def serve(path: str, request: Request) -> Response:
    """The file at `path` below clients/web; 304 where the browser has it, 404 where there is none."""
    file = _find(path)
    body = file.read_bytes()
    headers = HEADERS | {"etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"'}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if headers["etag"] in known:
        return Response(status_code=304, headers=headers)
    suffix = file.name.rpartition(".")[2].lower()
    return Response(body, media_type=MEDIA_TYPES.get(suffix, "application/octet-stream"), headers=headers)


def _find(path: str) -> Traversable:
    """Goes down name by name, so that no path leads out of the folder."""
    file = resources.files("clients") / "web"
    for name in (path or INDEX).split("/"):
        if name in ("", ".", "..") or "\\" in name or "\0" in name or ":" in name:
            raise HTTPException(404)
        file = file / name
    if not file.is_file():
        raise HTTPException(404)
    return file
