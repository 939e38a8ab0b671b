"""Labels of a session, with turns that become known as a script says."""

import numpy as np
import pytest

from npu.scripted import ScriptedTranscriber
from streaming.errors import StateError
from streaming.events import Final, Ledger, Partial, Revise, Stopped
from streaming.labels import Labels
from streaming.roster import Voice
from streaming.session import Session
from streaming.settings import ResumePoint, SessionOptions
from streaming.transcript import apply
from streaming.turns import Turn
from streaming.vad import SpeechDetector

RATE = 16_000
SETTLE_S = 8.0


class Script:
    """A source of turns that is told what to know: (start, end, speaker) in seconds; hears as far as it is told."""

    def __init__(self, *turns, late_s: float = 0.0) -> None:
        self.script = list(turns)
        self.late = round(late_s * RATE)
        self.position = 0
        self.settled_until = 0
        self.finished = False

    def receive_audio(self, samples) -> None:
        self.position += len(samples)

    def receive_verdicts(self, verdicts) -> None:
        pass

    def skip(self, samples) -> None:
        self.position += samples

    def finish(self) -> None:
        self.late, self.finished, self.settled_until = 0, True, self.position

    def demand(self):
        return None

    def next_job(self):
        raise LookupError

    def receive_heard(self, job, heard) -> None:
        """Something was heard: the test changes what is known before it."""

    @property
    def heard_until(self) -> int:
        return max(0, self.position - self.late)

    @property
    def speakers(self):
        return {
            speaker: None
            for _, start, speaker in ((e, s, w) for s, e, w in self.script)
            if start * RATE < self.heard_until
        }

    def turns(self, start, end):
        known = min(end, self.heard_until)
        return tuple(
            Turn(round(a * RATE), min(round(b * RATE), known), who, False, None)
            for a, b, who in self.script
            if a * RATE < known and b * RATE > start
        )


class Run:
    """A session over a recording whose words and speakers are scripted."""

    def __init__(self, source, script, **options) -> None:
        self.source = source
        self.labels = Labels(source, SETTLE_S)
        self.session = Session(SpeechDetector(None), SessionOptions(**options), labels=self.labels)
        self.model = ScriptedTranscriber(script)
        self.events: list = []

    def stream(self, audio) -> "Run":
        for at in range(0, len(audio), 1_600):
            self.events += self.session.receive_audio(audio[at : at + 1_600])
            self.pump()
            self.labels.receive_heard(None, None)
            self.events += self.session.receive_labels()
            self.pump()
        return self

    def pump(self) -> None:
        while self.session.demand() is not None:
            window = self.session.next_window()
            self.events += self.session.receive_hypothesis(window, self.model.transcribe(window))

    def finish(self) -> "Run":
        self.events += self.session.finish()
        self.pump()
        durable = [event for event in self.events if event.durable]
        assert [event.seq for event in durable] == list(range(1, len(durable) + 1))
        assert isinstance(self.events[-1], Stopped)
        return self

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def lines(self):
        durable = [event for event in self.events if event.durable]
        return [(line.speaker.id if line.speaker else None, line.text) for line in apply(durable)]


def speech(*spans, length_s):
    """Noise in syllables where somebody speaks: enough for WebRTC's detector."""
    rng = np.random.default_rng(3)
    audio = np.zeros(round(length_s * RATE), np.float32)
    for start, end in spans:
        n = round((end - start) * RATE)
        t = np.arange(n) / RATE
        voiced = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20))
        audio[round(start * RATE) :][:n] = 0.1 * voiced * (
            0.6 + 0.4 * np.sin(2 * np.pi * 4 * t)
        ) + 0.005 * rng.standard_normal(n)
    return audio


WORDS = [(0.6 + 0.4 * i, 0.9 + 0.4 * i, f"w{i}") for i in range(5)] + [
    (4.1 + 0.4 * i, 4.4 + 0.4 * i, f"v{i}") for i in range(5)
]
TALK = speech((0.5, 2.7), (4.0, 6.2), length_s=8.0)


def test_labels_that_are_known_in_time():
    """Stand on partials and finals; nothing is revised."""
    run = Run(Script((0.5, 2.7, 1), (4.0, 6.2, 2)), WORDS).stream(TALK).finish()
    assert run.lines == [("S1", "w0 w1 w2 w3 w4"), ("S2", "v0 v1 v2 v3 v4")]
    assert {(partial.utterance, partial.speaker.id) for partial in run.of(Partial) if partial.speaker} == {
        (1, "S1"),
        (2, "S2"),
    }
    assert not run.of(Revise)
    assert all(not final.speaker.settled for final in run.of(Final))


def test_a_label_that_is_late():
    """The final does not wait for it; a revision brings it, once."""
    prompt = Run(Script((0.5, 2.7, 1), (4.0, 6.2, 2)), WORDS).stream(TALK).finish()
    run = Run(Script((0.5, 2.7, 1), (4.0, 6.2, 2), late_s=3.0), WORDS).stream(TALK).finish()
    assert [(final.text, final.start, final.end) for final in run.of(Final)] == [
        (final.text, final.start, final.end) for final in prompt.of(Final)
    ]
    assert [final.speaker for final in run.of(Final)] == [None, None]
    assert [(revise.utterance, revise.reason, revise.speaker.id) for revise in run.of(Revise)] == [
        (1, "labelled", "S1"),
        (2, "labelled", "S2"),
    ]
    assert run.lines == prompt.lines


def test_two_speakers_in_one_utterance():
    """Known in time, they are two finals; known late, one that a revision splits. Both come to the same lines."""
    talk = speech((0.5, 4.6), length_s=6.5)
    words = [(0.6 + 0.4 * i, 0.9 + 0.4 * i, f"w{i}") for i in range(10)]
    turns = ((0.5, 2.55, 1), (2.55, 4.6, 2))
    prompt = Run(Script(*turns), words).stream(talk).finish()
    late = Run(Script(*turns, late_s=3.0), words).stream(talk).finish()
    expected = [("S1", "w0 w1 w2 w3 w4"), ("S2", "w5 w6 w7 w8 w9")]
    assert prompt.lines == expected and late.lines == expected
    assert len(prompt.of(Final)) == 2 and not prompt.of(Revise)
    (final,), (revise,) = late.of(Final), late.of(Revise)
    assert final.text == "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9"
    assert (revise.reason, revise.text, len(revise.split)) == ("voices_told_apart", "w0 w1 w2 w3 w4", 1)
    assert revise.end == pytest.approx(2.5, abs=0.1)
    ledger = late.events[-1].ledger
    assert sum(ledger.model_dump().values()) == pytest.approx(late.events[-1].audio_end)


def test_a_final_with_the_label_of_who_spoke_before():
    """Is corrected as soon as its own audio was heard, and not again for the same."""
    source = Script((0.5, 2.7, 1), (4.0, 6.2, 1))
    run = Run(source, WORDS).stream(TALK[: round(6.9 * RATE)])
    assert [final.speaker.id for final in run.of(Final)] == ["S1", "S1"]
    source.script[1] = (4.0, 6.2, 2)
    run.stream(TALK[round(6.9 * RATE) :]).finish()
    assert run.lines == [("S1", "w0 w1 w2 w3 w4"), ("S2", "v0 v1 v2 v3 v4")]
    assert [(revise.utterance, revise.reason) for revise in run.of(Revise)] == [(2, "voices_told_apart")]


def test_voices_that_prove_to_be_one():
    """Lines that are not settled get the remaining label when they settle; settled ones keep theirs."""
    source = Script((0.5, 2.7, 1), (4.0, 6.2, 2))
    run = Run(source, WORDS).stream(TALK)
    source.script = [(0.5, 2.7, 1), (4.0, 6.2, 1)]
    run.stream(np.zeros(round(SETTLE_S * RATE), np.float32))
    (revise,) = run.of(Revise)
    assert (revise.utterance, revise.reason, revise.speaker.id, revise.speaker.settled) == (
        2,
        "voices_joined",
        "S1",
        True,
    )
    source.script = [(0.5, 2.7, 3), (4.0, 6.2, 3)]
    run.stream(np.zeros(RATE, np.float32)).finish()
    assert len(run.of(Revise)) == 1


def test_a_name_from_a_person():
    """Is said once for the speaker, and stands on every later label."""
    run = Run(Script((0.5, 2.7, 1), (4.0, 6.2, 1)), WORDS).stream(TALK[: round(3.5 * RATE)])
    run.labels.rename("S1", "Nell")
    run.events += run.session.receive_labels()
    run.stream(TALK[round(3.5 * RATE) :]).finish()
    (revise,) = run.of(Revise)
    assert (revise.utterance, revise.rev, revise.reason, revise.speaker.name) == (None, None, "named", "Nell")
    assert [final.speaker.name for final in run.of(Final)] == [None, "Nell"]
    with pytest.raises(KeyError):
        run.labels.rename("S7", "Nagg")


def test_a_text_that_a_person_wrote():
    """Is not split any more; its label may still change."""
    talk = speech((0.5, 4.6), length_s=6.0)
    words = [(0.6 + 0.4 * i, 0.9 + 0.4 * i, f"w{i}") for i in range(10)]
    run = Run(Script((0.5, 1.4, 1), (1.4, 4.6, 2), late_s=60.0), words).stream(talk)
    run.events.append(run.session.revise(1, 1, "What was really said."))
    run.finish()
    assert run.lines == [("S2", "What was really said.")]
    assert [revise.rev for revise in run.of(Revise)] == [1, 2]


def test_models_that_fail():
    """Take no text with them: later lines have no label, and the session ends as ever."""
    run = Run(Script((0.5, 2.7, 1), late_s=1.0), WORDS).stream(TALK[: round(3.5 * RATE)])
    run.labels.give_up()
    run.stream(TALK[round(3.5 * RATE) :]).finish()
    assert [text for _, text in run.lines] == ["w0 w1 w2 w3 w4", "v0 v1 v2 v3 v4"]
    assert run.labels.demand() is None


def test_a_session_that_goes_on_from_the_journal():
    """Its new voices get new numbers: the old ones are forgotten, and must not be mistaken."""
    source = Script((0.5, 2.7, 1))
    labels = Labels(source, SETTLE_S, known=3)
    point = ResumePoint(5, 2, 0, Ledger())
    session = Session(SpeechDetector(None), SessionOptions(), resume=point, labels=labels)
    run = Run(source, WORDS)
    run.session, run.labels = session, labels
    run.stream(TALK[: round(3.5 * RATE)])
    assert [final.speaker.id for final in run.of(Final)] == ["S4"]
    assert labels.rename("S2", "Nell").name == "Nell"  # said of lines that are in the journal


def test_words_are_not_wanted():
    """They are timed for the labels and not shown; wanted, they are on both halves of a split."""
    talk = speech((0.5, 4.6), length_s=6.5)
    words = [(0.6 + 0.4 * i, 0.9 + 0.4 * i, f"w{i}") for i in range(10)]
    turns = ((0.5, 2.55, 1), (2.55, 4.6, 2))
    plain = Run(Script(*turns, late_s=3.0), words).stream(talk).finish()
    assert all(event.words is None for event in (*plain.of(Final), *plain.of(Revise)))
    wordy = Run(Script(*turns, late_s=3.0), words, words=True).stream(talk).finish()
    (revise,) = wordy.of(Revise)
    assert len(revise.words) == 5 and len(revise.split[0].words) == 5


def test_labels_after_the_end():
    """A session that has finished takes none."""
    run = Run(Script((0.5, 2.7, 1)), WORDS).stream(TALK).finish()
    with pytest.raises(StateError):
        run.session.revise(1, 1, "late")


class Voices(Script):
    """A script whose speakers have voices: `heard` says which."""

    def __init__(self, *turns, **more) -> None:
        super().__init__(*turns, **more)
        self.heard = {}

    @property
    def speakers(self):
        return {speaker: self.heard.get(speaker) for speaker in super().speakers}


ANNA, BERT = np.eye(4, dtype=np.float32)[:2]
KNOWN = (("Anna", ANNA), ("Bert", BERT))


def known_voices(*turns, known=KNOWN):
    source = Voices(*turns)
    run = Run(source, WORDS)
    run.labels = Labels(source, SETTLE_S, voices=known)
    run.session = Session(SpeechDetector(None), SessionOptions(), labels=run.labels)
    return source, run


def test_a_voice_that_is_recognised():
    """One revision names the speaker for what was said before; what comes after has the name and its confidence."""
    source, run = known_voices((0.5, 2.7, 1), (4.0, 6.2, 1))
    run.stream(TALK[: round(3.5 * RATE)])
    source.heard[1] = Voice(ANNA, 5.0)
    run.stream(TALK[round(3.5 * RATE) :]).finish()
    (revise,) = run.of(Revise)
    assert (revise.utterance, revise.reason) == (None, "recognised")
    assert (revise.speaker.id, revise.speaker.name, revise.speaker.confidence) == ("S1", "Anna", 1.0)
    assert [final.speaker.name for final in run.of(Final)] == [None, "Anna"]
    durable = [event for event in run.events if event.durable]
    assert [(line.speaker.name, line.speaker.confidence) for line in apply(durable)] == [("Anna", 1.0)] * 2


def test_a_voice_that_is_recognised_before_its_first_line():
    """Needs no revision."""
    source, run = known_voices((0.5, 2.7, 1), (4.0, 6.2, 2))
    source.heard = {1: Voice(ANNA, 5.0), 2: Voice(BERT, 5.0)}
    run.stream(TALK).finish()
    assert [final.speaker.name for final in run.of(Final)] == ["Anna", "Bert"]
    assert not run.of(Revise)


def test_a_stranger_among_known_voices():
    """Stays without a name."""
    source, run = known_voices((0.5, 2.7, 1), (4.0, 6.2, 2))
    source.heard = {1: Voice(ANNA, 5.0), 2: Voice(np.eye(4, dtype=np.float32)[3], 5.0)}
    run.stream(TALK).finish()
    assert [final.speaker.name for final in run.of(Final)] == ["Anna", None]


def test_a_person_contradicts_a_voice():
    """The person's name stands, and voices are not asked again."""
    source, run = known_voices((0.5, 2.7, 1), (4.0, 6.2, 1))
    source.heard[1] = Voice(ANNA, 5.0)
    run.stream(TALK[: round(3.5 * RATE)])
    run.labels.rename("S1", "Nell")
    source.heard[1] = Voice(ANNA, 9.0)
    run.stream(TALK[round(3.5 * RATE) :]).finish()
    assert [(revise.reason, revise.speaker.name) for revise in run.of(Revise)] == [("named", "Nell")]
    assert [(f.speaker.name, f.speaker.confidence) for f in run.of(Final)] == [("Anna", 1.0), ("Nell", None)]


def test_somebody_who_is_enrolled_and_removed_while_the_session_is_live():
    """Is named in it at once, and then not any more."""
    source, run = known_voices((0.5, 2.7, 1), (4.0, 6.2, 1), known=())
    source.heard[1] = Voice(ANNA, 5.0)
    run.stream(TALK[: round(3.5 * RATE)])
    for known in (KNOWN, ()):
        run.labels.know(known)
        run.events += run.session.receive_labels()
    assert [(revise.reason, revise.speaker.name) for revise in run.of(Revise)] == [
        ("recognised", "Anna"),
        ("recognised", None),
    ]
    assert run.labels.voices() == {"S1": source.heard[1]}
    run.stream(TALK[round(3.5 * RATE) :]).finish()
