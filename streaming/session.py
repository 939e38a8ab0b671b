"""The state machine of a session: audio and hypotheses in, events and windows out.

It knows no clock and does no I/O; time is a count of samples. Whoever drives it calls `demand` after every call,
and when the machine has time takes `next_window`, has it transcribed and gives the hypothesis back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from streaming.audio import Samples
from streaming.detectors import FRAME
from streaming.errors import StateError
from streaming.events import Event, Finalized, Ledger, Marker, Partial, Revise
from streaming.labels import Labels
from streaming.scribe import Scribe
from streaming.segmenter import Hole, Segmenter, in_samples
from streaming.settings import ResumePoint, SessionOptions, SessionSettings
from streaming.utterance import Utterance
from streaming.vad import SpeechDetector
from streaming.window import SAMPLE_RATE, Hypothesis, Manner, Purpose, Window


@dataclass(frozen=True)
class Demand:
    """What a session would like decoded."""

    purpose: Purpose
    since: int  # sample index at which it was due: the further back, the more urgent


class State(Enum):
    """Where a session stands."""

    OPEN = "open"  # takes audio
    FINISHING = "finishing"  # no more audio, something is still to be decoded
    FINISHED = "finished"  # `Stopped` was returned


class Session:
    """One stream of audio becoming one transcript. Every call returns the events it caused, in order."""

    def __init__(
        self,
        detector: SpeechDetector,
        options: SessionOptions | None = None,
        settings: SessionSettings | None = None,
        resume: ResumePoint | None = None,
        labels: Labels | None = None,
    ) -> None:
        """labels: who speaks, where that is wanted."""
        self._options = options or SessionOptions()
        self._settings = settings or SessionSettings()
        start = resume or ResumePoint(0, 0, 0, Ledger())
        self._segmenter = Segmenter(detector, self._settings, start.sample, start.utterance)
        self._tape, self._queue = self._segmenter.tape, self._segmenter.queue
        self._outstanding: deque[Window] = deque()  # one, or a recording's, in the order they were taken
        self._markers: deque[tuple[int, Event]] = deque()  # position in samples, and what to say there
        self._labels = labels
        self._words_timed = self._options.words or labels is not None  # of finals
        self._scribe = Scribe(self._options, start, self._segmenter.next_number, labels)
        self._state = State.OPEN
        self.step_s = self._settings.first_partial_s  # shortest distance of partials; stretched under load

    # traffic in

    def receive_audio(self, samples: Samples) -> list[Event]:
        """samples [n] that follow the last ones, 16 kHz, -1..1."""
        self._expect(State.OPEN, "receive_audio")
        news, verdicts = self._segmenter.receive_audio(samples)
        if self._labels is not None:
            self._labels.receive_audio(samples, verdicts)
        return [*news, *self._advance()]

    def receive_hypothesis(self, window: Window, hypothesis: Hypothesis) -> list[Event]:
        """What the model heard in the outstanding window; several are given back in the order they were taken."""
        utterance = self._take_back(window)
        utterance.receive_hypothesis(window, hypothesis)
        return [*self._scribe.news(utterance), *self._advance()]

    def receive_failure(self, window: Window, reason: str) -> list[Event]:
        """The model failed on the outstanding window; it is asked again before the audio is given up."""
        utterance = self._take_back(window)
        utterance.receive_failure(window, reason)
        return self._advance()

    def receive_labels(self) -> list[Event]:
        """Something was learnt of who speaks, or a person said so."""
        head = self._queue[0] if self._queue else None
        news = self._scribe.news(head) if isinstance(head, Utterance) and any(head.shown) else []
        return [*news, *self._advance()]

    def skip(self, samples: int, reason: str) -> list[Event]:
        """The next samples are missing: time moves on over them, a gap stands for them."""
        self._expect(State.OPEN, "skip")
        if samples <= 0:
            return []
        news = self._segmenter.skip(samples, reason)
        if self._labels is not None:
            self._labels.skip(samples)
        return [*news, *self._advance()]

    def mark(self, marker: str) -> list[Event]:
        """Asks for an echo once everything received so far is decided."""
        self._expect(State.OPEN, "mark")
        self._markers.append(
            (self._tape.end, Marker(id=marker, seq=0, audio_end=self._tape.end / SAMPLE_RATE))
        )
        return self._advance()

    def finalize(self, request: str | None) -> list[Event]:
        """Closes the open utterance here; the session goes on."""
        self._expect(State.OPEN, "finalize")
        news = self._segmenter.close()
        end = self._tape.end
        self._markers.append((end, Finalized(id=request, seq=0, audio_end=end / SAMPLE_RATE)))
        return [*news, *self._advance()]

    def finish(self) -> list[Event]:
        """No more audio: everything is decided, then `Stopped` is returned, now or by a later call."""
        self._expect(State.OPEN, "finish")
        news = self._segmenter.close()
        if self._labels is not None:
            self._labels.finish()
        self._state = State.FINISHING
        return [*news, *self._advance()]

    def revise(self, utterance: int, rev: int, text: str) -> Revise:
        """A person changed the text of a final; `rev` is the number of this revision of it."""
        if self.finished:
            raise StateError("revise: the session has finished; its journal takes revisions now.")
        return self._scribe.revise(utterance, rev, text)

    # traffic out

    def demand(self) -> Demand | None:
        """What should be decoded next, None where nothing should or a window is outstanding."""
        if self._outstanding or not self._queue:
            return None
        utterance = self._queue[0]
        assert isinstance(utterance, Utterance)  # holes at the head are resolved at once
        if utterance.ending is not None:
            return Demand(Purpose.FINAL, utterance.ending.end)
        if self._segmenter.early_end(utterance) is not None:
            return Demand(Purpose.FINAL, self._segmenter.offset + in_samples(self._settings.early_s))
        if not self._options.partials:
            return None
        # In a pause the audio is as good as decided: either the early final comes, or speech does.
        due = self._next_partial(utterance)
        unheard = self._segmenter.offset > utterance.heard_until
        if not self._segmenter.speaking or due > self._tape.end or not unheard:
            return None
        return Demand(Purpose.PARTIAL, due)

    def next_window(self) -> Window:
        """Takes the window that `demand` spoke of, with the newest audio; it is outstanding until given back."""
        demand = self.demand()
        if demand is None:
            raise StateError("next_window: nothing is in demand.")
        utterance = self._queue[0]
        assert isinstance(utterance, Utterance)
        return self._take(utterance, demand.purpose)

    def next_windows(self) -> list[Window]:
        """Of a recording, which nobody waits for: every utterance that has ended and was not taken yet.

        All are outstanding until they are given back, in the order in which they were taken.
        """
        ended = [each for each in self._queue if isinstance(each, Utterance) and each.ending is not None]
        return [self._take(utterance, Purpose.FINAL) for utterance in ended if not self._is_out(utterance)]

    # facts

    @property
    def next_sample(self) -> int:
        """16 kHz samples received, holes included."""
        return self._tape.end

    @property
    def decided_sample(self) -> int:
        """Everything before it is final, silent, suppressed or a gap, for good."""
        if self.finished:
            return self._tape.end
        if self._queue:
            return self._scribe.account.position
        return max(self._scribe.account.position, self._segmenter.undecided_from)

    @property
    def resume_point(self) -> ResumePoint:
        """Where another session would go on in place of this one: at a whole frame, where nobody speaks there."""
        at, booked = self.decided_sample, self._scribe.account.position
        at = max(at - at % FRAME, booked) if booked <= at else at
        waiting = [each.number for each in self._queue if isinstance(each, Utterance)]
        number = waiting[0] - 1 if waiting else self._segmenter.last_number
        return ResumePoint(self.last_seq, number, at, self._scribe.account.ledger(at))

    @property
    def ledger(self) -> Ledger:
        """Where the audio before `decided_sample` went."""
        return self._scribe.account.ledger(self.decided_sample)

    @property
    def backlog_s(self) -> float:
        """Speech received that the model has not heard yet, seconds."""
        unheard = 0
        for utterance in self._queue:
            if isinstance(utterance, Utterance):
                end = self._tape.end if utterance.ending is None else utterance.ending.audio_end
                unheard += max(0, end - utterance.heard_until)
        return unheard / SAMPLE_RATE

    @property
    def partial(self) -> Partial | None:
        """Of the open utterance, as last returned."""
        return self._scribe.partial

    @property
    def last_seq(self) -> int:
        """Durable events so far."""
        return self._scribe.seq

    @property
    def finished(self) -> bool:
        """`Stopped` was returned."""
        return self._state is State.FINISHED

    # windows

    def _next_partial(self, utterance: Utterance) -> int:
        """The sample index at which its next partial is due."""
        settings = self._settings
        length_s = (self._tape.end - utterance.start) / SAMPLE_RATE
        growing = min(settings.step_growth * length_s, settings.longest_step_s)
        step_s = max(self.step_s, growing if any(utterance.shown) else settings.first_partial_s)
        return utterance.heard_until + in_samples(step_s)

    def _take(self, utterance: Utterance, purpose: Purpose) -> Window:
        window = Window(
            utterance=utterance.number,
            start=utterance.audio_start,
            audio=self._segmenter.audio_of(utterance),
            forced=utterance.agreement.forced,
            draft=utterance.agreement.draft,
            purpose=purpose,
            timed=utterance.timed or (self._words_timed and purpose is Purpose.FINAL),
            quiet=utterance.onset - utterance.audio_start,
            manner=self._manner(utterance),
        )
        self._outstanding.append(window)
        return window

    def _manner(self, utterance: Utterance) -> Manner:
        """As the session was asked for; words that stay also fix the language they were heard in."""
        manner = self._options.manner
        if manner.language is None and utterance.agreement.committed:
            return replace(manner, language=utterance.language)
        return manner

    def _take_back(self, window: Window) -> Utterance:
        if not self._outstanding or window is not self._outstanding[0]:
            raise StateError("A hypothesis came back for a window that is not outstanding, or out of turn.")
        self._outstanding.popleft()
        return next(
            each for each in self._queue if isinstance(each, Utterance) and each.number == window.utterance
        )

    # decisions

    def _advance(self) -> list[Event]:
        """Everything that can be decided at the head of the queue, then what waited for it."""
        events: list[Event] = []
        while self._queue and not self._is_out(self._queue[0]):
            decided = self._decide(self._queue[0])
            if not decided:
                break
            events += decided
        if self._labels is not None:
            events += [self._scribe.relabel(change) for change in self._labels.changes(self._tape.end)]
        self._segmenter.forget()
        while self._markers and self._resolved(self._markers[0][0]):
            _, said = self._markers.popleft()
            events.append(said.model_copy(update={"seq": self._scribe.seq}))
        if self._state is State.FINISHING and not self._queue and (self._labels is None or self._labels.idle):
            self._state = State.FINISHED
            events.append(self._scribe.stopped(self._tape.end))
        return events

    def _decide(self, item: Utterance | Hole) -> Sequence[Event]:
        """What there is to say of the head of the queue, which then leaves it; nothing while it is undecided."""
        if isinstance(item, Hole):
            self._queue.popleft()
            return [self._scribe.gap(item.start, item.end, item.reason)]
        ending = item.ending
        if ending is None:
            return []
        if not ending.spoken and not item.committed:
            self._queue.popleft()
            return [self._scribe.gap(item.start, ending.end, "suppressed:too_short")]
        if len(item.failures) >= self._settings.max_failures:
            self._queue.popleft()
            if item.committed:
                return self._scribe.finals(item, item.committed, ending)
            return [self._scribe.gap(item.start, ending.end, f"suppressed:{item.failures[-1]}")]
        if item.hypothesis_over(ending.audio_end, ending.cut or self._words_timed) is None:
            return []
        self._queue.popleft()
        words, seam = item.final_words()
        if seam is not None:
            right = self._queue[0]  # a cut has made it
            assert isinstance(right, Utterance)
            right.join(seam)
        if not words:
            return [self._scribe.gap(item.start, ending.end, f"suppressed:{item.doubt or 'no_words'}")]
        return self._scribe.finals(item, words, ending)

    def _is_out(self, item: Utterance | Hole) -> bool:
        return isinstance(item, Utterance) and any(
            item.number == each.utterance for each in self._outstanding
        )

    def _resolved(self, position: int) -> bool:
        """No undecided speech begins before a position; a pre-roll may."""
        first = self._queue[0] if self._queue else None
        return first is None or (first.onset if isinstance(first, Utterance) else first.start) >= position

    def _expect(self, state: State, call: str) -> None:
        if self._state is not state:
            raise StateError(f"{call}: the session is {self._state.value}.")
