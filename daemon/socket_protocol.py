"""The server's WebSocket connection: uvicorn's, except that closing waits for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

UNREAD_S = 5.0  # for a peer that did not read to read, after all, why it is closed


class SocketProtocol(WebSocketsSansIOProtocol):
    """A peer that has stopped reading is the one that has to be told why it is closed.

    uvicorn's own would first wait until that peer reads again. Here the close frame is put behind what the
    peer has not read yet, and the connection is dropped when the peer does not read that either.
    """

    async def send(self, message: ASGISendEvent) -> None:
        """As uvicorn's."""
        if message["type"] == "websocket.close" and not self.writable.is_set():
            self.writable.set()
            self.loop.call_later(UNREAD_S, self.transport.abort)
        await super().send(message)
