"""Where utterances begin and end."""

from hypothesis import given
from hypothesis import strategies as st

from streaming.detectors import FRAME
from streaming.endpoint import Closed, Endpointer, EndpointSettings, Opened, State

S = EndpointSettings(onset_s=0.06, pre_roll_s=0.3, hang_over_s=0.3, tail_s=0.15, min_speech_s=0.12)


def run(verdicts):
    endpointer = Endpointer(S)
    return [change for verdict in verdicts if (change := endpointer.receive_verdict(verdict))]


def test_one_stretch_of_speech():
    """It begins a pre-roll before the onset and ends a tail after the last speech."""
    changes = run([False] * 20 + [True] * 30 + [False] * 20)
    assert changes == [
        Opened(start=20 * FRAME - 4_800, onset=20 * FRAME),
        Closed(end=50 * FRAME + 2_400, offset=50 * FRAME, spoken=True),
    ]


def test_a_pause_shorter_than_the_hang_over():
    """It does not end the utterance."""
    assert len(run([True] * 20 + [False] * 9 + [True] * 20 + [False] * 20)) == 2


def test_a_single_frame_opens_nothing():
    """A click is no utterance."""
    assert run([False] * 5 + [True] + [False] * 20) == []


def test_a_short_burst_counts_as_not_spoken():
    """Less speech than the minimum closes as not spoken."""
    changes = run([True] * 3 + [False] * 20)
    assert isinstance(changes[1], Closed) and not changes[1].spoken


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=30))
def test_utterances_are_in_order_and_apart(runs):
    """Whatever the verdicts: they alternate, never overlap, and hold their speech."""
    endpointer, last_end, opened = Endpointer(S), 0, None
    for verdict, count in runs:
        for _ in range(count):
            change = endpointer.receive_verdict(verdict)
            if isinstance(change, Opened):
                assert endpointer.state is State.SPEAKING
                assert last_end <= change.start <= change.onset < endpointer.position
                opened = change
            elif isinstance(change, Closed):
                assert (
                    opened is not None and opened.onset < change.offset <= change.end <= endpointer.position
                )
                last_end, opened = change.end, None
            if endpointer.state is State.QUIET:
                assert last_end <= endpointer.undecided_from <= endpointer.position
