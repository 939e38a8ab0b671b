"""Questions to a daemon over plain HTTP: whether it is there, how it is, a transcript."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from clients.address import Address
from clients.wire import refusal
from streaming.errors import Unreachable


def ask(address: Address, url: str, token: str | None = None, timeout_s: float = 10.0) -> bytes:
    """The body of a GET. Unreachable when no daemon answers, a ProtocolError when it refuses. Blocks."""
    return _answer(address, Request(url, headers=_headers(token)), timeout_s)


def tell(
    address: Address,
    url: str,
    method: str,
    said: Mapping[str, object] | None = None,
    token: str | None = None,
    timeout_s: float = 10.0,
) -> bytes:
    """Asks for a change: POST, PATCH or DELETE, with JSON -> the answer's body. Raises what `ask` does. Blocks."""
    body = None if said is None else json.dumps(said).encode()
    headers = {"Content-Type": "application/json", **_headers(token)}
    return _answer(address, Request(url, body, headers, method=method), timeout_s)


def _headers(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _answer(address: Address, request: Request, timeout_s: float) -> bytes:
    try:
        with _opener(address).open(request, timeout=timeout_s) as response:
            body: bytes = response.read()
            return body
    except HTTPError as error:
        try:
            said = json.loads(error.read())["error"]
            raise refusal(str(said["code"]), str(said["message"])) from error
        except (ValueError, KeyError, TypeError):
            raise Unreachable(
                f"What answers at {address.http} is no Amanuensis daemon: HTTP {error.code}."
            ) from error
    except (URLError, HTTPException, OSError) as error:
        raise Unreachable(f"No daemon answers at {address.http}. Start one: amanuensis serve") from error


def is_there(address: Address, timeout_s: float = 2.0) -> bool:
    """Whether a daemon answers; False when nobody does. Unreachable when something else has the port. Blocks."""
    try:
        ask(address, f"{address.http}/health", timeout_s=timeout_s)
    except Unreachable as error:
        if isinstance(error.__cause__, HTTPError):
            raise
        return False
    return True


def status(address: Address, token: str | None = None) -> dict[str, Any]:
    """What the daemon says about itself at /status. Blocks."""
    answer: dict[str, Any] = json.loads(ask(address, f"{address.http}/status", token))
    return answer


def _opener(address: Address) -> OpenerDirector:
    """Proxies are for other machines."""
    return build_opener(ProxyHandler({})) if address.is_local else build_opener()
