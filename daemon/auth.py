"""Who may come in: tokens, tickets that stand for them once, and which pages a browser may call us from."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from streaming.errors import ForbiddenOrigin, Unauthorized

TICKET_LIFE_S = 60.0
MAX_TICKETS = 1_000  # unused at once; beyond it the oldest is void
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True)
class Ticket:
    """Admits once, for a short while: what a browser puts into a URL in place of a token."""

    ticket: str
    expires_in_s: float


class Gatekeeper:
    """Decides about connections. Without tokens everyone is admitted who is not a foreign page's script."""

    def __init__(
        self,
        tokens: Sequence[str] = (),
        allowed_origins: Sequence[str] = (),
        host: str = "127.0.0.1",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """host: the address the daemon listens on. clock: monotonic seconds."""
        self._digests = [_digest(token) for token in tokens if token]
        self._origins = {_origin(origin) for origin in allowed_origins}
        self._names = {name for origin in allowed_origins if (name := _hostname(origin.rpartition("://")[2]))}
        self._names |= _own_names(host)
        self._strict_host = _is_loopback(host) or not self._digests
        self._loopback_only = _is_loopback(host)
        self._clock = clock
        self._tickets: dict[bytes, float] = {}  # digest -> when it expires, oldest first

    @property
    def wants_token(self) -> bool:
        """Tokens are configured."""
        return bool(self._digests)

    def admit(
        self, token: str | None, ticket: str | None, origin: str | None, host: str | None = None
    ) -> None:
        """Lets the peer in, or raises ForbiddenOrigin or Unauthorized. A ticket is used up by this."""
        self.check_origin(origin, host)
        if not self._digests:
            return
        if token is not None and self._knows(token):
            return
        if ticket is not None and self._redeem(ticket):
            return
        if ticket is not None and token is None:
            raise Unauthorized(
                "The ticket was used, or is older than a minute; get another: POST /v1/tickets."
            )
        raise Unauthorized(
            "A token is needed: send one of those under [auth] in config.toml as `Authorization: Bearer TOKEN`."
        )

    def check_host(self, host: str | None) -> None:
        """Refuses names that are not ours: a page whose name was rebound to our address calls us by its name."""
        if not self._strict_host or host is None:
            return
        name = _hostname(host)
        if name in self._names or _is_loopback(name):
            return
        if not self._loopback_only and _is_address(name):
            return
        raise ForbiddenOrigin(
            f"This daemon does not go by the name {name!r}. Add its origin to server.allowed_origins in "
            "config.toml if it should."
        )

    def check_origin(self, origin: str | None, host: str | None = None) -> None:
        """Refuses pages of other sites; `host` is the request's Host header. No origin: not a page's script."""
        if origin is None or _origin(origin) in self._origins:
            return
        scheme, _, authority = origin.lower().partition("://")
        place = _place(scheme, authority)
        if place is not None:
            if host is not None and place == _place(scheme, host):
                return
            if not self._digests and _is_loopback(place[0]):
                return
        raise ForbiddenOrigin(
            f"Pages from {origin} may not use this daemon. Add {origin!r} to server.allowed_origins in "
            "config.toml if they should."
        )

    def issue_ticket(self) -> Ticket:
        """A fresh ticket for someone who has been admitted by token."""
        now = self._clock()
        for digest in [digest for digest, expiry in self._tickets.items() if expiry <= now]:
            del self._tickets[digest]
        while len(self._tickets) >= MAX_TICKETS:
            del self._tickets[next(iter(self._tickets))]
        ticket = secrets.token_urlsafe(24)
        self._tickets[_digest(ticket)] = now + TICKET_LIFE_S
        return Ticket(ticket, TICKET_LIFE_S)

    def _knows(self, token: str) -> bool:
        """Compares with every token and in constant time: how long it takes tells nothing."""
        digest, known = _digest(token), False
        for candidate in self._digests:
            known |= hmac.compare_digest(digest, candidate)
        return known

    def _redeem(self, ticket: str) -> bool:
        expiry = self._tickets.pop(_digest(ticket), None)
        return expiry is not None and self._clock() < expiry


def bearer(authorization: str | None) -> str | None:
    """The token in an Authorization header, if it is of that kind."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _origin(origin: str) -> str:
    return origin.strip().rstrip("/").lower()


def _hostname(authority: str) -> str:
    """`host[:port]` without its port, brackets, or the dot at the end."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _place(scheme: str, authority: str) -> tuple[str, int | None] | None:
    """(name, port) of `host[:port]`; None where it is no such thing."""
    try:
        port = urlsplit(f"//{authority}").port
    except ValueError:
        return None
    name = _hostname(authority)
    return (name, port or _DEFAULT_PORTS.get(scheme)) if name else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _own_names(host: str) -> set[str]:
    """What this machine is called: its own name, bare and in the domains that home networks use."""
    name = socket.gethostname().lower().rstrip(".")
    label = name.partition(".")[0]
    own = {name, *(f"{label}{domain}" for domain in ("", ".local", ".lan", ".home", ".home.arpa"))}
    return {*own, host.lower()} - {""}
