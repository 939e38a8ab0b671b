"""The session's state machine, on real speech with a scripted model."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npu.scripted import ScriptedTranscriber
from streaming.detectors import FRAME
from streaming.errors import StateError
from streaming.events import Final, Finalized, Gap, Ledger, Marker, Partial, Stopped
from streaming.pauses import CutSettings
from streaming.session import Session
from streaming.settings import ResumePoint, SessionOptions, SessionSettings
from streaming.vad import SpeechDetector
from streaming.window import Hypothesis, Purpose, Word

WORD_S = 0.4
RATE = 16_000


def script(audio):
    """A word each 0.4 s where there is speech, whatever it says: which stretches reach the model is what matters."""
    spoken = SpeechDetector(None).receive(np.concatenate([audio, np.zeros(RATE, np.float32)]))
    words = []
    for i in range(int(len(audio) / RATE / WORD_S)):
        start, end = i * WORD_S, i * WORD_S + 0.35
        if all(spoken[int(start * RATE) // FRAME : int(end * RATE) // FRAME + 1]):
            words.append((start, end, f"w{len(words)}"))
    return words


def hearing(audio):
    return ScriptedTranscriber(script(audio))


class Run:
    """Drives a session with a transcriber that answers at once, or as late as asked."""

    def __init__(self, session: Session, transcriber) -> None:
        self.session = session
        self.transcriber = transcriber
        self.events: list = []
        self.windows = 0

    def feed(self, samples, pump: bool = True) -> "Run":
        self.events += self.session.receive_audio(samples)
        if pump:
            self.pump()
        return self

    def pump(self) -> None:
        while self.session.demand() is not None:
            window = self.session.next_window()
            self.windows += 1
            self.events += self.session.receive_hypothesis(window, self.transcriber.transcribe(window))

    def stream(self, samples, sizes=None) -> "Run":
        at = 0
        for size in sizes or [1_600] * (len(samples) // 1_600 + 1):
            self.feed(samples[at : at + size])
            at += size
        if at < len(samples):
            self.feed(samples[at:])
        return self

    def finish(self) -> "Run":
        self.events += self.session.finish()
        self.pump()
        return self

    def of(self, *kinds):
        return [event for event in self.events if isinstance(event, kinds)]


def new(**options) -> Session:
    return Session(SpeechDetector(None), SessionOptions(**options))


def check_promises(run: Run) -> None:
    """What holds for every session: numbering, append-only text, books that add up."""
    durable = [event for event in run.events if event.durable]
    assert [event.seq for event in durable] == list(range(1, len(durable) + 1))
    said: dict[int, str] = {}
    for event in run.of(Partial, Final):
        assert event.text.startswith(said.get(event.utterance, "")), "committed text changed"
        said[event.utterance] = event.text
    stopped = run.events[-1]
    assert isinstance(stopped, Stopped) and run.session.finished
    assert sum(stopped.ledger.model_dump().values()) == pytest.approx(stopped.audio_end, abs=1e-6)
    assert stopped.audio_end == pytest.approx(run.session.next_sample / RATE)


def test_a_recording_becomes_partials_and_finals(recording):
    """Every utterance has partials whose committed text grows into its final."""
    run = Run(new(), hearing(recording("two_cities.wav"))).stream(recording("two_cities.wav")).finish()
    check_promises(run)
    assert len(run.of(Final)) >= 8
    assert {p.utterance for p in run.of(Partial)} >= {
        f.utterance for f in run.of(Final) if f.end - f.start > 1
    }
    assert any(p.text and p.tentative.startswith(" ") for p in run.of(Partial))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=60))
def test_any_cut_of_the_audio_into_messages(recording, sizes):
    """Where messages are cut changes no final and no gap."""
    audio = recording("beckett.wav")
    run = Run(new(), hearing(audio)).stream(audio, sizes).finish()
    check_promises(run)
    whole = Run(new(), hearing(audio)).stream(audio).finish()
    assert run.of(Final, Gap, Stopped) == whole.of(Final, Gap, Stopped)


def test_silence_says_nothing():
    """A minute of digital silence reaches no model and makes one line: stopped."""
    run = Run(new(), hearing(np.zeros(RATE, np.float32))).stream(np.zeros(60 * RATE, np.float32)).finish()
    check_promises(run)
    assert run.windows == 0
    assert run.events == [Stopped(seq=1, audio_end=60.0, ledger=Ledger(silence_s=60.0))]


def continuous(recording, seconds: float):
    """Speech without an end: fluent stretches of a reading, one after the other."""
    fluent = recording("two_cities.wav")[int(33.2 * RATE) : int(41.6 * RATE)]
    return np.tile(fluent, int(seconds * RATE / len(fluent)) + 1)[: int(seconds * RATE)]


@pytest.mark.parametrize("message", [1_600, 4_000, 100_000])
def test_speech_that_does_not_end_is_cut_and_stitched(recording, message):
    """No window is longer than the limit, and every word is there once, in order."""
    audio = continuous(recording, 90)
    longest = 0.0

    class Watching(ScriptedTranscriber):
        def transcribe(self, window):
            nonlocal longest
            longest = max(longest, len(window.audio) / RATE)
            return super().transcribe(window)

    run = Run(new(), Watching(script(audio))).stream(audio, [message] * (len(audio) // message)).finish()
    check_promises(run)
    spoken = " ".join(final.text for final in run.of(Final)).split()
    numbers = [int(word[1:]) for word in spoken]
    assert numbers == list(range(len(script(audio))))
    assert len(run.of(Final)) >= 6 and len(numbers) > 100
    assert longest <= SessionSettings().cuts.max_window_s + 1 + message / RATE


def test_a_machine_that_is_late(recording):
    """One window at a time; partials thin out, finals keep their order, nothing is lost."""
    audio = recording("two_cities.wav")
    prompt = Run(new(), hearing(audio)).stream(audio).finish()
    late = Run(new(), hearing(audio))
    held = None
    for at in range(0, len(audio), 1_600):
        late.feed(audio[at : at + 1_600], pump=False)
        if held and late.session.next_sample - held[0] > 2.5 * RATE:
            window = held[1]
            late.events += late.session.receive_hypothesis(window, late.transcriber.transcribe(window))
            held = None
        if held is None and late.session.demand():
            held = late.session.next_sample, late.session.next_window()
            assert late.session.demand() is None
    window = held[1] if held else None
    if window:
        late.events += late.session.receive_hypothesis(window, late.transcriber.transcribe(window))
    late.finish()
    check_promises(late)
    assert [(f.start, f.end, f.text) for f in late.of(Final)] == [
        (f.start, f.end, f.text) for f in prompt.of(Final)
    ]
    assert len(late.of(Partial)) < len(prompt.of(Partial)) / 3


def test_the_final_is_decoded_before_the_hang_over_is_over(recording):
    """At the end of an utterance nothing is left to decode: its final comes with the audio that ends it."""
    audio = recording("two_cities.wav")
    run = Run(new(), hearing(audio))
    at_once = 0
    for at in range(0, len(audio), 1_600):
        before = len(run.of(Final))
        run.feed(audio[at : at + 1_600], pump=False)
        at_once += len(run.of(Final)) - before
        run.pump()
    assert at_once >= 0.9 * len(run.of(Final)) > 5


def test_partials_are_not_wanted(recording):
    """Without partials the model is asked about once an utterance."""
    run = (
        Run(new(partials=False), hearing(recording("two_cities.wav")))
        .stream(recording("two_cities.wav"))
        .finish()
    )
    check_promises(run)
    assert not run.of(Partial)
    assert run.windows <= 2 * len(run.of(Final))


def test_words_are_wanted(recording):
    """Finals carry their words with times in order."""
    run = Run(new(words=True), hearing(recording("beckett.wav"))).stream(recording("beckett.wav")).finish()
    for final in run.of(Final):
        assert final.words and " ".join(word.text for word in final.words) == final.text
        assert all(a.start <= b.start for a, b in zip(final.words, final.words[1:], strict=False))


def test_a_step_stretched_under_load(recording):
    """A longer step asks the model less often and changes no final."""
    audio = recording("two_cities.wav")
    usual, stretched = Run(new(), hearing(audio)), Run(new(), hearing(audio))
    stretched.session.step_s = 3.0
    usual.stream(audio).finish()
    stretched.stream(audio).finish()
    assert stretched.windows < usual.windows / 1.5
    assert [f.text for f in stretched.of(Final)] == [f.text for f in usual.of(Final)]


def test_a_marker_waits_for_what_was_sent_before_it(recording):
    """It comes back after the final of the utterance it stands in, at once in silence."""
    audio = recording("two_cities.wav")
    run = Run(new(), hearing(audio))
    run.events += run.session.mark("first")
    assert run.events == [Marker(id="first", seq=0, audio_end=0.0)]
    run.stream(audio[: 3 * RATE])
    assert run.session.mark("inside") == []
    run.stream(audio[3 * RATE : 8 * RATE])
    inside = next(
        i for i, event in enumerate(run.events) if isinstance(event, Marker) and event.id == "inside"
    )
    assert isinstance(run.events[inside - 1], Final) and run.events[inside].seq == run.events[inside - 1].seq
    assert run.events[inside].audio_end == pytest.approx(3.0)


def test_finalize_closes_the_open_utterance(recording):
    """Its final comes, then the acknowledgement, and the stream goes on."""
    audio = recording("two_cities.wav")
    run = Run(new(), hearing(audio)).stream(audio[: 3 * RATE])
    assert run.session.partial is not None
    run.events += run.session.finalize("now")
    run.pump()
    final, finalized = run.events[-2:]
    assert isinstance(final, Final) and final.end <= 3.0
    assert isinstance(finalized, Finalized) and finalized.id == "now" and finalized.seq == final.seq
    run.stream(audio[3 * RATE :]).finish()
    check_promises(run)


def test_finalize_in_silence():
    """Is acknowledged at once."""
    run = Run(new(), hearing(np.zeros(RATE, np.float32))).stream(np.zeros(RATE, np.float32))
    assert run.session.finalize(None) == [Finalized(id=None, seq=0, audio_end=1.0)]


def test_missing_audio_is_a_gap_in_its_place(recording):
    """The open utterance ends before it; times after it count the hole; the books add up."""
    audio = recording("two_cities.wav")
    with_hole = np.concatenate([audio[: 3 * RATE], np.zeros(10 * RATE, np.float32), audio[3 * RATE :]])
    run = Run(new(), hearing(with_hole)).stream(audio[: 3 * RATE])
    run.events += run.session.skip(10 * RATE, "source_lost")
    run.pump()
    run.stream(audio[3 * RATE : 12 * RATE]).finish()
    check_promises(run)
    gap = run.of(Gap)[0]
    assert (gap.start, gap.end, gap.reason) == (3.0, 13.0, "source_lost")
    assert [event.seq for event in run.of(Final, Gap)] == sorted(event.seq for event in run.of(Final, Gap))
    assert run.of(Final)[0].end <= 3.0 and run.of(Final)[1].start >= 13.0
    assert run.events[-1].ledger.gap_s == pytest.approx(10.0)


def test_a_model_that_fails(recording):
    """It is asked again; what it fails on for good becomes a gap, and the rest of the session is whole."""
    audio = recording("two_cities.wav")
    run, failures = Run(new(), hearing(audio)), 0
    for at in range(0, len(audio), 1_600):
        run.feed(audio[at : at + 1_600], pump=False)
        while run.session.demand():
            window = run.session.next_window()
            if window.utterance == 2:
                failures += 1
                run.events += run.session.receive_failure(window, "decoder_failed")
            else:
                run.events += run.session.receive_hypothesis(window, run.transcriber.transcribe(window))
    run.finish()
    check_promises(run)
    assert failures >= 2
    assert [gap.reason for gap in run.of(Gap)].count("suppressed:decoder_failed") == 1
    assert 2 not in {final.utterance for final in run.of(Final)} and len(run.of(Final)) >= 8


def test_speech_in_which_the_model_hears_nothing(recording):
    """Is accounted for as suppressed, never as text."""

    class Deaf:
        def transcribe(self, window):
            return Hypothesis(words=())

    run = Run(new(), Deaf()).stream(recording("beckett.wav")).finish()
    check_promises(run)
    assert not run.of(Final) and {gap.reason for gap in run.of(Gap)} == {"suppressed:no_words"}
    assert run.events[-1].ledger.suppressed_s > 3


def test_going_on_from_the_journal(recording):
    """A session rebuilt at the decided sample goes on with the same numbers, times and books."""
    audio = recording("two_cities.wav")
    whole = Run(new(), hearing(audio)).stream(audio).finish()
    first = Run(new(), hearing(audio)).stream(audio[: 20 * RATE])
    lost = first.session
    point = ResumePoint(
        lost.last_seq, max(f.utterance for f in first.of(Final)), lost.decided_sample, lost.ledger
    )
    assert sum(lost.ledger.model_dump().values()) == pytest.approx(lost.decided_sample / RATE)
    second = (
        Run(Session(SpeechDetector(None), resume=point), hearing(audio))
        .stream(audio[point.sample :])
        .finish()
    )
    events = [event for event in first.events if event.durable] + [e for e in second.events if e.durable]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    texts = " ".join(event.text for event in events if isinstance(event, Final))
    assert texts == " ".join(final.text for final in whole.of(Final))
    assert sum(second.events[-1].ledger.model_dump().values()) == pytest.approx(len(audio) / RATE)


def test_an_unstable_model_never_changes_what_was_committed(recording):
    """A model that keeps only what it is forced to still gives append-only text."""
    dice = random.Random(5)
    strange = [Word(f"x{i}", (i,)) for i in range(9)]

    class Fickle(ScriptedTranscriber):
        def transcribe(self, window):
            hypothesis = super().transcribe(window)
            kept = len(window.forced)
            words = tuple(
                word if i < kept or dice.random() < 0.8 else strange[dice.randrange(9)]
                for i, word in enumerate(hypothesis.words)
            )
            self._by_token.update({word.tokens[0]: word for word in words})
            return Hypothesis(words=words)

    run = Run(new(), Fickle(script(recording("two_cities.wav")))).stream(recording("two_cities.wav")).finish()
    check_promises(run)


def test_wrong_calls_are_refused(recording):
    """A window nobody asked for, audio after the end, a second window: each names the call."""
    session = new()
    with pytest.raises(StateError, match="next_window"):
        session.next_window()
    run = Run(session, hearing(recording("beckett.wav"))).stream(recording("beckett.wav")[: 2 * RATE])
    run.finish()
    with pytest.raises(StateError, match="receive_audio"):
        session.receive_audio(np.zeros(160, np.float32))
    with pytest.raises(StateError, match="finish"):
        session.finish()


def test_finals_are_asked_for_before_partials(recording):
    """An utterance that has ended is demanded as a final, an open one as a partial."""
    audio = recording("two_cities.wav")
    session = new()
    session.receive_audio(audio[: int(2.5 * RATE)])
    demand = session.demand()
    assert demand is not None and demand.purpose is Purpose.PARTIAL
    session.receive_audio(audio[int(2.5 * RATE) : 6 * RATE])
    demand = session.demand()
    assert demand is not None and demand.purpose is Purpose.FINAL
    assert session.backlog_s > 2


def test_a_recording_whose_windows_are_decoded_together(recording):
    """The finals, cuts included, are those of one window after another; what failed is asked for again in its turn."""
    audio = recording("two_cities.wav")
    cut_short = SessionSettings(cuts=CutSettings(soft_window_s=2, max_window_s=3))

    def fresh() -> Run:
        session = Session(SpeechDetector(None), SessionOptions(partials=False), cut_short)
        return Run(session, hearing(audio))

    alone = fresh().stream(audio, [len(audio)]).finish()
    pairs = list(pairwise(alone.of(Final)))
    cut = [left.utterance for left, right in pairs if left.end == right.start]
    doomed = next(left.utterance for left, right in pairs[2:] if left.end < right.start)
    run, shaken = fresh(), False
    run.feed(audio, pump=False)
    run.events += run.session.finish()
    while windows := run.session.next_windows():
        for window in windows:
            if window.utterance == doomed or (window.utterance == cut[0] and not shaken):
                shaken |= window.utterance == cut[0]
                run.events += run.session.receive_failure(window, "decoder_failed")
            else:
                run.events += run.session.receive_hypothesis(window, run.transcriber.transcribe(window))
    check_promises(run)
    assert [gap.reason for gap in run.of(Gap)].count("suppressed:decoder_failed") == 1
    said = {final.utterance: (final.text, final.start, final.end) for final in run.of(Final)}
    expected = {final.utterance: (final.text, final.start, final.end) for final in alone.of(Final)}
    assert said == {number: each for number, each in expected.items() if number != doomed}


def test_windows_given_back_out_of_turn(recording):
    """Are refused: finals are numbered in order."""
    session = new(partials=False)
    session.receive_audio(recording("two_cities.wav"))
    _, second, *_ = session.next_windows()
    with pytest.raises(StateError, match="out of turn"):
        session.receive_hypothesis(second, Hypothesis(words=()))
    assert session.next_windows() == []  # each is taken once
