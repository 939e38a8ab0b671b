"""Whether a port can be had, asked before the model is loaded."""

from __future__ import annotations

import socket

from clients.address import Address
from clients.inquiry import is_there
from streaming.errors import ConfigError, Unreachable


def check_free(host: str, port: int) -> None:
    """ConfigError when somebody listens there already; says whether it is a daemon of ours."""
    if port == 0 or (trouble := bind_error(host, port)) is None:
        return
    address = Address.parse(f"http://{reachable(host)}:{port}")
    try:
        ours = is_there(address)
    except Unreachable:
        ours = False
    if ours:
        raise ConfigError(
            f"A daemon runs at {address.http} already. Use that one, or start another: "
            f"amanuensis serve --port {port + 1}"
        )
    raise ConfigError(
        f"Cannot listen on {host}:{port}: {trouble}. Choose another port: amanuensis serve --port 0"
    )


def bind_error(host: str, port: int) -> str | None:
    """Why one cannot listen there; None when one can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def reachable(host: str) -> str:
    """An address to ask, for one to listen on."""
    if host in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
