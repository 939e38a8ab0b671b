"""What a producer has said and may have to say again: audio and requests in the order of the stream.

No I/O. Positions are sample frames since the start of the session, at the declared rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from streaming.errors import AudioError
from streaming.events import Finalized, Marker
from streaming.protocol import AudioFormat, FinalizeRequest, MarkerRequest, SkipRequest, Stop

SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}  # one sample of one channel
FRAME_S = 0.5  # the longest audio in one message: a resend is cut into these
RECEIPT_S = 5.0  # every so often the daemon is asked how far it has decided
RECEIPT = "amanuensis-receipt-"  # the ids of the markers that ask it

Request = MarkerRequest | FinalizeRequest | Stop


@dataclass
class _Stretch:
    """Audio in order; `data` is None where nobody has it any more."""

    frames: int
    data: bytes | None


@dataclass
class _Waiting:
    """A request that has not been answered."""

    position: int
    request: Request
    sent: bool = False


class Outbox:
    """The producer's side of a stream that survives its connections.

    It keeps the last `capacity_s` of audio. `take` gives the next message to put on the wire, `rewind` goes
    back to where the daemon wants to go on; audio that is no longer held becomes a `skip`. Requests that have
    not been answered are sent again, at their place.
    """

    def __init__(self, audio: AudioFormat, capacity_s: float = 75.0) -> None:
        if audio.encoding not in SAMPLE_BYTES:
            raise AudioError(
                f"A stream of {audio.encoding} cannot be taken up again in its middle. Send raw samples: "
                "clients.file decodes any recording into them."
            )
        self._frame_bytes = SAMPLE_BYTES[audio.encoding] * audio.channels
        self._rate = audio.sample_rate
        self._capacity = round(capacity_s * audio.sample_rate)
        self._sent: deque[_Stretch] = deque()
        self._unsent: deque[_Stretch] = deque()
        self._held = 0  # frames of audio in both
        self._carry = b""  # the beginning of a frame whose end has not been written yet
        self._start = 0  # position of the oldest stretch
        self._cursor = 0  # position of the first unsent stretch
        self._end = 0
        self._decided = 0  # as far as the daemon has said so
        self._next_receipt = round(RECEIPT_S * audio.sample_rate)
        self._requests: deque[_Waiting] = deque()

    @property
    def end(self) -> int:
        """Position after everything written."""
        return self._end

    @property
    def is_empty(self) -> bool:
        """Everything has been sent."""
        return not self._unsent and all(waiting.sent for waiting in self._requests)

    @property
    def room(self) -> int:
        """Frames that can be written before audio that is still undecided is given up; may be negative."""
        return self._capacity - (self._end - self._decided)

    def widen(self, capacity_s: float) -> None:
        """Raises the capacity to at least that."""
        self._capacity = max(self._capacity, round(capacity_s * self._rate))

    def write(self, data: bytes) -> None:
        """Appends audio. Any cut will do: part of a sample waits for its rest."""
        data = self._carry + data if self._carry else data
        whole = len(data) - len(data) % self._frame_bytes
        self._carry = data[whole:]
        longest = round(FRAME_S * self._rate) * self._frame_bytes
        for at in range(0, whole, longest):
            piece = data[at : min(at + longest, whole)]
            self._append(_Stretch(len(piece) // self._frame_bytes, piece))
            self._ask_for_receipt()

    def write_gap(self, frames: int) -> None:
        """Lets time pass for which the producer has no audio."""
        self._carry = b""
        if frames > 0:
            self._append(_Stretch(frames, None))

    def request(self, request: Request) -> None:
        """Appends a request, to be sent after the audio written so far and before what follows."""
        self._requests.append(_Waiting(self._end, request))

    def answer(self, event: Marker | Finalized) -> bool:
        """Strikes out the request this answers; False when it is no answer the program has asked for."""
        kind = MarkerRequest if isinstance(event, Marker) else FinalizeRequest
        for waiting in self._requests:
            if isinstance(waiting.request, kind) and waiting.request.id == event.id:
                self._requests.remove(waiting)
                if isinstance(event, Marker):
                    self._decided = max(self._decided, waiting.position)
                return not (event.id or "").startswith(RECEIPT)
        return False

    def take(self) -> bytes | Request | SkipRequest | None:
        """The next message for the wire; None when everything has been sent."""
        waiting = next((waiting for waiting in self._requests if not waiting.sent), None)
        if waiting and waiting.position <= self._cursor:
            waiting.sent = True
            return waiting.request
        if not self._unsent:
            return None
        limit = waiting.position if waiting else self._end
        if self._unsent[0].data is None:
            return SkipRequest(samples=self._move(limit - self._cursor).frames)
        return self._gather(min(limit - self._cursor, round(FRAME_S * self._rate)))

    def rewind(self, next_sample: int) -> int:
        """Goes on from there, on a fresh connection; returns the frames that will be sent again."""
        cursor = self._cursor
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        self._cursor = self._start
        if next_sample < self._start:
            self._unsent.appendleft(_Stretch(self._start - next_sample, None))
            self._cursor = self._start = next_sample
        while self._unsent and self._cursor < next_sample:
            self._move(next_sample - self._cursor)
        for waiting in self._requests:
            waiting.sent = False
        return max(0, cursor - self._cursor)

    def _append(self, stretch: _Stretch) -> None:
        last = self._unsent[-1] if self._unsent else None
        if last and last.data is None and stretch.data is None:
            last.frames += stretch.frames
        else:
            self._unsent.append(stretch)
        self._end += stretch.frames
        self._held += stretch.frames if stretch.data is not None else 0
        self._trim()

    def _trim(self) -> None:
        """Forgets what is over the capacity: first what was sent, then (a gap, then) what was not."""
        while self._held > self._capacity and self._sent:
            self._forget(self._sent.popleft())
        if self._sent:
            return
        lost = 0
        while (self._held > self._capacity and self._unsent) or self._leads_with_gap(lost):
            lost += self._unsent[0].frames
            self._held -= self._unsent[0].frames if self._unsent[0].data is not None else 0
            self._unsent.popleft()
        if lost:
            self._unsent.appendleft(_Stretch(lost, None))
            self._requests = deque(w for w in self._requests if not self._is_stale(w))

    def _leads_with_gap(self, lost: int) -> bool:
        return bool(lost and self._unsent and self._unsent[0].data is None)

    def _forget(self, stretch: _Stretch) -> None:
        self._start += stretch.frames
        self._held -= stretch.frames if stretch.data is not None else 0

    def _is_stale(self, waiting: _Waiting) -> bool:
        """A receipt for audio that is no longer held serves nobody: so their number stays bounded."""
        request = waiting.request
        receipt = isinstance(request, MarkerRequest) and request.id.startswith(RECEIPT)
        return receipt and not waiting.sent and waiting.position < self._end - self._capacity

    def _ask_for_receipt(self) -> None:
        if self._end >= self._next_receipt:
            self._next_receipt = self._end + round(RECEIPT_S * self._rate)
            self.request(MarkerRequest(id=f"{RECEIPT}{self._end}"))

    def _move(self, frames: int) -> _Stretch:
        """Passes the first unsent stretch, or so many frames of it, over to the sent ones."""
        stretch = self._unsent.popleft()
        if stretch.frames > frames:
            cut = frames * self._frame_bytes
            rest = stretch.data[cut:] if stretch.data is not None else None
            self._unsent.appendleft(_Stretch(stretch.frames - frames, rest))
            stretch = _Stretch(frames, stretch.data[:cut] if stretch.data is not None else None)
        self._sent.append(stretch)
        self._cursor += stretch.frames
        return stretch

    def _gather(self, frames: int) -> bytes:
        """Audio of at most so many frames, up to the next gap, as one message."""
        return b"".join(self._pieces(frames))

    def _pieces(self, frames: int) -> Iterable[bytes]:
        while frames > 0 and self._unsent and self._unsent[0].data is not None:
            piece = self._move(frames)
            frames -= piece.frames
            yield piece.data or b""
