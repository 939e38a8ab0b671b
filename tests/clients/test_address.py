"""Addresses as people write them."""

from __future__ import annotations

import pytest

from clients.address import Address
from streaming.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "stream"),
    [
        ("127.0.0.1:9004", "ws://127.0.0.1:9004/v1/stream"),
        ("http://localhost:9004/", "ws://localhost:9004/v1/stream"),
        ("ws://box:1/v1/stream", "ws://box:1/v1/stream"),
        ("http://box:9004/web", "ws://box:9004/v1/stream"),
        ("https://captions.example/room", "wss://captions.example/room/v1/stream"),
        ("http://[::1]:9004", "ws://[::1]:9004/v1/stream"),
    ],
)
def test_every_way_to_write_it(written: str, stream: str) -> None:
    """All of them lead to the same endpoints."""
    assert Address.parse(written).stream == stream


def test_endpoints_of_a_session() -> None:
    """Names are quoted, options are said only where they are not the default."""
    address = Address.parse("http://box:9004")
    assert address.events("a b/c") == "ws://box:9004/v1/sessions/a%20b%2Fc/events"
    assert address.events("a", 7, False) == "ws://box:9004/v1/sessions/a/events?after=7&partials=false"
    assert address.transcript("a", "srt") == "http://box:9004/v1/sessions/a/transcript.srt"


@pytest.mark.parametrize("written", ["ftp://box", "http://", "http://box:port", "http://[::1"])
def test_no_address(written: str) -> None:
    """It is refused with an example of one."""
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9004"):
        Address.parse(written)


@pytest.mark.parametrize(("written", "local"), [("localhost", True), ("127.0.0.9:1", True), ("box", False)])
def test_this_machine(written: str, local: bool) -> None:
    """Loopback names are this machine, others are not."""
    assert Address.parse(written).is_local is local
