"""The producer's memory, against a receiver that loses its connections."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.outbox import RECEIPT, Outbox
from streaming.errors import AudioError
from streaming.events import Finalized, Marker
from streaming.protocol import AudioFormat, FinalizeRequest, MarkerRequest, SkipRequest, Stop

RATE = 8_000
MONO = AudioFormat(encoding="pcm_s16le", sample_rate=RATE)


def _pcm(start: int, frames: int) -> bytes:
    """Frames that tell their own position, so that the receiver can check them."""
    return b"".join((position % 65_536).to_bytes(2, "little") for position in range(start, start + frames))


def _all(outbox: Outbox) -> list[object]:
    said = []
    while (message := outbox.take()) is not None:
        said.append(message)
    return said


class _Receiver:
    """What a daemon would make of it: each frame at its place, or a gap."""

    def __init__(self) -> None:
        self.position = 0
        self.skipped: set[int] = set()

    def take(self, message: object) -> None:
        if isinstance(message, bytes):
            assert len(message) % 2 == 0, "only whole frames travel"
            assert message == _pcm(self.position, len(message) // 2)
            self.position += len(message) // 2
        elif isinstance(message, SkipRequest):
            self.skipped |= set(range(self.position, self.position + message.samples))
            self.position += message.samples


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(1, 3_000), st.sampled_from(["take", "lose", "odd"])), max_size=60))
def test_any_cut_of_the_audio_and_any_loss(steps: list[object]) -> None:
    """The receiver has every frame at its place, none twice, and no gap while the ring holds everything."""
    outbox, receiver, written, sent = Outbox(MONO, 60.0), _Receiver(), 0, 0
    for step in steps:
        if isinstance(step, int):
            data = _pcm(written, step)
            outbox.write(data[: len(data) // 3])
            outbox.write(data[len(data) // 3 :])
            written += step
        elif step == "take" and (message := outbox.take()) is not None:
            sent += 1
            if sent % 3:  # every third message is lost with the connection that follows
                receiver.take(message)
            else:
                outbox.rewind(receiver.position)
        elif step == "lose":
            outbox.rewind(receiver.position)
        elif step == "odd":
            outbox.write(b"")
    outbox.rewind(receiver.position)
    for message in _all(outbox):
        receiver.take(message)
    assert receiver.position == written == outbox.end
    assert not receiver.skipped


@settings(deadline=None)
@given(st.lists(st.integers(100, 4_000), min_size=1, max_size=40), st.integers(0, 20_000))
def test_more_is_written_than_the_ring_holds(blocks: list[int], resumed: int) -> None:
    """What is no longer held is skipped, what is held arrives, and time stays right."""
    outbox, receiver, written = Outbox(MONO, 1.0), _Receiver(), 0
    for index, frames in enumerate(blocks):
        outbox.write(_pcm(written, frames))
        written += frames
        if index % 2:
            outbox.take()
    receiver.position = min(resumed, written)
    outbox.rewind(receiver.position)
    for message in _all(outbox):
        receiver.take(message)
    assert receiver.position == written
    assert all(position < written - RATE // 2 for position in receiver.skipped), "the newest audio is kept"


def test_requests_keep_their_place_and_are_repeated_until_answered() -> None:
    """After a loss an unanswered request comes again between the same frames, an answered one does not."""
    outbox = Outbox(MONO)
    outbox.write(_pcm(0, 100))
    outbox.request(FinalizeRequest(id="a"))
    outbox.write(_pcm(100, 100))
    outbox.request(MarkerRequest(id="b"))
    outbox.request(Stop())
    said = _all(outbox)
    assert said == [_pcm(0, 100), FinalizeRequest(id="a"), _pcm(100, 100), MarkerRequest(id="b"), Stop()]
    assert outbox.answer(Finalized(id="a", seq=1, audio_end=0.0))
    assert not outbox.answer(Finalized(id="a", seq=1, audio_end=0.0)), "the second answer is nobody's"
    assert outbox.rewind(50) == 150
    assert _all(outbox) == [_pcm(50, 150), MarkerRequest(id="b"), Stop()]


def test_receipts_make_room_and_stay_out_of_sight() -> None:
    """Room shrinks with what is written, and grows again with what the daemon says it has decided."""
    outbox = Outbox(MONO, 30.0)
    for second in range(30):
        outbox.write(_pcm(second * RATE, RATE))
    assert outbox.room == 0
    receipts = [m for m in _all(outbox) if isinstance(m, MarkerRequest)]
    assert len(receipts) == 6
    for receipt in receipts:
        assert not outbox.answer(Marker(id=receipt.id, seq=0, audio_end=0.0))
    assert outbox.room >= 25 * RATE
    positions = [int(receipt.id.removeprefix(RECEIPT)) for receipt in receipts]
    assert all(later > earlier for earlier, later in pairwise(positions))


def test_a_gap_of_the_source() -> None:
    """Frames nobody has are skipped in their place, and skipped again after a loss."""
    outbox, receiver = Outbox(MONO), _Receiver()
    outbox.write(_pcm(0, 10))
    outbox.write_gap(5)
    outbox.write(_pcm(15, 10))
    for message in _all(outbox):
        receiver.take(message)
    assert (receiver.position, receiver.skipped) == (25, {10, 11, 12, 13, 14})
    again = _Receiver()
    again.position = 12
    outbox.rewind(12)
    for message in _all(outbox):
        again.take(message)
    assert (again.position, again.skipped) == (25, {12, 13, 14})


def test_a_container() -> None:
    """A stream that cannot be resumed is refused, with the way out."""
    with pytest.raises(AudioError, match=r"clients\.file"):
        Outbox(AudioFormat(encoding="webm", sample_rate=48_000))
