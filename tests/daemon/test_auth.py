"""Who may come in, and from which pages."""

from __future__ import annotations

import pytest

from daemon.auth import MAX_TICKETS, TICKET_LIFE_S, Gatekeeper, bearer
from streaming.errors import ForbiddenOrigin, Unauthorized

TOKEN = "correct horse"


def test_without_tokens() -> None:
    """Everyone is admitted who is no foreign page's script."""
    gate = Gatekeeper()
    gate.admit(None, None, None)
    gate.admit("anything", None, "http://localhost:3000")
    gate.admit(None, None, "http://127.0.0.1:9004", "127.0.0.1:9004")
    with pytest.raises(ForbiddenOrigin):
        gate.admit(None, None, "https://evil.example", "127.0.0.1:9004")


def test_with_tokens() -> None:
    """Any of them admits; nothing else does."""
    gate = Gatekeeper([TOKEN, "another", ""])
    gate.admit(TOKEN, None, None)
    gate.admit("another", None, None)
    for wrong in (None, "", "correct hors", TOKEN + " ", "naïve\udcff"):
        with pytest.raises(Unauthorized, match="token is needed"):
            gate.admit(wrong, None, None)


def test_a_ticket() -> None:
    """Admits once and within a minute."""
    now = 100.0
    gate = Gatekeeper([TOKEN], clock=lambda: now)
    ticket = gate.issue_ticket().ticket
    gate.admit(None, ticket, None)
    with pytest.raises(Unauthorized, match="used"):
        gate.admit(None, ticket, None)
    late = gate.issue_ticket().ticket
    now += TICKET_LIFE_S
    with pytest.raises(Unauthorized):
        gate.admit(None, late, None)
    with pytest.raises(Unauthorized):
        gate.admit(None, "made up", None)


def test_a_forbidden_page_does_not_use_up_a_ticket() -> None:
    """The Origin is looked at first."""
    gate = Gatekeeper([TOKEN])
    ticket = gate.issue_ticket().ticket
    with pytest.raises(ForbiddenOrigin):
        gate.admit(None, ticket, "https://evil.example", "127.0.0.1:9004")
    gate.admit(None, ticket, None)


def test_more_tickets_than_are_kept() -> None:
    """Make the oldest void; expired ones go first."""
    now = 0.0
    gate = Gatekeeper([TOKEN], clock=lambda: now)
    oldest = gate.issue_ticket().ticket
    second = gate.issue_ticket().ticket
    for _ in range(MAX_TICKETS - 1):
        gate.issue_ticket()
    assert len(gate._tickets) == MAX_TICKETS
    with pytest.raises(Unauthorized):
        gate.admit(None, oldest, None)
    gate.admit(None, second, None)
    now += 2 * TICKET_LIFE_S
    gate.issue_ticket()
    assert len(gate._tickets) == 1


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://192.168.1.5:9004", "192.168.1.5:9004", True),
        ("http://192.168.1.5", "192.168.1.5:80", True),
        ("https://captions.example", "captions.example", True),
        ("https://captions.example", "captions.example:443", True),
        ("http://192.168.1.5:9005", "192.168.1.5:9004", False),
        ("http://CAPTIONS.example:9004", "captions.EXAMPLE:9004", True),
        ("https://evil.example", "192.168.1.5:9004", False),
        ("https://192.168.1.5.evil.example", "192.168.1.5", False),
        ("https://listed.example", "192.168.1.5:9004", True),
        ("https://listed.example.evil.example", "192.168.1.5:9004", False),
        ("http://listed.example", "192.168.1.5:9004", False),
        ("http://localhost:3000", "192.168.1.5:9004", False),
        ("null", "192.168.1.5:9004", False),
        ("", "192.168.1.5:9004", False),
        ("http://[::1", "192.168.1.5:9004", False),
        ("http://host:port", "192.168.1.5:9004", False),
        ("http://host:port", "other:port", False),
    ],
)
def test_origins_with_tokens(origin: str, host: str, allowed: bool) -> None:
    """A page may call the host it came from, or be listed; nothing that only looks like that."""
    gate = Gatekeeper([TOKEN], ["https://listed.example/"], host="0.0.0.0")
    if allowed:
        gate.admit(TOKEN, None, origin, host)
    else:
        with pytest.raises(ForbiddenOrigin, match="allowed_origins"):
            gate.admit(TOKEN, None, origin, host)


@pytest.mark.parametrize(
    ("bound", "tokens", "host", "allowed"),
    [
        ("127.0.0.1", [], "127.0.0.1:9004", True),
        ("127.0.0.1", [], "localhost:9004", True),
        ("127.0.0.1", [], "LOCALHOST.", True),
        ("127.0.0.1", [], "[::1]:9004", True),
        ("127.0.0.1", [], "app.localhost:9004", True),
        ("127.0.0.1", [], "listed.example", True),
        ("127.0.0.1", [], "rebound.evil.example:9004", False),
        ("127.0.0.1", [], "127.0.0.1.evil.example", False),
        ("127.0.0.1", [], "192.168.1.5:9004", False),
        ("127.0.0.1", [], "0.0.0.0:9004", False),
        ("127.0.0.1", [], "", False),
        ("127.0.0.1", [TOKEN], "rebound.evil.example", False),
        ("0.0.0.0", [], "192.168.1.5:9004", True),
        ("0.0.0.0", [], "rebound.evil.example", False),
        ("0.0.0.0", [TOKEN], "any.name.example", True),
        ("::1", [], "[::1]:9004", True),
    ],
)
def test_names_of_the_host(bound: str, tokens: list[str], host: str, allowed: bool) -> None:
    """A name that was rebound to our address is refused wherever an address alone would admit."""
    gate = Gatekeeper(tokens, ["https://listed.example"], host=bound)
    if allowed:
        gate.check_host(host)
    else:
        with pytest.raises(ForbiddenOrigin, match="does not go by the name"):
            gate.check_host(host)


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", None), ("Bearer ", None), (None, None)],
)
def test_the_authorization_header(header: str | None, token: str | None) -> None:
    """Bearer alone is ours."""
    assert bearer(header) == token
