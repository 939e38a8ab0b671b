"""Where a daemon is: one address in, the URLs of its endpoints out."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from streaming.errors import ConfigError

DEFAULT_URL = "http://127.0.0.1:9004"
_SECURE = {"http": False, "ws": False, "https": True, "wss": True}


@dataclass(frozen=True)
class Address:
    """A daemon's address, as people write it: `host:port`, `http://...`, `ws://...`, with or without a path."""

    secure: bool
    place: str  # host:port, and the path in front of the API where there is one

    @classmethod
    def parse(cls, url: str) -> Address:
        """Reads an address; ConfigError when it is none."""
        written = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(written)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"“{url}” is not an address: {error}. Write it like {DEFAULT_URL}") from error
        if parts.scheme not in _SECURE or not parts.hostname:
            raise ConfigError(f"“{url}” is not an address of a daemon. Write it like {DEFAULT_URL}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        path = parts.path.removesuffix("/").removesuffix("/v1/stream").removesuffix("/web").rstrip("/")
        return cls(_SECURE[parts.scheme], f"{host}:{port}{path}" if port is not None else f"{host}{path}")

    @property
    def http(self) -> str:
        """Base of the HTTP paths, without a slash at the end."""
        return f"http{'s' if self.secure else ''}://{self.place}"

    @property
    def stream(self) -> str:
        """WebSocket of producers."""
        return f"{self._ws}/v1/stream"

    @property
    def host(self) -> str:
        """Name or number of the machine, without brackets."""
        return urlsplit(self.http).hostname or ""

    @property
    def port(self) -> int:
        """The port, also where it is the scheme's own."""
        written = urlsplit(self.http).port
        return written if written is not None else 443 if self.secure else 80

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return self.host == "localhost" or self.host == "::1" or self.host.startswith("127.")

    def events(self, session: str, after: int | None = None, partials: bool = True) -> str:
        """WebSocket of a session's viewers, from after that `seq` on; None asks for a snapshot first."""
        query: dict[str, str] = {}
        if after is not None:
            query["after"] = str(after)
        if not partials:
            query["partials"] = "false"
        return f"{self._ws}/v1/sessions/{quote(session, safe='')}/events" + (
            f"?{urlencode(query)}" if query else ""
        )

    def transcript(self, session: str, kind: str) -> str:
        """HTTP URL of a transcript; kind is json, srt, vtt, txt or md."""
        return f"{self.http}/v1/sessions/{quote(session, safe='')}/transcript.{kind}"

    @property
    def _ws(self) -> str:
        return f"ws{'s' if self.secure else ''}://{self.place}"
